"""Products for accelerators, which compute in integers between QuantizeLinear and DequantizeLinear.

Every product becomes a convolution with its weight in 8 bits; its inputs and outputs are rounded to
16 bits with fixed ranges. Runtimes for accelerators fuse a convolution with the operators around
it; onnxruntime's CPU provider computes the same in float32. Convolutions, because onnxruntime-qnn
2.7 computes them on its simulated NPU up to the rounding of the outputs, MatMul and Gemm with an
error of 0.5 %.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN
from w2v_edge_export.graph_builder import GraphBuilder, initializer, known, replace_node
from w2v_edge_export.graph_passes.lower_convolution import WindowShape, is_windows
from w2v_edge_export.weight_quantization.plan import FixedRange, QuantizedLayer


def write_as_convolution(graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, name: str) -> None:
    """Replace a product of x (b, n, c) and a weight, or a `GroupedConv`, by a Conv of height 1.

    Args:
        graph: that of the node.
        node: the product.
        layer: in the scheme `static16`.
        name: of the weight, stored as (d, c, 1, kernel) int8 with a scale for each output.
    """
    g = GraphBuilder(prefix=f"{node.name}.")
    x, bias, kernel = known(node.inputs[0]), None, 1
    shape: dict[str, object] = {}
    values = layer.weight.values.numpy()
    source = x.producer()
    if (node.domain, node.op_type) == (DOMAIN, "GroupedConv"):
        groups, padding = (node.attributes[key].as_int() for key in ("groups", "padding"))
        shape = {"group": groups, "pads": [0, padding, 0, padding]}
        bias = known(node.inputs[2])
        kernel = len(values) // (values.shape[1] // groups)
    elif source is not None and is_windows(source):
        window = WindowShape.of(source)
        x, kernel = known(source.inputs[0]), window.kernel
        shape = {"strides": [1, window.stride]}
    # (kernel * c, d) -> (d, c, 1, kernel)
    values = values.reshape(kernel, -1, 1, values.shape[1]).transpose(3, 1, 2, 0)
    weight = g.op(
        "DequantizeLinear",
        initializer(graph, f"{name}.int8", values),
        initializer(graph, f"{name}.scale", layer.weight.scale.numpy()),
        axis=0,
    )
    # (b, n, c) -> (b, c, 1, n) and back
    flat = g.op("Unsqueeze", g.op("Transpose", x, perm=[0, 2, 1]), [2])
    y = g.op("Conv", _rounded(g, flat, known(layer.inputs)), weight, **shape)
    y = g.op("Squeeze", _rounded(g, y, known(layer.outputs)), [2])
    y = g.op("Transpose", y, perm=[0, 2, 1])
    replace_node(node, g, y if bias is None else g.op("Add", y, bias))


def _rounded(g: GraphBuilder, x: ir.Value, fixed: FixedRange) -> ir.Value:
    """Round x to 16 bits, as floats again."""
    zero = g.op("Constant", value=ir.tensor(np.array(fixed.zero_point, np.uint16)))
    scale = g.floats(fixed.scale)
    integers = g.op("QuantizeLinear", x, scale, zero)
    return g.op("DequantizeLinear", integers, scale, zero)
