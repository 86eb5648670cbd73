"""Write the two graphs whose speed `w2v-edge bench --limit` takes for this device's limit.

    python -m bench.peak_graphs

A device has no `onnx` to make them. Each is a product with a weight of 768 x 768 that onnxruntime
fills while it opens the graph, so that the file has less than 200 bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import w2v_edge
from w2v_edge.latency.measure.peaks import SIDE

FOLDER = Path(w2v_edge.__file__).parent / "latency/measure/peak_graphs"


def graph(name: str) -> bytes:
    """Return the graph `left` (rows, k) times a weight (k, n) of float32 or int8 numbers."""
    value, given, made = {
        "float32": (np.float32(0.5), TensorProto.FLOAT, TensorProto.FLOAT),
        "int8": (np.int8(3), TensorProto.UINT8, TensorProto.INT32),
    }[name]
    filled = numpy_helper.from_array(np.array([value]))
    operator = "MatMul" if name == "float32" else "MatMulInteger"
    content: bytes = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ConstantOfShape", ["shape"], ["weight"], value=filled),
                helper.make_node(operator, ["left", "weight"], ["product"]),
            ],
            name,
            [helper.make_tensor_value_info("left", given, ["rows", SIDE])],
            [helper.make_tensor_value_info("product", made, ["rows", SIDE])],
            [numpy_helper.from_array(np.array([SIDE, SIDE]), "shape")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
        producer_name="",
    ).SerializeToString()
    return content


def main() -> None:
    """Write both files."""
    FOLDER.mkdir(exist_ok=True)
    for name in ("float32", "int8"):
        (FOLDER / f"{name}.onnx").write_bytes(graph(name))


if __name__ == "__main__":
    main()
