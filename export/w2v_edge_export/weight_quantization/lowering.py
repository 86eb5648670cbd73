"""Matrix products in int8, as onnxruntime's own operators compute them fastest.

Inputs become unsigned integers, weights are signed. With ranges by row, the zero point differs
from row to row, which the operators do not take: it rides along as further inputs, all equal to it,
whose weights add up to minus the sum of the column's weights. The integers are made before the
frames that a step sees are laid side by side: a quarter of the bytes move.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN
from w2v_edge_export.graph_builder import GraphBuilder, replace_node
from w2v_edge_export.targets import CONTRIB
from w2v_edge_export.weight_quantization.four_bits import BLOCK, FourBitLayer
from w2v_edge_export.weight_quantization.plan import LEVELS, SMALLEST, Plan, QuantizedLayer
from w2v_edge_export.weight_quantization.rounding import PAIR
from w2v_edge_export.weight_quantization.toeplitz import banded, grouped_product
from w2v_edge_export.window import Window, is_windows

PRODUCT = f"{CONTRIB}::MatMulIntegerToFloat"


def quantize_graph(model: ir.Model, part: str, plan: Plan) -> None:
    """Rewrite the products of a traced part whose weights `plan` quantizes."""
    for node in list(model.graph):
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is None or not weight.is_initializer():
            continue
        layer = plan.get(f"{part}.{str(weight.name).removesuffix('.weight')}")
        if layer is None:
            continue
        if isinstance(layer, FourBitLayer):
            _quantize_to_four_bits(model.graph, node, layer, str(weight.name))
        elif node.op_type == "MatMul":
            _quantize_product(model.graph, node, layer, str(weight.name))
        elif (node.domain, node.op_type) == (DOMAIN, "GroupedConv"):
            _quantize_grouped(model.graph, node, layer, str(weight.name))


def _quantize_product(graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, name: str) -> None:
    x = node.inputs[0]
    assert x is not None
    g = GraphBuilder(prefix=f"{node.name}.")
    source = x.producer()
    if source is not None and is_windows(source):
        window = Window.of(source)
        x = source.inputs[0]
        assert x is not None
    else:
        window = Window(1, 1, layer.weight.values.shape[0])
    if layer.balance is not None:
        factor = (1 / layer.balance[: window.channels]).numpy()
        x = g.op("Mul", x, _initializer(graph, f"{name}.balance", factor))
    scale = _initializer(graph, f"{name}.scale", layer.weight.scale.numpy())
    values = layer.weight.values.numpy()
    if layer.scheme == "static":
        weight = _initializer(graph, f"{name}.int8", values)
        width, zero = g.floats(layer.scale), g.bytes(layer.zero_point)
        rows = _windows(g, window, g.op("QuantizeLinear", x, width, zero))
        add = _bias(node)
        if add is None:
            replace_node(node, g, g.op(PRODUCT, rows, weight, width, scale, zero))
            return
        after, bias = add
        replace_node(after, g, g.op(PRODUCT, rows, weight, width, scale, zero, None, bias))
        return
    extra = _zero_point_rows(values)
    weight = _initializer(graph, f"{name}.int8", np.concatenate([values, extra]))
    rows, width = _row_integers(g, x, window, len(extra))
    product = g.op(PRODUCT, rows, weight, g.floats(1), scale, g.bytes(0))
    replace_node(node, g, g.op("Mul", product, width))


def _row_integers(
    g: GraphBuilder, x: ir.Value, window: Window, extra: int
) -> tuple[ir.Value, ir.Value]:
    """Return integers (b, m, k + extra) of what each step sees of x (b, n, c), and their scales.

    The last `extra` columns are the row's zero point; scales are (b, m, 1).
    """
    low, high = _ranges(g, x, window)
    width = g.op("Mul", g.op("Add", high, low), g.floats(1 / LEVELS))
    width = g.op("Max", width, g.floats(SMALLEST))
    zero = g.op("Cast", g.op("Round", g.op("Div", low, width)), to=ir.DataType.UINT8)
    blocks = x if window.is_identity else window.blocks(g, x)
    seen = [
        window.take(g, _integers(g, blocks, window, width, zero, shift), shift)
        for shift in range(window.shifts)
    ]
    zeros = g.op("Expand", g.op("Reshape", zero, [0, -1, 1]), [1, 1, extra])
    return g.op("Concat", *seen, zeros, axis=2), g.op("Reshape", width, [0, -1, 1])


def _ranges(g: GraphBuilder, x: ir.Value, window: Window) -> tuple[ir.Value, ir.Value]:
    """Return how far what each step sees of x (b, n, c) goes below and above 0, (b, 1, m) each."""
    high = g.op("Unsqueeze", g.op("ReduceMax", x, [2], keepdims=0), [1])
    low = g.op("Neg", g.op("Unsqueeze", g.op("ReduceMin", x, [2], keepdims=0), [1]))
    both = g.op("Max", g.op("Concat", low, high, axis=1), g.floats(0))
    if not window.is_identity:
        both = g.op("MaxPool", both, kernel_shape=[window.kernel], strides=[window.stride])
    low, high = g.node("Split", [both], {"axis": 1, "num_outputs": 2}, outputs=2)
    return low, high


def _integers(
    g: GraphBuilder,
    blocks: ir.Value,
    window: Window,
    width: ir.Value,
    zero: ir.Value,
    shift: int,
) -> ir.Value:
    """Quantize blocks (b, r, w), each with the range of the step whose block `shift` it is."""
    last = window.shifts - 1
    if last:
        pads = [0, 0, shift, 0, 0, last - shift]
        width = g.op("Pad", width, pads, g.floats(1))
        zero = g.op("Pad", zero, pads, g.bytes(0))
    width, zero = (g.op("Reshape", x, [-1]) for x in (width, zero))
    flat = g.op("Reshape", blocks, [-1, window.stride * window.channels])
    integers = g.op("QuantizeLinear", flat, width, zero, axis=0)
    return g.op("Reshape", integers, g.op("Shape", blocks), allowzero=1)


def _windows(g: GraphBuilder, window: Window, x: ir.Value) -> ir.Value:
    return x if window.is_identity else window.gather(g, x)


def _zero_point_rows(values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return rows that add up to minus the columns' sums, none beyond half of `PAIR`.

    With them, the number of inputs is a multiple of four. The first one stays zero where it stands
    beside a weight.
    """
    sums = values.astype(np.int64).sum(axis=0)
    beside = len(values) % 2
    count = max(1, -(-int(np.abs(sums).max()) // (PAIR // 2)))
    count += -(len(values) + beside + count) % 4
    bounds = np.arange(count + 1)[:, None] * -sums // count
    rows = np.diff(bounds, axis=0).astype(np.int8)
    return np.concatenate([np.zeros((beside, len(sums)), np.int8), rows])


def _quantize_grouped(graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, name: str) -> None:
    x, _, bias = node.inputs
    assert x is not None
    assert bias is not None
    g = GraphBuilder(prefix=f"{node.name}.")
    groups, padding = (node.attributes[key].as_int() for key in ("groups", "padding"))
    values, scale = banded(layer.weight, groups)
    weight = _initializer(graph, f"{name}.int8", values)
    scales = _initializer(graph, f"{name}.scale", scale * np.float32(layer.scale))
    integers = g.op("QuantizeLinear", x, g.floats(layer.scale), g.bytes(layer.zero_point))
    kernel = layer.weight.values.shape[0] // (layer.weight.values.shape[1] // groups)
    product = grouped_product(
        g, integers, weight, scales, g.bytes(layer.zero_point), groups, kernel, padding
    )
    replace_node(node, g, g.op("Add", product, bias))


def _quantize_to_four_bits(graph: ir.Graph, node: ir.Node, layer: FourBitLayer, name: str) -> None:
    values = _initializer(graph, f"{name}.int4", layer.packed.numpy())
    scale = _initializer(graph, f"{name}.scale", layer.scale.flatten().numpy())
    g = GraphBuilder(prefix=f"{node.name}.")
    shape = {"K": layer.inputs, "N": len(layer.values), "bits": 4, "block_size": BLOCK}
    replace_node(node, g, g.op(f"{CONTRIB}::MatMulNBits", node.inputs[0], values, scale, **shape))


def _bias(node: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """Return the Add of a bias behind a product, and the bias; None where there is none."""
    users = node.outputs[0].consumers()
    if len(users) != 1 or users[0].op_type != "Add":
        return None
    bias = users[0].inputs[1]
    return (users[0], bias) if bias is not None and bias.is_initializer() else None


def _initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
