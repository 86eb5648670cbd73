"""Modules that adapt a finished transformer: to a language, or to fewer frames."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.config import ConvAdapterConfig
from w2v_edge.model.lengths import Frames, zero_padding


class LanguageAdapter(nn.Module):
    """A bottleneck to be added to a block's output, of which each language has its own.

    Source: MMS (arXiv 2305.13516), section 4.3.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.contract = nn.Linear(dim, hidden)
        self.expand = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        expanded: Tensor = self.expand(F.relu(self.contract(self.norm(x))))
        return expanded


class ConvAdapter(nn.Module):
    """Strided, gated convolutions over context vectors, as in transformers' `add_adapter`."""

    def __init__(self, inputs: int, config: ConvAdapterConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.projection = nn.Linear(inputs, dim) if inputs != dim else None
        self.norm = nn.LayerNorm(dim) if inputs != dim else None
        self.layers = nn.ModuleList(
            nn.Conv1d(dim, 2 * dim, config.kernel, config.stride, config.padding)
            for _ in range(config.layers)
        )

    def forward(self, frames: Frames) -> Frames:
        """Map frames (b, n, d), zero at padding, to fewer (b, m, d), zero at padding too."""
        x, lengths = frames
        if self.projection is not None and self.norm is not None:
            x = zero_padding(self.norm(self.projection(x)), lengths)
        for conv in self.layers:
            lengths = self._fewer(lengths)
            x = self._convolve(conv, x)
            x = zero_padding(x, lengths)
        return Frames(x, lengths)

    def _convolve(self, conv: nn.Module, x: Tensor) -> Tensor:
        shortest = self.config.kernel - 2 * self.config.padding
        if x.shape[1] < max(1, shortest):
            return x.new_zeros(len(x), 0, self.config.dim)
        y = F.glu(conv(rearrange(x, "b n d -> b d n")), dim=1)
        return rearrange(y, "b d n -> b n d")

    def _fewer(self, lengths: Tensor) -> Tensor:
        """Return how many frames (b,) a convolution leaves of `lengths` (b,)."""
        config = self.config
        room = lengths + 2 * config.padding - config.kernel
        fewer = room.div(config.stride, rounding_mode="floor") + 1
        return fewer.clamp(min=0) * (lengths > 0)
