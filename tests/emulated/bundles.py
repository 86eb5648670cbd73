"""Exports what these tests run, where PyTorch is: python -m tests.emulated.bundles FOLDER.

`tiny` in float32, a model of `base`'s widths with two of its twelve layers in int8 (the emulated
processors are slow), and one product of integers.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.emulated.guest import CLIP, PRODUCT
from w2v_edge.data import FOLDER, TINY
from w2v_edge.model import build_model, preset, save_checkpoint
from w2v_edge_export import cases, exact_gate, export
from w2v_edge_export.golden import speech_like

LAYERS, ROWS = 2, 33
PAIR = (127, 1, 64, 64, -127, -1, -64, -64)
"""Neighbours as the exporter leaves them: two of one sign add up to 128 at most."""


def main(folder: Path) -> None:
    """Export all anew: the exporter may have changed."""
    # The whole gate is run elsewhere, on this machine's own processor.
    cases.LONG_SECONDS, exact_gate.MIN_CODES = 1.0, 100
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / CLIP, speech_like(1.0, 16_000))
    onnx.save(product(), folder / PRODUCT)
    export(TINY, folder / "tiny-fp32", force=True)
    checkpoint = folder / "base-widths.pt"
    config = preset("base")
    context = replace(config.context, layers=LAYERS)
    save_checkpoint(build_model(replace(config, context=context), seed=7), checkpoint)
    # Random weights, calibrated on a second of speech: neither accuracy nor speed is tested here.
    speech = folder / "speech"
    speech.mkdir(exist_ok=True)
    shutil.copy(FOLDER / "en-conf-getpin.flac", speech)
    export(
        checkpoint,
        folder / "base-widths-int8",
        precision="int8",
        calibration=speech,
        min_cosine=0.9,
        max_code_drift=1.0,
        require_speedup=0.0,
        force=True,
    )
    print(f"{folder}: ready")


def product_weight() -> npt.NDArray[np.int8]:
    """Return the weight (k, n) of that product, whose pairs sum to 128 at most."""
    rows = np.tile(np.array(PAIR, np.int8), 8)
    return np.ascontiguousarray(np.stack([np.roll(rows, 2 * n) for n in range(256)], axis=1))


def product() -> onnx.ModelProto:
    """Return a graph of one product of integers that comes close to 16 bits at every pair."""
    weight = product_weight()
    node = helper.make_node("MatMulInteger", ["x", "weight"], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [ROWS, len(weight)])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [ROWS, weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
