"""Pass that writes `Attention` with the operators that the target runs fastest.

With onnxruntime's own operators it becomes one MultiHeadAttention, whose CPU kernel never holds the
(frames, frames) matrix, as long as it has no mask. Padded keys are therefore masked by extra
channels: a constant in the queries, a large negative number in the keys of padding. An `If` leaves
the extra channels out of batches without padding.

Elsewhere it is written out in standard operators. A bias of distances needs a (frames, frames)
matrix for each head in any case; padded keys are masked in that.
"""

from __future__ import annotations

import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN, MASKED
from w2v_edge_export.graph_builder import GraphBuilder, replace_node, static_channels
from w2v_edge_export.targets import CONTRIB, Target

EXTRA = 8
"""Channels added to each head; one is enough, but odd widths are slow."""

HIDDEN = -1e6
"""The extra channel of padded keys; times any head's scale, its exponential is an exact zero."""


def lower_attention(model: ir.Model, target: Target) -> None:
    """Rewrite every `Attention` node."""
    padded: ir.Value | None = None
    for node in list(model.graph):
        if (node.domain, node.op_type) != (DOMAIN, "Attention"):
            continue
        g = GraphBuilder(prefix=f"{node.name}.")
        q, k, v, valid, *distances = (x for x in node.inputs if x is not None)
        heads, scale = node.attributes["heads"].as_int(), node.attributes["scale"].as_float()
        if CONTRIB in target.domains:
            if padded is None:
                padded = _any_padding(g, valid)
            fused = _biased if distances else _fused
            made = fused(g, q, k, v, valid, padded, *distances, heads=heads, scale=scale)
        else:
            made = _written_out(g, q, k, v, valid, *distances, heads=heads, scale=scale)
        replace_node(node, g, made)


def _any_padding(g: GraphBuilder, valid: ir.Value) -> ir.Value:
    padding = g.op("Sub", g.floats(1), valid)
    return g.op("Greater", g.op("ReduceSum", padding, keepdims=0), g.floats(0))


def _fused(
    g: GraphBuilder,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    valid: ir.Value,
    padded: ir.Value,
    *,
    heads: int,
    scale: float,
) -> ir.Value:
    def attention(inner: GraphBuilder, q: ir.Value, k: ir.Value) -> ir.Value:
        return inner.op(f"{CONTRIB}::MultiHeadAttention", q, k, v, num_heads=heads, scale=scale)

    def hiding(inner: GraphBuilder) -> ir.Value:
        ones = inner.op("Add", inner.op("Mul", valid, inner.floats(0)), inner.floats(1))
        hidden = inner.op("Mul", inner.op("Sub", ones, valid), inner.floats(HIDDEN))
        wider = [_widen(inner, x, extra, heads) for x, extra in ((q, ones), (k, hidden))]
        return attention(inner, *wider)

    return g.branch(padded, hiding, lambda inner: attention(inner, q, k))


def _biased(
    g: GraphBuilder,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    valid: ir.Value,
    padded: ir.Value,
    distances: ir.Value,
    gate: ir.Value | None = None,
    *,
    heads: int,
    scale: float,
) -> ir.Value:
    if gate is None:
        bias = g.op("Add", distances, _hidden(g, valid))
    else:
        bias = g.branch(
            padded,
            lambda inner: inner.op("Add", inner.op("Mul", gate, distances), _hidden(inner, valid)),
            lambda inner: inner.op("Mul", gate, distances),
        )
    # Its inputs: query, key, value, bias of the projections, key mask, attention bias.
    return g.op(
        f"{CONTRIB}::MultiHeadAttention", q, k, v, None, None, bias, num_heads=heads, scale=scale
    )


def _hidden(g: GraphBuilder, valid: ir.Value) -> ir.Value:
    """Return a large negative number at padded keys, (b, 1, 1, n), for `valid` (b, n, 1)."""
    hidden = g.op("Mul", g.op("Sub", g.floats(1), valid), g.floats(MASKED))
    return g.op("Unsqueeze", g.op("Transpose", hidden, perm=[0, 2, 1]), [1])


def _widen(g: GraphBuilder, x: ir.Value, extra: ir.Value, heads: int) -> ir.Value:
    """Append a channel `extra` (b, n, 1) and zeros to each head of x (b, n, d)."""
    dim = static_channels(x)
    split = g.op("Reshape", x, [0, 0, heads, dim // heads])
    channels = g.op("Pad", g.op("Unsqueeze", extra, [2]), [0, 0, 0, 0, 0, 0, 0, EXTRA - 1])
    size = g.op("Concat", g.op("Shape", split, end=3), [EXTRA], axis=0)
    joined = g.op("Concat", split, g.op("Expand", channels, size), axis=3)
    return g.op("Reshape", joined, [0, 0, dim + EXTRA * heads])


def _written_out(
    g: GraphBuilder,
    q: ir.Value,
    k: ir.Value,
    v: ir.Value,
    valid: ir.Value,
    distances: ir.Value | None = None,
    gate: ir.Value | None = None,
    *,
    heads: int,
    scale: float,
) -> ir.Value:
    dim = static_channels(q)

    def split(x: ir.Value, order: list[int]) -> ir.Value:
        apart = g.op("Reshape", x, [0, 0, heads, dim // heads])
        return g.op("Transpose", apart, perm=order)

    q = g.op("Mul", q, g.floats(scale))
    logits = g.op("MatMul", split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1]))
    if distances is not None:
        bias = distances if gate is None else g.op("Mul", gate, distances)
        logits = g.op("Add", logits, bias)
    weights = g.op("Softmax", g.op("Add", logits, _hidden(g, valid)), axis=3)
    mixed = g.op("MatMul", weights, split(v, [0, 2, 1, 3]))
    return g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, dim])
