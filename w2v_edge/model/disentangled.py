"""Disentangled attention: logits from contents and from embeddings of relative positions.

Source: DeBERTa (arXiv 2006.03654), section 3, with the logarithmic buckets of its version 2, as in
SEW-D (arXiv 2109.06870) and in transformers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from w2v_edge.model.config import TransformerContextConfig
from w2v_edge.model.sew_config import DisentangledContextConfig
from w2v_edge.model.transformer import SelfAttention, TransformerBlock


class Distances(NamedTuple):
    """Relative positions of a padded batch.

    Attributes:
        embeddings: (r, d), one for each bucket of distances.
        places: (n, n) index of the embedding of each query (first) and key, int64.
    """

    embeddings: Tensor
    places: Tensor


class DistanceEmbedding(nn.Module):
    """An embedding of each bucket of distances, shared by all blocks."""

    def __init__(self, config: DisentangledContextConfig) -> None:
        """Create the table."""
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(2 * config.span, config.dim))
        norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.norm = norm if config.position_norm else None

    def forward(self, frames: int) -> Distances:
        """Return the embeddings, and their indices for every pair of `frames`."""
        steps = torch.arange(frames, device=self.weight.device)
        distance = rearrange(steps, "q -> q 1") - rearrange(steps, "k -> 1 k")
        return Distances(self.embeddings(), self.places(distance))

    def embeddings(self) -> Tensor:
        """Return the embeddings (r, d)."""
        return self.weight if self.norm is None else self.norm(self.weight)

    def places(self, distance: Tensor) -> Tensor:
        """Return the index of the embedding of each signed distance from key to query."""
        span, buckets = self.config.span, self.config.buckets
        place = self._bucket(distance, buckets) if buckets else distance
        return (place + span).clamp(0, 2 * span - 1)

    def _bucket(self, distance: Tensor, buckets: int) -> Tensor:
        """Return the distance itself up to half the buckets, beyond it logarithmic ones."""
        half, size = buckets // 2, distance.abs()
        # float32 and this order of operations, as upstream: else a distance at a bucket's edge
        # could round into the neighbouring bucket.
        ratio = torch.log(size.clamp(min=1) / half) / torch.log(
            torch.tensor((self.config.max_distance - 1) / half)
        )
        far = (torch.ceil(ratio * (half - 1)) + half) * distance.sign()
        return torch.where(size <= half, distance, far.long())


class DisentangledAttention(SelfAttention):
    """Self-attention whose logits add products of contents and embeddings of distances."""

    def __init__(self, config: DisentangledContextConfig) -> None:
        """Create the projections."""
        super().__init__(config.dim, config.heads)
        self.config = config
        keys = config.position_keys and not config.shared
        queries = config.position_queries and not config.shared
        self.position_key = nn.Linear(config.dim, config.dim) if keys else None
        self.position_query = nn.Linear(config.dim, config.dim) if queries else None

    @property
    def divisor(self) -> float:
        """Divisor of the logits: by the number of products that are added."""
        products = 1 + self.config.position_keys + self.config.position_queries
        return math.sqrt(self.config.dim // self.config.heads * products)

    def position_keys(self, embeddings: Tensor) -> Tensor | None:
        """Return the keys (h, r, d) of embeddings (r, d), if queries attend to distances."""
        if not self.config.position_keys:
            return None
        return self._split(self._project(embeddings, self.position_key, 1))

    def position_queries(self, embeddings: Tensor) -> Tensor | None:
        """Return the queries (h, r, d) of embeddings (r, d), if distances attend to keys."""
        if not self.config.position_queries:
            return None
        return self._split(self._project(embeddings, self.position_query, 0))

    def attend(self, x: Tensor, valid: Tensor, distances: Distances) -> Tensor:
        """Attend within x (b, n, d).

        Args:
            x: (b, n, d).
            valid: (b, n) false at padding; padded keys are masked out.
            distances: of the frames.
        """
        q, k, v = rearrange(self.qkv(x), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        logits = einsum(q, k, "b h q d, b h k d -> b h q k")
        places = distances.places.expand(*logits.shape)
        keys = self.position_keys(distances.embeddings)
        queries = self.position_queries(distances.embeddings)
        if keys is not None:
            logits = logits + einsum(q, keys, "b h q d, h r d -> b h q r").gather(3, places)
        if queries is not None:
            scores = einsum(k, queries, "b h k d, h r d -> b h r k")
            logits = logits + scores.gather(2, places)
        masked = rearrange(~valid, "b k -> b 1 1 k")
        logits = (logits / self.divisor).masked_fill(masked, torch.finfo(x.dtype).min)
        mixed = einsum(logits.softmax(dim=3), v, "b h q k, b h k d -> b h q d")
        attended: Tensor = self.output(rearrange(mixed, "b h n d -> b n (h d)"))
        return attended

    def _project(self, embeddings: Tensor, own: nn.Linear | None, part: int) -> Tensor:
        """Project embeddings by a layer of their own, or by a third of the fused projection."""
        if own is not None:
            projected: Tensor = own(embeddings)
            return projected
        weight, bias = (x.chunk(3)[part] for x in (self.qkv.weight, self.qkv.bias))
        return F.linear(embeddings, weight, bias)

    def _split(self, x: Tensor) -> Tensor:
        return rearrange(x, "r (h d) -> h r d", h=self.heads)


class DisentangledBlock(TransformerBlock):
    """A post-norm block with disentangled attention."""

    attention: DisentangledAttention

    def __init__(self, config: DisentangledContextConfig, block: TransformerContextConfig) -> None:
        """Create the block; `block` configures its feed-forward layers and norms."""
        super().__init__(block)
        self.attention = DisentangledAttention(config)

    def forward(self, x: Tensor, valid: Tensor, distances: Distances) -> Tensor:
        """Map x (b, n, d) to the same shape; see `DisentangledAttention.attend`."""
        attended = self.attention.attend(x, valid, distances)
        x = self.attention_norm(x + self.dropout(attended))
        normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normed
