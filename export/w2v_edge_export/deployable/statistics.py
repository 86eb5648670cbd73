"""Whole-utterance statistics of the group-norm front end, from moments of the waveform.

Convolution 0 is linear, so each channel's mean and variance over the utterance follow from the
mean and the covariance of the windows it sees:  mean = w . m,  variance = w' C w.  No pass over the
wide activation is needed, and padding is left out exactly. A filter may look at what little energy
speech has at high frequencies, next to low ones 60 dB above: moments are summed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.config import ConvLayer
from w2v_edge_export.deployable.layers import Conv, valid_steps


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


class ChannelStatistics(nn.Module):
    """From summed moments to each channel's mean and variance."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = Conv(conv)

    def forward(self, total: Tensor, products: Tensor, windows: Tensor) -> Tensor:
        """Map sums over `windows` (b,) windows to `statistics` (b, 2 d), float32.

        Args:
            total: (b, k) float64.
            products: (b, k, k) float64.
            windows: (b,) int64, at least 1.
        """
        count = windows.to(torch.float64)
        weight = self.conv.weight.T.to(torch.float64)
        mean = total / count.unsqueeze(1)
        spread = products / count[:, None, None] - mean.unsqueeze(2) * mean.unsqueeze(1)
        variance = (torch.matmul(weight, spread) * weight).sum(dim=2).clamp(min=0)
        channel_mean = (mean.unsqueeze(1) * weight).sum(dim=2)
        if self.conv.bias is not None:
            channel_mean = channel_mean + self.conv.bias.to(torch.float64)
        return torch.cat([channel_mean, variance], dim=1).to(torch.float32)
