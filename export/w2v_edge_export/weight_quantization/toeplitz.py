"""A grouped convolution over frames as one product a group.

Several neighbouring frames come out of one row, whose inputs are all that any of them sees: the
weight is repeated once for each of them, shifted down by a frame, which makes a band. Rows are so
much fewer that gathering them costs little, and integers are gathered, not floats.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge_export.graph_builder import GraphBuilder, ceil_div, size
from w2v_edge_export.weight_quantization.rounding import Int8Weight

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
    """How many blocks of `FRAMES` frames a row sees."""
    return -(-(kernel + FRAMES - 1) // FRAMES)
