"""WavLM's gated relative position bias on attention.

Source: WavLM (arXiv 2110.13900), section 3.1, as in its authors' code and in transformers.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.config import RelativePositionConfig

GATE_PARTS = 4
"""Values that add up to each of the two gates."""


class RelativePositionBias(nn.Module):
    """A learned bias for each head and bucket of distance; all blocks share it."""

    def __init__(self, heads: int, config: RelativePositionConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.buckets, heads))

    def forward(self, frames: int) -> Tensor:
        """Return the bias (h, n, n) of each query (first) on each key, before any gate."""
        index = torch.arange(frames, device=self.weight.device)
        distance = rearrange(index, "k -> 1 k") - rearrange(index, "q -> q 1")
        return rearrange(self.weight[self.buckets(distance)], "q k h -> h q k")

    def buckets(self, distance: Tensor) -> Tensor:
        """Return the bucket of each distance from query to key, in frames.

        The first half is for keys before the query, the second for those after it; in each half
        the nearer distances have a bucket of their own, the further ones share, by logarithm.
        """
        half = self.config.buckets // 2
        exact = half // 2
        size = distance.abs()
        # In float32 and in this order, so that no distance falls to another side of a border.
        share = torch.log(size.clamp(min=1).float() / exact) / math.log(
            self.config.max_distance / exact
        )
        far = (exact + share * (half - exact)).long().clamp(max=half - 1)
        return torch.where(size < exact, size, far) + (distance > 0).long() * half


class RelativePositionGate(nn.Module):
    """How much of the bias each query and head lets through."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(dim // heads, 2 * GATE_PARTS)
        self.scale = nn.Parameter(torch.empty(1, heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the factors (b, h, n, 1) for queries x (b, n, d)."""
        parts = self.linear(rearrange(x, "b n (h d) -> b h n d", h=self.heads))
        sums = rearrange(parts, "b h n (g p) -> b h n g p", p=GATE_PARTS).sum(dim=-1)
        update, reset = sums.sigmoid().chunk(2, dim=-1)
        gate: Tensor = update * (reset * self.scale - 1) + 2
        return gate
