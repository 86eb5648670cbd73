"""Inference twin of disentangled attention.

Logits of a query or key and an embedding of a distance are picked from a flat table of all of them,
by an index that every head of every utterance shares.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.disentangled import DisentangledAttention, DistanceEmbedding
from w2v_edge_export.deployable.attention import AttentionTwin
from w2v_edge_export.deployable.ops import attend, lookup


class PlacesTwin(nn.Module):
    """Indices of pairs of frames in the flat tables of queries and of keys."""

    places: Tensor

    def __init__(self, source: DistanceEmbedding) -> None:
        super().__init__()
        self.furthest = 2 * source.config.max_distance
        self.embeddings = len(source.weight)
        distance = torch.arange(-self.furthest, self.furthest + 1)
        # PyTorch computes the logarithm here, since runtimes may round it differently.
        self.register_buffer("places", source.places(distance).unsqueeze(0))

    def forward(self, x: Tensor) -> Tensor:
        """Return (2, n, n) for x (b, n, d): index of each query and key, by query and by key."""
        steps = torch.arange(x.shape[1], device=x.device)
        queries, keys = steps.unsqueeze(1), steps.unsqueeze(0)
        distance = (queries - keys).clamp(-self.furthest, self.furthest) + self.furthest
        places = lookup(self.places, distance)
        return torch.cat([places + queries * self.embeddings, places + keys * self.embeddings])


class DisentangledAttentionTwin(AttentionTwin):
    """Attention whose logits add products of contents and embeddings of distances."""

    def __init__(self, source: DisentangledAttention, embeddings: Tensor) -> None:
        super().__init__(source, source.divisor)
        self.position_keys = _frozen(source.position_keys(embeddings))
        self.position_queries = _frozen(source.position_queries(embeddings))

    def forward(self, x: Tensor, valid: Tensor, places: Tensor) -> Tensor:
        """Attend within x (b, n, d).

        Args:
            x: (b, n, d).
            valid: (b, n, 1) 0 at padding, else 1.
            places: (2, n, n), see `PlacesTwin`.
        """
        q, k, v = self.query(x), self.key(x), self.value(x)
        picked = [
            self._pick(y, table, places[i])
            for i, (y, table) in enumerate(((q, self.position_keys), (k, self.position_queries)))
            if table is not None
        ]
        bias = None if not picked else sum(picked[1:], picked[0]) * self.scale
        mixed: Tensor = self.output(
            attend(q, k, v, valid, bias, heads=self.heads, scale=self.scale)
        )
        return mixed

    def _pick(self, x: Tensor, table: Tensor, places: Tensor) -> Tensor:
        """Return products (b, h, n, n) of x (b, n, d) and the table (h, d, r) at `places`."""
        heads = torch.unflatten(x, 2, (self.heads, -1)).transpose(1, 2)
        products = torch.matmul(heads, table)
        flat = products.flatten(2, 3).flatten(0, 1)
        return torch.unflatten(lookup(flat, places), 0, (-1, self.heads))


def disentangled(twin: nn.Module, source: nn.Module, embeddings: Tensor) -> None:
    """Give the twin of a block disentangled attention."""
    attention = cast("DisentangledAttention", source.attention)
    twin.attention = DisentangledAttentionTwin(attention, embeddings)


def _frozen(x: Tensor | None) -> nn.Parameter | None:
    """Return (h, r, d) as constants (h, d, r)."""
    if x is None:
        return None
    return nn.Parameter(x.detach().transpose(1, 2).contiguous(), requires_grad=False)
