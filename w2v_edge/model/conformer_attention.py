"""Self-attention of conformers, one class for each encoding of positions.

Source: wav2vec2-Conformer and w2v-BERT 2.0 as in fairseq, fairseq2 and transformers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from w2v_edge.model.conformer_config import (
    DistancePositionConfig,
    PositionConfig,
    RotaryPositionConfig,
    SinusoidPositionConfig,
)

SINUSOID_BASE = 10_000.0
"""Base of the geometric series of the sinusoids' periods."""


class ConformerAttention(nn.Module):
    """Multi-head self-attention over valid keys, without positions; subclasses add them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n) is false at padding."""
        q, k, v = (rearrange(y, "b n (h d) -> b h n d", h=self.heads) for y in self.project(x))
        keys = rearrange(valid, "b k -> b 1 1 k")
        q, scores = self.position(q)
        bias = torch.zeros_like(keys, dtype=x.dtype) if scores is None else scores
        bias = bias.masked_fill(~keys, torch.finfo(x.dtype).min)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        attended: Tensor = self.output(rearrange(mixed, "b h n d -> b n (h d)"))
        return attended

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (b, n, d) of x (b, n, d)."""
        q, k, v = self.qkv(x).chunk(3, dim=2)
        return q, k, v

    def position(self, q: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return queries (b, h, n, d) and the positions' scaled scores (b, h, n, n), if any."""
        return q, None


class RotaryAttention(ConformerAttention):
    """Queries and keys are made of rotated frames: each pair of a head's channels turns in time."""

    def __init__(self, dim: int, heads: int, config: RotaryPositionConfig) -> None:
        super().__init__(dim, heads)
        self.config = config

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (b, n, d) of x (b, n, d)."""
        dim = x.shape[2]
        weight, bias = self.qkv.weight, self.qkv.bias
        q, k = F.linear(self.rotate(x), weight[: 2 * dim], bias[: 2 * dim]).chunk(2, dim=2)
        return q, k, F.linear(x, weight[2 * dim :], bias[2 * dim :])

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate x (b, n, d): channel i of each head with channel i + width / 2."""
        heads = rearrange(x, "b n (h d) -> b n h d", h=self.heads)
        index = torch.arange(x.shape[1], device=x.device)
        config, width = self.config, heads.shape[3]
        turning = frequencies(width, config.base, config.precision).to(x.device)
        angle = index.double().unsqueeze(1) * turning
        cos, sin = (rearrange(y.to(x.dtype), "n d -> n 1 d") for y in (angle.cos(), angle.sin()))
        first, second = heads.chunk(2, dim=3)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=3)
        return rearrange(turned, "b n h d -> b n (h d)")


class SinusoidAttention(ConformerAttention):
    """Transformer-XL's: queries also score the projected sinusoids of each distance."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.distance = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, dim // heads))
        self.distance_bias = nn.Parameter(torch.empty(heads, dim // heads))

    def position(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries with a bias, and the scores; see `ConformerAttention`."""
        sinusoids = distance_sinusoids(q.shape[2], self.distance.in_features, q)
        rows = rearrange(self.distance(sinusoids), "r (h d) -> h r d", h=self.heads)
        seen = q + rearrange(self.distance_bias, "h d -> h 1 d")
        scores = by_distance(einsum(seen, rows, "b h q d, h r d -> b h q r"))
        return q + rearrange(self.content_bias, "h d -> h 1 d"), scores * q.shape[3] ** -0.5


class DistanceAttention(ConformerAttention):
    """Shaw's: queries also score the learned vector of each distance, shared by the heads."""

    def __init__(self, dim: int, heads: int, config: DistancePositionConfig) -> None:
        super().__init__(dim, heads)
        self.config = config
        self.table = nn.Embedding(config.left + config.right + 1, dim // heads)

    def position(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and the scores; see `ConformerAttention`."""
        frames = q.shape[2]
        left, right = self.config.left, self.config.right
        ahead = torch.arange(1 - frames, max(frames, 1), device=q.device)
        rows = self.table(ahead.clamp(-left, right) + left)
        scores = by_distance(einsum(q, rows, "b h q d, r d -> b h q r"))
        return q, scores * q.shape[3] ** -0.5


def by_distance(scores: Tensor) -> Tensor:
    """Return the scores (b, h, n, n) of each query and key.

    Args:
        scores: (b, h, n, 2 n - 1) of each query and distance, from n - 1 frames before the query to
            n - 1 after it; one column for no frames.
    """
    batch, heads, frames, _ = scores.shape
    index = torch.arange(frames, device=scores.device)
    column = index.unsqueeze(0) - index.unsqueeze(1) + frames - 1
    return scores.gather(3, column.expand(batch, heads, frames, frames))


def frequencies(width: int, base: float, precision: str = "float32") -> Tensor:
    """Return width / 2 angles a frame, float64, in geometric series from 1 towards 1 / `base`.

    In a smaller `precision` they are rounded to it.
    """
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width
    exact = base**-exponent
    return exact if precision == "float32" else exact.float().to(getattr(torch, precision)).double()


def distance_sinusoids(frames: int, dim: int, like: Tensor) -> Tensor:
    """Return the sinusoids (2 n - 1, d) of distances from n - 1 frames to 1 - n, before first.

    Sines and cosines alternate; type and device are of `like`.
    """
    before = torch.arange(frames - 1, min(-frames, -1), -1, device=like.device)
    angle = before.double().unsqueeze(1) * frequencies(dim, SINUSOID_BASE).to(like.device)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).to(like.dtype)


def build_attention(dim: int, heads: int, position: PositionConfig | None) -> ConformerAttention:
    """Build the attention of a block, `dim` channels wide."""
    if isinstance(position, RotaryPositionConfig):
        return RotaryAttention(dim, heads, position)
    if isinstance(position, SinusoidPositionConfig):
        return SinusoidAttention(dim, heads)
    if isinstance(position, DistancePositionConfig):
        return DistanceAttention(dim, heads, position)
    return ConformerAttention(dim, heads)
