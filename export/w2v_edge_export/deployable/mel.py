"""Inference twins of the mel energies and of their statistics over the utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.config import MEL_HOP, MEL_WINDOW
from w2v_edge.model.mel import (
    MEL_FLOOR,
    VARIANCE_EPS,
    LogMelFeatureEncoder,
    mel_filters,
    spectrum_matrix,
)
from w2v_edge_export.deployable.frontend import FrontendTile
from w2v_edge_export.deployable.layers import valid_steps


class LogMel(nn.Module):
    """Logarithmic mel energies; products are in float64, see `w2v_edge.model.mel`."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(spectrum_matrix(), requires_grad=False)
        self.filters = nn.Parameter(mel_filters(bins), requires_grad=False)

    def forward(self, tile: Tensor) -> Tensor:
        """Return the energies (b, n, bins), float32, of a tile (b, (n + 2) * hop) of samples."""
        blocks = tile.to(torch.float64).reshape(tile.shape[0], -1, MEL_HOP)
        shifts = -(-MEL_WINDOW // MEL_HOP)
        count = blocks.shape[1] - shifts + 1
        seen = torch.cat([blocks[:, i : i + count] for i in range(shifts)], dim=2)
        parts = torch.matmul(seen[:, :, :MEL_WINDOW], self.spectrum)
        real, imaginary = parts.chunk(2, dim=2)
        power = real * real + imaginary * imaginary
        energies = torch.matmul(power, self.filters).to(torch.float32)
        return torch.log(energies.clamp(min=MEL_FLOOR))


class LogMelFrontendTile(FrontendTile):
    """Mel energies, normalised by their statistics, two frames side by side.

    `statistics` (b, 2 bins) are the mean and the unbiased variance of each bin.
    """

    def __init__(self, encoder: LogMelFeatureEncoder, feature_norm: nn.LayerNorm | None) -> None:
        super().__init__(encoder.config.geometry, feature_norm)
        self.mel = LogMel(encoder.config.bins)

    def forward(self, tile: Tensor, start: Tensor, lengths: Tensor, statistics: Tensor) -> Tensor:
        """Encode a tile; see `FrontendTile`."""
        mean, variance = statistics.unsqueeze(1).chunk(2, dim=2)
        normed = (self.mel(tile) - mean) * torch.rsqrt(variance + VARIANCE_EPS)
        pairs = normed.reshape(tile.shape[0], -1, 2 * normed.shape[2])
        return self.finish(pairs, start, lengths)


class MelMoments(nn.Module):
    """Sums over one tile of the energies and of their squares."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.mel = LogMel(bins)

    def forward(self, tile: Tensor, start: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the frames of a tile that lie within the utterances.

        Args:
            tile: (b, s) samples; frame i of the tile begins at i * 160.
            start: () index of the tile's first frame.
            lengths: (b,) samples of each utterance.

        Returns:
            `total` (b, bins) and `products` (b, bins), float64.
        """
        mels = self.mel(tile)
        valid = valid_steps(lengths, start, mels.shape[1], MEL_HOP, MEL_WINDOW).unsqueeze(2)
        values = torch.where(valid, mels.to(torch.float64), torch.zeros((), dtype=torch.float64))
        return values.sum(dim=1), (values * values).sum(dim=1)


class MelStatistics(nn.Module):
    """Statistics vector of the front end from summed moments."""

    def forward(self, total: Tensor, products: Tensor, windows: Tensor) -> Tensor:
        """Map sums to `statistics` (b, 2 bins), float32: mean and unbiased variance of each bin.

        Args:
            total: (b, bins) sums of the energies, float64.
            products: (b, bins) sums of their squares, float64.
            windows: (b,) number of frames, int64, at least 1; the variance of one is 0.
        """
        count = windows.to(torch.float64).unsqueeze(1)
        mean = total / count
        squares = (products - total * mean).clamp(min=0)
        return torch.cat([mean, squares / (count - 1).clamp(min=1)], dim=1).to(torch.float32)
