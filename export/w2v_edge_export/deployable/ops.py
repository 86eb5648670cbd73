"""Semantic operations, which graph passes lower differently for each target.

The tracer turns each into one node of the domain `w2v_edge`; the passes `quantize-weights`,
`lower-windows`, `lower-grouped-conv` and `lower-attention` replace the nodes by standard operators.
In PyTorch the functions compute the same values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

DOMAIN = "w2v_edge"

MASKED = -1e30
"""Added to masked logits; finite, so that a softmax gives an exact zero and not NaN."""


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Concatenate the frames that each step of a convolution sees.

    `Windows` takes x (b, n, c) with n a multiple of `stride` and gives
    (b, n / stride - ceil(kernel / stride) + 1, kernel * c).
    """
    shifts = -(-kernel // stride)
    batch, frames, channels = x.shape
    steps = frames // stride - shifts + 1
    if torch.onnx.is_in_onnx_export():
        shape = (batch, steps, kernel * channels)
        return _node("Windows", (x,), {"kernel": kernel, "stride": stride}, shape)
    blocks = x.reshape(batch, frames // stride, stride * channels)
    seen = torch.cat([blocks[:, i : i + steps] for i in range(shifts)], dim=2)
    return seen[:, :, : kernel * channels]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor,
    distances: Tensor | None = None,
    gate: Tensor | None = None,
    *,
    heads: int,
    scale: float,
) -> Tensor:
    """Compute attention, with a softmax over keys of scaled products.

    `Attention` takes q, k, v (b, n, d), channels head-major, and `valid` (b, n, 1), 0 at masked
    keys, else 1; it returns (b, n, d). To the scaled products of queries and keys are added the
    optional `distances`: (b, h, n, n), or with a `gate` (b, h, n, 1), by which they are multiplied,
    (h, n, n).
    """
    biases = [x for x in (distances, gate) if x is not None]
    if torch.onnx.is_in_onnx_export():
        inputs = (q, k, v, valid, *biases)
        return _node("Attention", inputs, {"heads": heads, "scale": scale}, q.shape)
    q, k, v = (torch.unflatten(x, 2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    bias = (1 - valid).transpose(1, 2).unsqueeze(1) * MASKED
    if distances is not None:
        bias = bias + (distances if gate is None else distances * gate)
    weights = (torch.matmul(q * scale, k.transpose(2, 3)) + bias).softmax(dim=3)
    return torch.matmul(weights, v).transpose(1, 2).flatten(2)


def grouped_conv(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, padding: int) -> Tensor:
    """Convolve each group of channels over frames.

    `GroupedConv` takes x (b, n, d), weight (d, d / groups, 1, kernel) and bias (d,); it gives
    (b, n + 2 * padding - kernel + 1, d).
    """
    if torch.onnx.is_in_onnx_export():
        shape = (x.shape[0], x.shape[1] + 2 * padding - weight.shape[3] + 1, x.shape[2])
        attributes = {"groups": groups, "padding": padding}
        return _node("GroupedConv", (x, weight, bias), attributes, shape)
    y = nn.functional.conv2d(
        x.transpose(1, 2).unsqueeze(2), weight, bias, padding=(0, padding), groups=groups
    )
    return y.squeeze(2).transpose(1, 2)


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Return the columns of table (h, m) at index (n, n), (h, n, n).

    Traced as a `Gather` along axis 1, which needs no transposed copy.
    """
    if torch.onnx.is_in_onnx_export():
        shape = (table.shape[0], *index.shape)
        found: Tensor = torch.onnx.ops.symbolic(
            "Gather", (table, index), {"axis": 1}, dtype=table.dtype, shape=shape
        )
        return found
    return table[:, index]


def _node(
    kind: str,
    inputs: Sequence[Tensor],
    attributes: Mapping[str, int | float],
    shape: Sequence[int],
) -> Tensor:
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{kind}", inputs, dict(attributes), dtype=inputs[0].dtype, shape=shape, version=1
    )
