"""Whole-utterance statistics: of the waveform, and of the first convolution's channels.

Normalisation of the waveform needs its mean and variance. The group-norm front end needs those of
each channel of convolution 0. The convolution is linear, so they follow from the mean m and the
covariance C of its input windows:  mean = w . m,  variance = w' C w.  This needs no pass over the
wide activation and excludes padding exactly. Moments are summed in float64: a filter may select
high frequencies, 60 dB below the low ones.
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
        # Neither factor is a transpose of the other: onnxruntime 1.20 fuses a transpose and a
        # product into an operator that it has for float32 only.
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
    """Statistics vector of the front end from summed moments.

    Args:
        conv: first convolution, if it is normed over the utterance; else None.
    """

    def __init__(self, conv: nn.Conv1d | None) -> None:
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
            sums: (b, 1) sums of the samples, float64; None if the waveform is not normalised.
            squares: (b, 1) sums of their squares, float64; None without normalisation.
            samples: (b,) number of samples, int64, at least 1; None without normalisation.
            total: (b, k) sums of the windows, float64; None without a norm over the utterance.
            products: (b, k, k) sums of their products, float64; None without that norm.
            windows: (b,) number of windows, int64, at least 1; None without that norm.

        Returns:
            Mean and variance of the waveform, if it is normalised; then mean and variance of each
            channel (2 d), without the bias, if the convolution is normed. All refer to the
            unnormalised waveform, so that statistics of two chunks can be merged.
        """
        statistics: list[Tensor] = []
        if sums is not None and squares is not None and samples is not None:
            count = samples.to(torch.float64).unsqueeze(1)
            mean = sums / count
            statistics += [mean, (squares / count - mean * mean).clamp(min=0)]
        if total is not None and products is not None and windows is not None:
            count = windows.to(torch.float64)
            mean = total / count.unsqueeze(1)
            covariance = products / count[:, None, None] - mean.unsqueeze(2) * mean.unsqueeze(1)
            statistics += self._channels(mean, covariance)
        return torch.cat(statistics, dim=1).to(torch.float32)

    def _channels(self, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        """Map the mean (b, k) and covariance (b, k, k) of the windows to each channel's (b, d)."""
        weight = known(self.conv).weight.T.to(torch.float64)
        variance = (torch.matmul(weight, covariance) * weight).sum(dim=2).clamp(min=0)
        return (mean.unsqueeze(1) * weight).sum(dim=2), variance
