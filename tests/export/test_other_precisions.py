"""fp16 and 4-bit bundles: sizes, float32 parts and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import w2v_edge
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import ConfigError
from w2v_edge_export import export
from w2v_edge_export.weight_quantization.search import (
    AccuracyBudgetError,
)

FLOAT32_OPERATORS = {"LayerNormalization", "Softmax"}


LOUD, TOO_LOUD = 1e5, 1e6
"""Times a convolution: values that it gives, or its weights themselves, go beyond fp16."""


@pytest.fixture(scope="module")
def four_bits(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base-small` with 4-bit weights; so small a model has little to spare."""
    folder = tmp_path_factory.mktemp("four") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 7.3)
        export(checkpoint("base-small"), folder, precision="int4", min_cosine=0.95)
    return folder


def _types(path: Path) -> dict[str, int]:
    """Element type of every value that shape inference knows."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {x.name: x.data_type for x in graph.initializer}


def test_half_takes_and_gives_float32(fp16_bundle: Path, all_nodes: Any) -> None:
    """Inputs and outputs are float32, and for CUDA no graph has a loop."""
    for path in fp16_bundle.glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        kinds = {x.type.tensor_type.elem_type for x in (*graph.input, *graph.output)}
        assert onnx.TensorProto.FLOAT16 not in kinds
        # A loop goes back to the host for every tile.
        assert not {"Scan", "Loop", "If"} & {node.op_type for node in all_nodes(path)}


def test_an_empty_batch(fp16_bundle: Path, four_bits: Path, empty_batch: Any) -> None:
    """A batch of 0 rows gives 0 rows in other precisions."""
    empty_batch(fp16_bundle)
    empty_batch(four_bits)


def test_half_leaves_norms_and_softmax_in_float32(fp16_bundle: Path) -> None:
    """Norms and softmax stay in float32; products are in fp16."""
    path = fp16_bundle / "context.onnx"
    types = _types(path)
    nodes = onnx.load(path, load_external_data=False).graph.node
    float32 = [node for node in nodes if node.op_type in FLOAT32_OPERATORS]
    products = [node for node in nodes if node.op_type == "MatMul"]
    assert len(float32) >= 2
    assert len(products) >= 2
    assert {types[node.input[0]] for node in float32} == {onnx.TensorProto.FLOAT}
    assert {types[node.input[0]] for node in products} == {onnx.TensorProto.FLOAT16}


def test_half_is_close_and_verifies(fp16_bundle: Path) -> None:
    """fp16 results are close to float32, and golden vectors verify."""
    stated = json.loads((fp16_bundle / "manifest.json").read_bytes())["weight_quantization"]
    assert stated["measured"]["context_cosine"] > 0.9999
    assert stated["measured"]["code_drift"] < 0.01
    assert 0 < max(stated["largest_values"].values()) < 65504
    rows, _ = check_golden(w2v_edge.load(fp16_bundle))
    assert rows
    assert all(row.ok for row in rows)


@pytest.mark.parametrize("factor", [LOUD, TOO_LOUD])
def test_overflow_inside_is_refused(
    factor: float, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A value beyond fp16 inside the model is refused, even if outputs are right."""
    source = torch.load(checkpoint("large-small"), weights_only=True)
    for name in ("weight", "bias"):
        source["model"][f"feature_encoder.blocks.2.conv.{name}"] *= factor
    torch.save(source, tmp_path / "loud.pt")
    with pytest.raises(AccuracyBudgetError, match="fp16 ends at 65504"):
        export(tmp_path / "loud.pt", tmp_path / "out", precision="fp16", target="cuda")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("precision", "target"), [("fp16", "cpu"), ("int8", "cuda")])
def test_targets_refuse_what_they_do_not_run(
    precision: Any, target: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A precision that a target has no operators for is an error that names the choices."""
    with pytest.raises(ConfigError, match="choose"):
        export(checkpoint("tiny"), tmp_path / "x", precision=precision, target=target)


def test_four_bit_weights_take_half_a_byte(four_bits: Path, bundle: Callable[[str], Path]) -> None:
    """Each linear layer of the context network takes half a byte a weight, scales apart."""
    initializers = onnx.load(four_bits / "context.onnx").graph.initializer
    sizes = {x.name: len(x.raw_data) or 4 * len(x.float_data) for x in initializers}
    float32 = onnx.load(bundle("base-small") / "context.onnx").graph.initializer
    packed = [name for name in sizes if name.endswith(".int4")]
    assert len(packed) == 13
    shapes = {x.name: x.dims for x in float32}
    for name in packed:
        inputs, outputs = shapes[name.removesuffix(".int4")]
        blocks = -(-inputs // 32)
        assert sizes[name] == outputs * blocks * 16


def test_four_bits_leave_codes_alone(
    four_bits: Path, bundle: Callable[[str], Path], speech: dict[str, np.ndarray]
) -> None:
    """The front end stays in float: codes are those of the float32 bundle."""
    waveform = next(iter(speech.values()))[:80_000]
    expected = w2v_edge.load(bundle("base-small")).tokenize(waveform)
    assert np.array_equal(w2v_edge.load(four_bits).tokenize(waveform), expected)
