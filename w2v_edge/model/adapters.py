"""Adapters of a trained transformer: language adapters, and the strided convolutional adapter."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.conformer_config import ConvAdapterConfig
from w2v_edge.model.padding import Frames, zero_padding


class LanguageAdapter(nn.Module):
    """A residual bottleneck after a transformer block, one per language.

    Source: MMS (arXiv 2305.13516), section 4.3.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        """Create the bottleneck, `dim` channels in and out and `hidden` inside."""
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.contract = nn.Linear(dim, hidden)
        self.expand = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual (b, n, d) of x (b, n, d)."""
        expanded: Tensor = self.expand(F.relu(self.contract(self.norm(x))))
        return expanded


class ConvAdapter(nn.Module):
    """Strided convolutions with GLU after the transformer, as transformers' `add_adapter`."""

    def __init__(self, inputs: int, config: ConvAdapterConfig) -> None:
        """Create the adapter of a transformer `inputs` channels wide."""
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
        """Downsample frames (b, n, d) to (b, m, d); both are zero at padding."""
        x, lengths = frames
        if self.projection is not None and self.norm is not None:
            x = zero_padding(self.norm(self.projection(x)), lengths)
        for conv in self.layers:
            lengths = self._output_lengths(lengths)
            x = self._convolve(conv, x)
            x = zero_padding(x, lengths)
        return Frames(x, lengths)

    def _convolve(self, conv: nn.Module, x: Tensor) -> Tensor:
        shortest = max(1, self.config.kernel - 2 * self.config.padding)
        if x.shape[1] < shortest:
            return x.new_zeros(len(x), 0, self.config.dim)
        y = F.glu(conv(rearrange(x, "b n d -> b d n")), dim=1)
        return rearrange(y, "b d n -> b n d")

    def _output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the output frames (b,) of one convolution over `lengths` (b,) frames."""
        config = self.config
        room = lengths + 2 * config.padding - config.kernel
        outputs = room.div(config.stride, rounding_mode="floor") + 1
        return outputs.clamp(min=0) * (lengths > 0)
