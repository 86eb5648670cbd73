"""Inference twins of the conformer blocks."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.conformer import ConformerBlock, ConvolutionModule
from w2v_edge.model.conformer_attention import (
    SINUSOID_BASE,
    ConformerAttention,
    DistanceAttention,
    RotaryAttention,
    SinusoidAttention,
    frequencies,
)
from w2v_edge.model.conformer_config import (
    AnyConformerConfig,
    DistancePositionConfig,
    RotaryPositionConfig,
    SinusoidPositionConfig,
)
from w2v_edge.model.transformer import ACTIVATIONS
from w2v_edge_export.deployable.attention import AttentionTwin
from w2v_edge_export.deployable.layers import FeedForwardTwin, Linear, Norm
from w2v_edge_export.deployable.ops import attend, grouped_conv, lookup
from w2v_edge_export.graph_builder import known


class Angles(nn.Module):
    """Angles of positions, in whole turns less, so that float32 holds them exactly enough."""

    def __init__(self, each: Tensor) -> None:
        """Prepare the angles of `each` frame (width / 2,), float64."""
        super().__init__()
        self.turns = nn.Parameter(each / (2 * math.pi), requires_grad=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return the angles (n, width / 2), float32, of positions (n,), in frames."""
        turns = positions.to(torch.float64).unsqueeze(1) * self.turns
        return ((turns - torch.floor(turns)) * (2 * math.pi)).to(torch.float32)


class RotationsTwin(nn.Module):
    """Cosines and signed sines of each frame, shared by all blocks."""

    def __init__(self, config: RotaryPositionConfig, width: int) -> None:
        super().__init__()
        self.angles = Angles(frequencies(width, config.base, config.precision))

    def forward(self, x: Tensor) -> Tensor:
        """Return the factors (2, n, 1, width of a head) for x (b, n, d)."""
        angles = self.angles(torch.arange(x.shape[1], device=x.device))
        cos, sin = torch.cos(angles), torch.sin(angles)
        factors = torch.stack([torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)])
        return factors.unsqueeze(2)


class SinusoidsTwin(nn.Module):
    """Sinusoids of each distance, shared by all blocks: all sines, then all cosines."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.angles = Angles(frequencies(dim, SINUSOID_BASE))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sinusoids (2 n + 1, d) of n to -n frames before, for x (b, n, d)."""
        frames = x.shape[1]
        angles = self.angles(frames - torch.arange(2 * frames + 1, device=x.device))
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class DistancesAheadTwin(nn.Module):
    """Row of each distance in the blocks' tables."""

    def __init__(self, config: DistancePositionConfig) -> None:
        super().__init__()
        self.left, self.right = config.left, config.right

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows (2 n + 1,) of -n to n frames ahead, for x (b, n, d)."""
        frames = x.shape[1]
        ahead = torch.arange(2 * frames + 1, device=x.device) - frames
        return ahead.clamp(-self.left, self.right) + self.left


def positions_twin(config: AnyConformerConfig) -> nn.Module | None:
    """Return what the blocks of a conformer share of its encoding of positions."""
    position = config.position
    if isinstance(position, RotaryPositionConfig):
        return RotationsTwin(position, config.dim // config.heads)
    if isinstance(position, SinusoidPositionConfig):
        return SinusoidsTwin(config.dim)
    if isinstance(position, DistancePositionConfig):
        return DistancesAheadTwin(position)
    return None


class ConformerAttentionTwin(AttentionTwin):
    """Attention without positions; subclasses add them."""

    def __init__(self, source: ConformerAttention) -> None:
        width = source.output.in_features // source.heads
        super().__init__(source, math.sqrt(width))
        self.width = width

    def forward(self, x: Tensor, valid: Tensor, positions: Tensor | None = None) -> Tensor:
        """Attend within x (b, n, d).

        Args:
            x: (b, n, d).
            valid: (b, n, 1) 0 at padding, else 1.
            positions: what the blocks share; see `positions_twin`.
        """
        seen = self.turned(x, positions)
        q, k, v = self.query(seen), self.key(seen), self.value(x)
        bias = self.bias(q, positions)
        mixed: Tensor = self.output(
            attend(q, k, v, valid, bias, heads=self.heads, scale=self.scale)
        )
        return mixed

    def turned(self, x: Tensor, positions: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return what queries and keys are made of, (b, n, d)."""
        return x

    def bias(self, q: Tensor, positions: Tensor | None) -> Tensor | None:  # noqa: ARG002
        """Return the positions' scores (b, h, n, n), if any, for queries q (b, n, d)."""
        return None

    def split(self, q: Tensor) -> Tensor:
        """Return q (b, n, d) as heads (b, h, n, d)."""
        return torch.unflatten(q, 2, (self.heads, self.width)).transpose(1, 2)


