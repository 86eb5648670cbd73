"""Positional convolutions: where a frame is, told by its neighbours.

Source: wav2vec 2.0 (arXiv 2006.11477), section 2; the stack is data2vec's (arXiv 2202.03555).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from w2v_edge.model.config import TransformerContextConfig
from w2v_edge.model.lengths import Frames, zero_padding


class PositionalConv(nn.Module):
    """A wide grouped convolution over frames and GELU, to be added to its input."""

    def __init__(self, dim: int, kernel: int, groups: int, *, normed: bool) -> None:
        super().__init__()
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        self.conv = weight_norm(conv, dim=2) if normed else conv

    def forward(self, frames: Frames) -> Tensor:
        """Map frames (b, n, d), zero at padding, to the same shape."""
        return F.gelu(convolve(self.conv, frames.values))


class BatchNormPositionalConv(PositionalConv):
    """The same over batch-normed frames, as in some HuBERT checkpoints."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__(dim, kernel, groups, normed=False)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, frames: Frames) -> Tensor:
        """Map frames (b, n, d), zero at padding, to the same shape."""
        normed = rearrange(self.norm(rearrange(frames.values, "b n d -> b d n")), "b d n -> b n d")
        # The convolution's own padding is zeros, so what lies past an utterance must be too.
        return super().forward(Frames(zero_padding(normed, frames.lengths), frames.lengths))


class PositionalConvStack(nn.Module):
    """Several convolutions, each followed by a norm without parameters and GELU."""

    def __init__(self, dim: int, kernel: int, groups: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups) for _ in range(layers)
        )

    def forward(self, frames: Frames) -> Tensor:
        """Map frames (b, n, d), zero at padding, to the same shape."""
        x = frames.values
        for conv in self.layers:
            x = F.gelu(F.layer_norm(convolve(conv, x), x.shape[2:]))
            x = zero_padding(x, frames.lengths)
        return x


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """Convolve x (b, n, d) over frames, to the same shape."""
    # oneDNN's grouped convolution of bfloat16 with an even kernel is wrong by its own size, and
    # silently so (torch 2.13, on a processor with AMX): halves are no gain here.
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = conv(rearrange(x.float(), "b n d -> b d n"))
    # An even kernel gives one frame more than it got.
    return rearrange(y[:, :, : x.shape[1]], "b d n -> b n d")


def positional_conv(config: TransformerContextConfig) -> nn.Module:
    """Return the positional convolution of a network."""
    dim, kernel, groups = config.dim, config.position_kernel, config.position_groups
    if config.position == "output_norm":
        return PositionalConvStack(dim, kernel, groups, config.position_layers)
    if config.position == "batch_norm":
        return BatchNormPositionalConv(dim, kernel, groups)
    return PositionalConv(dim, kernel, groups, normed=True)
