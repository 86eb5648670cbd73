"""Standardisation of an output by stored statistics of its channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.padding import Frames, zero_padding


class Standardisation(nn.Module):
    """(x - mean) / std per channel, as codecs on top of w2v-BERT 2.0 take a hidden state.

    Source: the semantic features of MaskGCT (arXiv 2409.00750) and IndexTTS2, whose statistics are
    in `wav2vec2bert_stats.pt`.

    Attributes:
        mean: (d,) of each channel.
        std: (d,) standard deviation of each channel, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        """Create the statistics of `dim` channels, which standardise nothing."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, frames: Frames) -> Tensor:
        """Standardise frames (b, n, d); zero at padding."""
        return zero_padding((frames.values - self.mean) / self.std, frames.lengths)
