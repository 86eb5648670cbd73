"""Matrix products with quantized weights, in onnxruntime's own operators.

Inputs become unsigned integers, weights are signed. With ranges by row the zero point differs from
row to row, which the operators do not take: it is appended to the inputs as extra columns, whose
weights sum to minus the sum of the column's weights. Integers are made before windows are gathered,
so that a quarter of the bytes move.

A grouped convolution becomes one product per group. Each of its rows computes several neighbouring
frames from all frames that any of them sees, with the weight repeated once for each, shifted down
by a frame: a band. There are so few rows that gathering them costs little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN
from w2v_edge_export.graph_builder import (
    GraphBuilder,
    ceil_div,
    initializer,
    known,
    replace_node,
    size,
)
from w2v_edge_export.graph_passes.lower_convolution import WindowShape, is_windows
from w2v_edge_export.targets import CONTRIB
from w2v_edge_export.weight_quantization.between_integers import write_as_convolution
from w2v_edge_export.weight_quantization.plan import (
    BLOCK,
    LEVELS,
    SMALLEST,
    FourBitLayer,
    Plan,
    QuantizedLayer,
)
from w2v_edge_export.weight_quantization.rounding import PAIR, Int8Weight

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
        elif layer.scheme == "static16":
            write_as_convolution(model.graph, node, layer, str(weight.name))
        elif node.op_type == "MatMul":
            _quantize_product(model.graph, node, layer, str(weight.name))
        elif (node.domain, node.op_type) == (DOMAIN, "GroupedConv"):
            _quantize_grouped(model.graph, node, layer, str(weight.name))


def _quantize_product(graph: ir.Graph, node: ir.Node, layer: QuantizedLayer, name: str) -> None:
    x = known(node.inputs[0])
    g = GraphBuilder(prefix=f"{node.name}.")
    source = x.producer()
    if source is not None and is_windows(source):
        window = WindowShape.of(source)
        x = known(source.inputs[0])
    else:
        window = WindowShape(1, 1, layer.weight.values.shape[0])
    if layer.balance is not None:
        factor = (1 / layer.balance[: window.channels]).numpy()
        x = g.op("Mul", x, initializer(graph, f"{name}.balance", factor))
    scale = initializer(graph, f"{name}.scale", layer.weight.scale.numpy())
    values = layer.weight.values.numpy()
    if layer.scheme == "static":
        weight = initializer(graph, f"{name}.int8", values)
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
    weight = initializer(graph, f"{name}.int8", np.concatenate([values, extra]))
    rows, width = _row_integers(g, x, window, len(extra))
    product = g.op(PRODUCT, rows, weight, g.floats(1), scale, g.bytes(0))
    replace_node(node, g, g.op("Mul", product, width))


def _row_integers(
    g: GraphBuilder, x: ir.Value, window: WindowShape, extra: int
) -> tuple[ir.Value, ir.Value]:
    """Return the integers (b, m, k + extra) of each step's window of x (b, n, c), and their scales.

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


def _ranges(g: GraphBuilder, x: ir.Value, window: WindowShape) -> tuple[ir.Value, ir.Value]:
    """Return the range below and above 0 of each step's window of x (b, n, c), (b, 1, m) each."""
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
    window: WindowShape,
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


def _windows(g: GraphBuilder, window: WindowShape, x: ir.Value) -> ir.Value:
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
    x, _, bias = (known(value) for value in node.inputs)
    g = GraphBuilder(prefix=f"{node.name}.")
    groups, padding = (node.attributes[key].as_int() for key in ("groups", "padding"))
    values, scale = banded(layer.weight, groups)
    weight = initializer(graph, f"{name}.int8", values)
    scales = initializer(graph, f"{name}.scale", scale * np.float32(layer.scale))
    integers = g.op("QuantizeLinear", x, g.floats(layer.scale), g.bytes(layer.zero_point))
    kernel = layer.weight.values.shape[0] // (layer.weight.values.shape[1] // groups)
    product = grouped_product(
        g, integers, weight, scales, g.bytes(layer.zero_point), groups, kernel, padding
    )
    replace_node(node, g, g.op("Add", product, bias))


