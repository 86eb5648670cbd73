"""The adapter of w2v-BERT 2.0: strided convolutions with attention.

Source: the adapter of SeamlessM4T (arXiv 2308.11596), as in fairseq2 and transformers.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.conformer_attention import ConformerAttention
from w2v_edge.model.conformer_config import AttentionAdapterConfig, CausalConformerContextConfig
from w2v_edge.model.padding import Frames, valid_steps, zero_padding
from w2v_edge.model.transformer import FeedForward


class AttentionAdapterLayer(nn.Module):
    """Two pooled branches: one is the residual stream, the other attends within itself."""

    def __init__(self, config: AttentionAdapterConfig, heads: int, eps: float) -> None:
        super().__init__()
        dim = config.dim
        self.config = config
        self.residual_norm = nn.LayerNorm(dim, eps=eps)
        self.residual_pool = self._build_pool()
        self.attention_norm = nn.LayerNorm(dim, eps=eps)
        self.attention_pool = self._build_pool()
        self.attention = ConformerAttention(dim, heads)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=eps)
        self.feed_forward = FeedForward(dim, config.feed_forward, config.activation)

    def forward(self, frames: Frames) -> Frames:
        """Map frames (b, n, d) to fewer (b, m, d), both zero at padding."""
        x, lengths = frames
        pooled = self._output_lengths(lengths)
        residual = self._pool(self.residual_pool, zero_padding(self.residual_norm(x), lengths))
        seen = self._pool(self.attention_pool, zero_padding(self.attention_norm(x), lengths))
        y = residual + self.attention(seen, valid_steps(pooled, seen.shape[1]))
        y = y + self.feed_forward(self.feed_forward_norm(y))
        return Frames(zero_padding(y, pooled), pooled)

    def _build_pool(self) -> nn.Conv1d:
        config = self.config
        return nn.Conv1d(config.dim, 2 * config.dim, config.kernel, config.stride, config.padding)

    def _pool(self, conv: nn.Module, x: Tensor) -> Tensor:
        if not self.config.convolved(x.shape[1]):
            return x[:, :0]
        y = F.glu(conv(rearrange(x, "b n d -> b d n")), dim=1)
        return rearrange(y, "b d n -> b n d")

    def _output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the output frames (b,) of `lengths` (b,) frames."""
        config = self.config
        room = lengths + 2 * config.padding - config.kernel
        outputs = room.div(config.stride, rounding_mode="floor") + 1
        return outputs.clamp(min=0) * (lengths > 0)


class AttentionAdapter(nn.Module):
    """Adapter layers after a conformer, as transformers' `add_adapter` of w2v-BERT."""

    def __init__(
        self, config: CausalConformerContextConfig, adapter: AttentionAdapterConfig
    ) -> None:
        """Create the adapter of a conformer."""
        super().__init__()
        inputs, dim, eps = config.dim, adapter.dim, config.norm_eps
        self.first = (
            FeedForward(inputs, adapter.feed_forward, "relu")
            if adapter.first_feed_forward
            else None
        )
        self.projection = nn.Linear(inputs, dim) if inputs != dim else None
        self.norm = nn.LayerNorm(dim, eps=eps) if inputs != dim else None
        self.layers = nn.ModuleList(
            AttentionAdapterLayer(adapter, config.heads, eps) for _ in range(adapter.layers)
        )

    def forward(self, frames: Frames) -> Frames:
        """Downsample frames (b, n, d) to (b, m, d); both are zero at padding."""
        x, lengths = frames
        if self.first is not None:
            x = x + 0.5 * self.first(x)
        if self.projection is not None and self.norm is not None:
            x = self.norm(self.projection(x))
        frames = Frames(zero_padding(x, lengths), lengths)
        for layer in self.layers:
            frames = layer(frames)
        return frames
