"""Inference twins of the attention modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from w2v_edge.model.conformer_attention import ConformerAttention
from w2v_edge.model.position import (
    GATE_PARTS,
    RelativePositionBias,
    RelativePositionGate,
)
from w2v_edge.model.transformer import QuerySoftmaxAttention, SelfAttention
from w2v_edge_export.deployable.layers import Linear
from w2v_edge_export.deployable.ops import MASKED, attend, lookup


class AttentionTwin(nn.Module):
    """Base of the attention twins: the projections."""

    def __init__(
        self, source: SelfAttention | QuerySoftmaxAttention | ConformerAttention, divisor: float
    ) -> None:
        super().__init__()
        self.heads = source.heads
        self.query, self.key, self.value = (Linear(x) for x in _thirds(source.qkv))
        self.output = Linear(source.output)
        self.scale = 1 / divisor


class SelfAttentionTwin(AttentionTwin):
    """Attention with a softmax over keys."""

    def __init__(self, source: SelfAttention) -> None:
        dim = source.output.in_features
        super().__init__(source, math.sqrt(dim // source.heads))
        self.gate = None if source.gate is None else GateTwin(source.gate)

    def forward(self, x: Tensor, valid: Tensor, distances: Tensor | None) -> Tensor:
        """Attend within x (b, n, d).

        Args:
            x: (b, n, d).
            valid: (b, n, 1) 0 at padding, else 1.
            distances: (h, n, n) bias before the gate; None for models without one.
        """
        q, k, v = self.query(x), self.key(x), self.value(x)
        gate = None if self.gate is None else self.gate(x)
        mixed: Tensor = self.output(
            attend(q, k, v, valid, distances, gate, heads=self.heads, scale=self.scale)
        )
        return mixed


class GateTwin(nn.Module):
    """Gate of the relative position bias; each of its two sums is one product."""

    def __init__(self, source: RelativePositionGate) -> None:
        super().__init__()
        self.heads = source.heads
        width = source.linear.in_features
        weight = source.linear.weight.detach().view(2, GATE_PARTS, width).sum(dim=1).T
        bias = source.linear.bias.detach().view(2, GATE_PARTS).sum(dim=1)
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.scale = nn.Parameter(source.scale.detach().view(1, 1, -1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the factors (b, h, n, 1) for queries x (b, n, d)."""
        heads = torch.unflatten(x, 2, (self.heads, -1))
        gates = torch.sigmoid(torch.matmul(heads, self.weight) + self.bias)
        update, reset = gates[..., :1], gates[..., 1:]
        return (update * (reset * self.scale - 1) + 2).transpose(1, 2)


class DistancesTwin(nn.Module):
    """Relative position bias: a table by distance, looked up for every pair of frames."""

    def __init__(self, source: RelativePositionBias) -> None:
        super().__init__()
        self.furthest = source.config.max_distance
        distance = torch.arange(-self.furthest, self.furthest + 1)
        # PyTorch computes the logarithm here, since runtimes may round it differently.
        table = source.weight.detach()[source.buckets(distance)].T
        self.table = nn.Parameter(table.contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the bias (h, n, n) of each query (first) on each key, for x (b, n, d)."""
        index = torch.arange(x.shape[1], device=x.device)
        distance = index.unsqueeze(0) - index.unsqueeze(1)
        return lookup(self.table, distance.clamp(-self.furthest, self.furthest) + self.furthest)


class QuerySoftmaxAttentionTwin(AttentionTwin):
    """Attention with a softmax over queries; padded queries are masked, padded values zeroed."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n, 1) is 0 at padding, else 1."""
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(x) * self.scale, self.key(x), self.value(x) * valid)
        )
        logits = torch.matmul(q, k.transpose(2, 3)) + (1 - valid.unsqueeze(1)) * MASKED
        mixed: Tensor = self.output(
            torch.matmul(logits.softmax(dim=2), v).transpose(1, 2).flatten(2)
        )
        return mixed


def _thirds(qkv: nn.Linear) -> list[nn.Linear]:
    """Split a fused projection in three, so that no output has to be split in the graph."""
    dim = qkv.in_features
    made = []
    for i in range(3):
        linear = nn.Linear(dim, dim)
        linear.weight = nn.Parameter(qkv.weight.detach()[i * dim : (i + 1) * dim])
        linear.bias = nn.Parameter(qkv.bias.detach()[i * dim : (i + 1) * dim])
        made.append(linear)
    return made