def _quantize_to_four_bits(graph: ir.Graph, node: ir.Node, layer: FourBitLayer, name: str) -> None:
    values = initializer(graph, f"{name}.int4", layer.packed.numpy())
    scale = initializer(graph, f"{name}.scale", layer.scale.flatten().numpy())
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


FRAMES = 4
"""Frames that come out of a row; the weight takes as many times its size."""


def banded(weight: Int8Weight, groups: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Lay out a weight (kernel * c, d), c inputs of each group, for `grouped_product`.

    Returns:
        Values (groups, blocks * FRAMES * c, FRAMES * c) and scales (groups, 1, FRAMES * c).
    """
    inputs, outputs = weight.values.shape
    width = outputs // groups
    kernel = inputs // width
    values = weight.values.numpy().reshape(kernel, width, groups, width).transpose(2, 0, 1, 3)
    band = np.zeros((groups, _blocks(kernel) * FRAMES, width, FRAMES, width), np.int8)
    for i in range(FRAMES):
        band[:, i : i + kernel, :, i] = values
    scale = weight.scale.numpy().reshape(groups, 1, 1, width).repeat(FRAMES, axis=2)
    return band.reshape(groups, -1, FRAMES * width), scale.reshape(groups, 1, -1)


def grouped_product(
    g: GraphBuilder,
    x: ir.Value,
    weight: ir.Value,
    scale: ir.Value,
    zero: ir.Value,
    groups: int,
    kernel: int,
    padding: int,
) -> ir.Value:
    """Convolve integers x (b, n, d), `zero` around them: floats (b, frames, d)."""
    frames = g.op("Add", size(g, x, 1), 2 * padding - kernel + 1)
    rows = ceil_div(g, frames, FRAMES)
    blocks = g.op("Add", rows, _blocks(kernel) - 1)
    right = g.op("Sub", g.op("Mul", blocks, FRAMES), g.op("Add", size(g, x, 1), padding))
    pads = g.op("Concat", [0, padding, 0, 0], g.op("Reshape", right, [1]), [0], axis=0)
    padded = g.op("Pad", x, pads, zero)
    split = g.op(
        "Reshape",
        padded,
        g.op(
            "Concat",
            [0, -1, FRAMES, groups],
            g.op("Div", g.op("Shape", x, start=2), groups),
            axis=0,
        ),
    )
    # (b, blocks, FRAMES, groups, c) -> (b, groups, blocks, FRAMES * c)
    split = g.op("Transpose", split, perm=[0, 3, 1, 2, 4])
    shape = g.op("Concat", g.op("Shape", split, end=3), [-1], axis=0)
    split = g.op("Reshape", split, shape)
    first = g.op("Unsqueeze", g.op("Range", 0, rows, 1), [1])
    index = g.op("Add", first, list(range(_blocks(kernel))))
    seen = g.op("Gather", split, index, axis=2)
    shape = g.op("Concat", g.op("Shape", seen, end=3), [-1], axis=0)
    sums = g.op("MatMulInteger", g.op("Reshape", seen, shape), weight, zero)
    product = g.op("Mul", g.op("Cast", sums, to=ir.DataType.FLOAT), scale)
    # (b, groups, rows, FRAMES * c) -> (b, rows * FRAMES, d)
    apart = g.op("Reshape", product, [0, 0, 0, FRAMES, -1])
    apart = g.op("Transpose", apart, perm=[0, 2, 3, 1, 4])
    merged = g.op(
        "Reshape",
        apart,
        g.op("Concat", g.op("Shape", x, end=1), [-1], g.op("Shape", x, start=2), axis=0),
    )
    return g.op("Slice", merged, [0], g.op("Reshape", frames, [1]), [1])


def _blocks(kernel: int) -> int:
    """Number of blocks of `FRAMES` frames that a row sees."""
    return -(-(kernel + FRAMES - 1) // FRAMES)
