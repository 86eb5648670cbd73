"""Whole-utterance statistics: of the waveform, and of the first convolution's channels.

A waveform that is normalised needs its mean and variance. In the group-norm front end each channel
of convolution 0 needs its own; it is linear, so they follow from the mean and the covariance of the
windows it sees:  mean = w . m,  variance = w' C w.  No pass over the wide activation is needed, and
padding is left out exactly. A filter may look at what little energy speech has at high frequencies,
next to low ones 60 dB above: moments are summed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.config import ConvLayer
from w2v_edge_export.deployable.layers import Conv, valid_steps
from w2v_edge_export.graph_builder import known


class WindowMoments(nn.Module):
    """Sums over one tile of the windows and of their outer products."""

    def __init__(self, layer: ConvLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tile: Tensor, start: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the windows of a tile that lie within the utterances.

        Args:
            tile: (b, s) samples; window i of the tile begins at i * stride.
            start: () index of the tile's first window.
            lengths: (b,) samples of each utterance.

        Returns:
            `total` (b, k) and `products` (b, k, k), float64.
        """
        kernel, stride = self.layer.kernel, self.layer.stride
        shifts = -(-kernel // stride)
        blocks = tile.reshape(tile.shape[0], -1, stride)
        count = blocks.shape[1] - shifts + 1
        valid = valid_steps(lengths, start, count, stride, kernel)
        # Both factors of the product are laid out on their own: onnxruntime 1.20 turns a product
        # with a transposed factor into an operator that it has for float32 only.
        across = torch.cat([blocks[:, i : i + count] for i in range(shifts)], dim=2)
        across = _masked(across[:, :, :kernel], valid.unsqueeze(2))
        blocks = blocks.transpose(1, 2)
        along = torch.cat([blocks[:, :, i : i + count] for i in range(shifts)], dim=1)
        along = _masked(along[:, :kernel], valid.unsqueeze(1))
        return along.sum(dim=2), torch.matmul(along, across)


def _masked(x: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, x.to(torch.float64), torch.zeros((), dtype=torch.float64))


class SampleMoments(nn.Module):
    """Sums over one tile of the samples and of their squares."""

    def forward(self, tile: Tensor, start: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the samples of a tile that lie within the utterances.

        Args:
            tile: (b, s) samples.
            start: () index of the tile's first sample.
            lengths: (b,) samples of each utterance.

        Returns:
            `sums` (b, 1) and `squares` (b, 1), float64.
        """
        samples = _masked(tile, valid_steps(lengths, start, tile.shape[1], 1, 1))
        return samples.sum(dim=1, keepdim=True), (samples * samples).sum(dim=1, keepdim=True)


class UtteranceStatistics(nn.Module):
    """From summed moments to what the front end needs."""

    def __init__(self, conv: nn.Conv1d | None) -> None:
        """Build for a front end whose first convolution `conv` is normed over the utterance."""
        super().__init__()
        self.conv = None if conv is None else Conv(conv)
        if self.conv is not None:
            self.conv.bias = None

    def forward(
        self,
        sums: Tensor | None = None,
        squares: Tensor | None = None,
        samples: Tensor | None = None,
        total: Tensor | None = None,
        products: Tensor | None = None,
        windows: Tensor | None = None,
    ) -> Tensor:
        """Map sums to `statistics` (b, k), float32.

        Args:
            sums: (b, 1) of the samples, float64; None where the waveform is not normalised.
            squares: (b, 1) of their squares, float64; None without normalisation.
            samples: (b,) number of samples, int64, at least 1; None without normalisation.
            total: (b, k) of the windows, float64; None where there is no norm over the utterance.
            products: (b, k, k) of their products, float64; None without that norm.
            windows: (b,) number of windows, int64, at least 1; None without that norm.

        Returns:
            The waveform's mean and variance, where it is normalised; then the mean and variance of
            each channel (2 d), without a bias, where it is normed. All refer to the unnormalised
            waveform, so that the statistics of two chunks combine by the usual sums.
        """
        statistics: list[Tensor] = []
        if sums is not None and squares is not None and samples is not None:
            count = samples.to(torch.float64).unsqueeze(1)
            mean = sums / count
            statistics += [mean, (squares / count - mean * mean).clamp(min=0)]
        if total is not None and products is not None and windows is not None:
            count = windows.to(torch.float64)
            seen = total / count.unsqueeze(1)
            spread = products / count[:, None, None] - seen.unsqueeze(2) * seen.unsqueeze(1)
            statistics += self._channels(seen, spread)
        return torch.cat(statistics, dim=1).to(torch.float32)

    def _channels(self, mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Map the mean (b, k) and covariance (b, k, k) of the windows to each channel's (b, d)."""
        weight = known(self.conv).weight.T.to(torch.float64)
        variance = (torch.matmul(weight, spread) * weight).sum(dim=2).clamp(min=0)
        return (mean.unsqueeze(1) * weight).sum(dim=2), variance