class RotaryAttentionTwin(ConformerAttentionTwin):
    """Queries and keys are made of rotated frames."""

    def turned(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """Rotate x (b, n, d) by the factors (2, n, 1, d)."""
        cos, sin = known(positions).unbind(dim=0)
        heads = torch.unflatten(x, 2, (self.heads, self.width))
        first, second = heads.chunk(2, dim=3)
        return (heads * cos + torch.cat([second, first], dim=3) * sin).flatten(2)


class SinusoidAttentionTwin(ConformerAttentionTwin):
    """Queries also score the projected sinusoids of each distance.

    The bias of the content is in the queries' own; the position's differs from it by `offset`.
    """

    def __init__(self, source: SinusoidAttention) -> None:
        super().__init__(source)
        content = source.content_bias.detach().flatten()
        self.query.bias = nn.Parameter(known(self.query.bias) + content, requires_grad=False)
        offset = source.distance_bias.detach().flatten() - content
        self.offset = nn.Parameter(offset, requires_grad=False)
        # Rows in the order of `SinusoidsTwin`.
        weight = source.distance.weight.detach().T * self.scale
        weight = torch.cat([weight[0::2], weight[1::2]])
        self.distance_weight = nn.Parameter(weight, requires_grad=False)

    def bias(self, q: Tensor, positions: Tensor | None) -> Tensor:
        """Return the scores (b, h, n, n) for q (b, n, d) and the sinusoids (2 n + 1, d)."""
        rows = torch.matmul(known(positions), self.distance_weight)
        rows = torch.unflatten(rows, 1, (self.heads, self.width)).permute(1, 2, 0)
        return by_distance(torch.matmul(self.split(q + self.offset), rows))


class DistanceAttentionTwin(ConformerAttentionTwin):
    """Queries also score the learned vector of each distance."""

    def __init__(self, source: DistanceAttention) -> None:
        super().__init__(source)
        table = source.table.weight.detach().T * self.scale
        self.table = nn.Parameter(table.contiguous(), requires_grad=False)

    def bias(self, q: Tensor, positions: Tensor | None) -> Tensor:
        """Return the scores (b, h, n, n) for q (b, n, d) and the rows (2 n + 1,)."""
        return by_distance(torch.matmul(self.split(q), lookup(self.table, known(positions))))


def by_distance(scores: Tensor) -> Tensor:
    """Return the scores (b, h, n, n) of each query and key.

    Args:
        scores: (b, h, n, 2 n + 1) of each query and distance, from n frames before the query to n
            after it. Read as rows that are one shorter, each row begins one distance earlier.
    """
    frames = scores.shape[2]
    flat = scores.flatten(2)[:, :, frames:]
    return torch.unflatten(flat, 2, (frames, 2 * frames))[:, :, :, :frames]


def conformer_attention_twin(source: ConformerAttention) -> ConformerAttentionTwin:
    """Return the twin of an attention module."""
    if isinstance(source, RotaryAttention):
        return RotaryAttentionTwin(source)
    if isinstance(source, SinusoidAttention):
        return SinusoidAttentionTwin(source)
    if isinstance(source, DistanceAttention):
        return DistanceAttentionTwin(source)
    return ConformerAttentionTwin(source)


class ConvolutionTwin(nn.Module):
    """The convolution module; a batch norm is folded into its convolution."""

    def __init__(self, source: ConvolutionModule) -> None:
        super().__init__()
        self.activation = source.activation
        self.norm = Norm(source.norm)
        # Two products, so that no output has to be split in the graph.
        self.value, self.gate = (Linear(x) for x in _halves(source.gate))
        weight = source.depthwise.weight.detach()
        bias = torch.zeros(len(weight))
        self.depthwise_norm = None
        if isinstance(source.depthwise_norm, nn.LayerNorm):
            self.depthwise_norm = Norm(source.depthwise_norm)
        else:
            weight, bias = _folded(weight, cast("nn.BatchNorm1d", source.depthwise_norm))
        self.weight = nn.Parameter(weight.unsqueeze(2).contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.output = Linear(source.output)
        kernel = weight.shape[2]
        # More padding than needed: some runtimes fail on a convolution with an empty output.
        self.padding = max(source.left, kernel // 2 + 1)
        self.first = self.padding - source.left

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape; `valid` (b, n, 1) is 0 at padding, else 1."""
        frames = x.shape[1]
        x = self.norm(x) * valid
        x = self.value(x) * torch.sigmoid(self.gate(x))
        x = grouped_conv(x, self.weight, self.bias, groups=x.shape[2], padding=self.padding)
        x = x[:, self.first : self.first + frames]
        x = x if self.depthwise_norm is None else self.depthwise_norm(x)
        projected: Tensor = self.output(ACTIVATIONS[self.activation](x))
        return projected


def _halves(gate: nn.Linear) -> list[nn.Linear]:
    """Split a gated projection in its values and its gates."""
    made = []
    for weight in gate.weight.detach().chunk(2):
        linear = nn.Linear(gate.in_features, len(weight), bias=False)
        linear.weight = nn.Parameter(weight)
        made.append(linear)
    return made


def _folded(weight: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return a weight (d, 1, kernel) and a bias (d,) that include the norm of the outputs."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight.detach() / torch.sqrt(variance + norm.eps)
    return weight * scale[:, None, None], norm.bias.detach() - mean * scale


class ConformerBlockTwin(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, norm."""

    def __init__(self, source: ConformerBlock) -> None:
        super().__init__()
        self.first_norm, self.first = Norm(source.first_norm), FeedForwardTwin(source.first)
        self.attention_norm = Norm(source.attention_norm)
        self.attention = conformer_attention_twin(source.attention)
        self.convolution = ConvolutionTwin(source.convolution)
        self.second_norm, self.second = Norm(source.second_norm), FeedForwardTwin(source.second)
        self.norm = Norm(source.norm)

    def forward(self, x: Tensor, valid: Tensor, positions: Tensor | None) -> Tensor:
        """Map x (b, n, d) to the same shape; see `ConformerAttentionTwin`."""
        x = x + 0.5 * self.first(self.first_norm(x))
        x = x + self.attention(self.attention_norm(x), valid, positions)
        x = x + self.convolution(x, valid)
        normed: Tensor = self.norm(x + 0.5 * self.second(self.second_norm(x)))
        return normed
