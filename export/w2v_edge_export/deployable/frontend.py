"""Inference twins of the feature encoders, for one tile of time.

A tile is a chunk of the waveform with a whole number of frames, or the whole waveform. Frames past
the end of an utterance are zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.bundle.geometry import Geometry
from w2v_edge.model.config import ConvLayer, NormalisationConfig
from w2v_edge.model.feature_encoder import (
    ConvFeatureEncoder,
    GroupNormFeatureEncoder,
    LayerNormFeatureEncoder,
    MaskedChannelNorm,
    PaddedFeatureEncoder,
)
from w2v_edge_export.deployable.layers import Conv, Norm, valid_steps
from w2v_edge_export.deployable.ops import windows


class FrontendTile(nn.Module):
    """Base of the front ends.

    Inputs of `forward`: `tile` (b, s), samples including all that the first and last frame see,
    zero outside the utterances; `start` (), index of the first frame; `lengths` (b,), samples of
    each whole utterance; `statistics` (b, k), if the front end needs them: mean and variance of the
    waveform if it is normalised, then those of the front end's channels.

    Output: `features` (b, n, d), zero at and past each utterance's frames.

    A tile of n frames has n * hop + `overlap` samples, rounded up so that every layer's input is a
    multiple of its stride and no extra frame has to be cut off.
    """

    def __init__(self, geometry: Geometry, feature_norm: nn.LayerNorm | None) -> None:
        super().__init__()
        self.geometry = geometry
        self.feature_norm = None if feature_norm is None else Norm(feature_norm)

    def finish(self, x: Tensor, start: Tensor, lengths: Tensor) -> Tensor:
        """Apply the feature norm and the mask to x (b, n, d)."""
        if self.feature_norm is not None:
            x = self.feature_norm(x)
        valid = _valid(self.geometry, lengths, start, x.shape[1])
        return torch.where(valid.unsqueeze(2), x, torch.zeros((), dtype=x.dtype))


class ConvFrontendTile(FrontendTile):
    """Base of strided convolutions."""

    def __init__(
        self,
        encoder: ConvFeatureEncoder,
        feature_norm: nn.LayerNorm | None,
        normalisation: NormalisationConfig | None,
    ) -> None:
        super().__init__(encoder.config.geometry, feature_norm)
        self.normalisation = normalisation
        self.conv = nn.ModuleList(Conv(conv) for conv in encoder.convolutions)


class PaddedFrontendTile(ConvFrontendTile):
    """Zero-padded convolutions: each layer's input is zeroed outside the utterance."""

    def __init__(
        self,
        encoder: ConvFeatureEncoder,
        feature_norm: nn.LayerNorm | None,
        normalisation: NormalisationConfig | None,
    ) -> None:
        super().__init__(encoder, feature_norm, normalisation)
        convs = [(x.kernel, x.stride, x.padding) for x in encoder.config.layers]
        self.inner = [Geometry.of_convolutions(convs[:i]) for i in range(1, len(convs))]

    def forward(self, tile: Tensor, start: Tensor, lengths: Tensor) -> Tensor:
        """Encode a tile; see `FrontendTile`."""
        zero = torch.zeros((), dtype=tile.dtype)
        first = start * self.geometry.hop - self.geometry.left_padding
        tile = torch.where(valid_steps(lengths, first, tile.shape[1], 1, 1), tile, zero)
        x = nn.functional.gelu(self.conv[0](tile.unsqueeze(2)))
        for conv, inner in zip(list(self.conv)[1:], self.inner, strict=True):
            # Tiles begin at frames, so this is a whole number of the layer's steps.
            ahead = (self.geometry.left_padding - inner.left_padding) // inner.hop
            first = start * (self.geometry.hop // inner.hop) - ahead
            valid = _valid(inner, lengths, first, x.shape[1]).to(x.dtype)
            x = nn.functional.gelu(conv(x * valid.unsqueeze(2)))
        return self.finish(x, start, lengths)


class GroupNormFrontendTile(ConvFrontendTile):
    """BASE's front end: given its statistics, the norm after convolution 0 is an affine map.

    The last 2 d columns of `statistics` are each channel's mean and variance over the utterance,
    without the bias, which the norm cancels. The norm also cancels the scale of the waveform: to
    normalise the waveform, its mean is subtracted and the norm's epsilon is scaled.
    """

    def __init__(
        self,
        encoder: ConvFeatureEncoder,
        feature_norm: nn.LayerNorm | None,
        normalisation: NormalisationConfig | None,
    ) -> None:
        super().__init__(encoder, feature_norm, normalisation)
        norm = cast("MaskedChannelNorm", encoder.norms[0])
        cast("Conv", self.conv[0]).bias = None
        self.eps = norm.eps
        self.norm_weight = nn.Parameter(norm.weight.detach().clone(), requires_grad=False)
        self.norm_bias = nn.Parameter(norm.bias.detach().clone(), requires_grad=False)

    def forward(self, tile: Tensor, start: Tensor, lengths: Tensor, statistics: Tensor) -> Tensor:
        """Encode a tile; see `FrontendTile`."""
        mean, variance = statistics[:, -2 * len(self.norm_bias) :].chunk(2, dim=1)
        first = cast("Conv", self.conv[0])
        eps: float | Tensor = self.eps
        if self.normalisation is not None:
            tile = tile - statistics[:, :1]
            mean = mean - statistics[:, :1] * first.weight.sum(dim=0)
            eps = self.eps * (statistics[:, 1:2] + self.normalisation.eps)
        scale = self.norm_weight * torch.rsqrt(variance + eps)
        shift = self.norm_bias - mean * scale
        # The affine map is folded into the weight, its shift with a column of ones, which saves a
        # pass over the widest activation.
        weight = torch.cat([first.weight * scale.unsqueeze(1), shift.unsqueeze(1)], dim=1)
        seen = windows(tile.unsqueeze(2), first.kernel, first.stride)
        seen = torch.cat([seen, torch.ones_like(seen[:, :, :1])], dim=2)
        x = nn.functional.gelu(torch.matmul(seen, weight))
        for conv in list(self.conv)[1:]:
            x = nn.functional.gelu(conv(x))
        return self.finish(x, start, lengths)


class LayerNormFrontendTile(ConvFrontendTile):
    """LARGE's front end: a layer norm over channels after each convolution."""

    def __init__(
        self,
        encoder: ConvFeatureEncoder,
        feature_norm: nn.LayerNorm | None,
        normalisation: NormalisationConfig | None,
    ) -> None:
        super().__init__(encoder, feature_norm, normalisation)
        self.norm = nn.ModuleList(Norm(cast("nn.LayerNorm", norm)) for norm in encoder.norms)

    def forward(
        self, tile: Tensor, start: Tensor, lengths: Tensor, statistics: Tensor | None = None
    ) -> Tensor:
        """Encode a tile; see `FrontendTile`."""
        if self.normalisation is not None and statistics is not None:
            mean, variance = statistics[:, :1], statistics[:, 1:2]
            tile = (tile - mean) * torch.rsqrt(variance + self.normalisation.eps)
        x = tile.unsqueeze(2)
        for conv, norm in zip(self.conv, self.norm, strict=True):
            x = nn.functional.gelu(norm(conv(x)))
        return self.finish(x, start, lengths)


def overlap(layers: Iterable[ConvLayer]) -> int:
    """Return the samples of a tile beyond the hops of its frames; see `FrontendTile`."""
    samples = 0
    for layer in reversed(list(layers)):
        samples = (samples + -(-layer.kernel // layer.stride) - 1) * layer.stride
    return samples


def _valid(geometry: Geometry, lengths: Tensor, first: Tensor, steps: int) -> Tensor:
    padding = geometry.left_padding + geometry.right_padding
    return valid_steps(lengths, first, steps, geometry.hop, geometry.receptive_field - padding)


FRONTEND_TILES: dict[type[ConvFeatureEncoder], type[ConvFrontendTile]] = {
    PaddedFeatureEncoder: PaddedFrontendTile,
    GroupNormFeatureEncoder: GroupNormFrontendTile,
    LayerNormFeatureEncoder: LayerNormFrontendTile,
}
