"""Inference twin of the adapter of w2v-BERT."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from w2v_edge.model.attention_adapter import AttentionAdapter, AttentionAdapterLayer
from w2v_edge_export.deployable.conformer import ConformerAttentionTwin
from w2v_edge_export.deployable.convolutions import GatedPool
from w2v_edge_export.deployable.layers import FeedForwardTwin, Linear, Norm


class AttentionAdapterLayerTwin(nn.Module):
    """Two pooled branches: one is the residual stream, the other attends within itself."""

    def __init__(self, source: AttentionAdapterLayer) -> None:
        super().__init__()
        self.residual_norm = Norm(source.residual_norm)
        self.residual_pool = GatedPool(source.residual_pool)
        self.attention_norm = Norm(source.attention_norm)
        self.attention_pool = GatedPool(source.attention_pool)
        self.attention = ConformerAttentionTwin(source.attention)
        self.feed_forward_norm = Norm(source.feed_forward_norm)
        self.feed_forward = FeedForwardTwin(source.feed_forward)

    def forward(self, x: Tensor, valid: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (b, n, d) to fewer frames; see `AttentionAdapterTwin`."""
        residual = self.residual_pool(self.residual_norm(x) * valid)
        seen = self.attention_pool(self.attention_norm(x) * valid)
        mask = self.residual_pool.valid(lengths, residual.shape[1])
        valid = mask.unsqueeze(2).to(x.dtype)
        y = residual + self.attention(seen, valid)
        y = y + self.feed_forward(self.feed_forward_norm(y))
        return y * valid, valid, mask.sum(dim=1)


class AttentionAdapterTwin(nn.Module):
    """Adapter layers after a conformer, and what precedes them."""

    def __init__(self, source: AttentionAdapter) -> None:
        super().__init__()
        self.first = None if source.first is None else FeedForwardTwin(source.first)
        self.projection = None if source.projection is None else Linear(source.projection)
        self.norm = None if source.norm is None else Norm(source.norm)
        self.layers = nn.ModuleList(
            AttentionAdapterLayerTwin(cast("AttentionAdapterLayer", x)) for x in source.layers
        )

    def forward(self, x: Tensor, valid: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (b, n, d) to fewer frames (b, m, d), zero at padding.

        Args:
            x: (b, n, d) context vectors, zero at padding.
            valid: (b, n, 1) 0 at padding, else 1.
            lengths: (b,) valid frames.

        Returns:
            The frames, and their `valid` (b, m, 1) and `lengths` (b,).
        """
        if self.first is not None:
            x = x + 0.5 * self.first(x)
        if self.projection is not None and self.norm is not None:
            x = self.norm(self.projection(x))
        x = x * valid
        for layer in self.layers:
            x, valid, lengths = layer(x, valid, lengths)
        return x, valid, lengths
