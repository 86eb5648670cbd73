"""Multiplications of an operator, from the shapes in onnxruntime's profile."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from w2v_edge.providers.placement import HEAVY

ARITHMETIC = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "uint8": "int8",
    "int8": "int8",
}
"""Type of the numbers that are multiplied, by onnxruntime's name of the first input's type."""

ROUNDS_ITSELF = frozenset({"DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that take floats and multiply bytes."""

CONVOLUTIONS = frozenset("Conv FusedConv NhwcFusedConv ConvInteger QLinearConv".split())
ATTENTION = frozenset({"MultiHeadAttention"})
MATRICES = HEAVY - CONVOLUTIONS - {"Attention", "QAttention", "Einsum", "ConvTranspose"}

Shape = list[int]


def multiplications(args: Mapping[str, Any]) -> tuple[str, float | None]:
    """Count the multiply-adds of matrices and filters in one execution of an operator.

    Args:
        args: of the operator's event: `op_name`, `input_type_shape`, `output_type_shape`. Weights
            that onnxruntime keeps packed have no shape there.

    Returns:
        The type of the numbers, empty for an operator that multiplies no matrices, and the number
        of multiply-adds; None where the shapes do not tell it.
    """
    operator = args["op_name"]
    if operator not in HEAVY:
        return "", 0.0
    kinds, shapes = _read(args.get("input_type_shape", ()))
    _, outputs = _read(args.get("output_type_shape", ()))
    arithmetic = "int8" if operator in ROUNDS_ITSELF else ARITHMETIC.get(kinds[0] if kinds else "")
    if arithmetic is None or not outputs:
        return "float32", None
    if operator in ATTENTION:
        return arithmetic, _attention(shapes)
    if operator in CONVOLUTIONS:
        return arithmetic, _convolution(shapes, outputs[0])
    if operator in MATRICES:
        return arithmetic, _matrices(shapes[0], outputs[0])
    return arithmetic, None


def _read(typed: Any) -> tuple[list[str], list[Shape]]:
    pairs = [next(iter(one.items())) for one in typed if one]
    return [kind for kind, _ in pairs], [list(shape) for _, shape in pairs]


def _matrices(left: Shape, output: Shape) -> float | None:
    """Count (.., m, k) times (.., k, n); the left factor may be transposed."""
    rows = prod(output[:-1])
    if not rows or not output:
        return 0.0
    inner = prod(left) / rows
    # A left factor that is broadcast over a batch has fewer rows than the product.
    return float(prod(output) * (inner if inner.is_integer() and inner else left[-1]))


def _convolution(shapes: list[Shape], output: Shape) -> float | None:
    """Count a filter (out, in / groups, ..) for each value of the output (batch, out, ..)."""
    filters = [x for x in shapes[1:] if len(x) == len(output)]
    if not filters:
        return None
    return float(prod(output) * prod(filters[0][1:]))


def _attention(shapes: list[Shape]) -> float | None:
    """Count queries (b, m, d) times keys (b, n, d), and the weights times values (b, n, v)."""
    try:
        (batch, queries, dim), (_, keys, _), (_, _, values) = shapes[:3]
    except ValueError:  # packed or with heads apart
        return None
    return float(batch * queries * keys * (dim + values))
