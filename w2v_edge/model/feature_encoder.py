"""Feature encoders: from waveform to features, one class per published kind.

Source: wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), section 2 and 4.2; the norms as in
fairseq's `ConvFeatureExtractionModel` ("default" and "layer_norm" modes).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor, nn

from w2v_edge.model.config import ConvLayer, FeatureEncoderConfig, LogMelConfig
from w2v_edge.model.padding import Frames, frame_lengths, valid_steps, zero_padding


class FeatureEncoder(nn.Module):
    """Base of all feature encoders."""

    config: FeatureEncoderConfig | LogMelConfig

    def forward(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Encode a padded batch.

        Args:
            waveform: (b, t) PCM in [-1, 1]; samples past `lengths` are ignored.
            lengths: (b,) valid samples of each utterance.

        Returns:
            Features (b, n, d), n the frames of t samples, and their valid lengths (b,).
        """
        raise NotImplementedError


class ConvFeatureEncoder(FeatureEncoder):
    """Base of strided convolutions: applies the blocks and tracks valid lengths."""

    config: FeatureEncoderConfig

    def __init__(self, config: FeatureEncoderConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (1, *(layer.channels for layer in config.layers[:-1]))
        self.blocks = nn.ModuleList(
            self.build_block(i, channels, layer)
            for i, (channels, layer) in enumerate(zip(inputs, config.layers, strict=True))
        )

    @property
    def convolutions(self) -> list[nn.Conv1d]:
        """The convolution of each block."""
        return [cast("nn.Conv1d", block.conv) for block in self.blocks]

    @property
    def norms(self) -> list[nn.Module]:
        """The norms of the blocks, without blocks that have none."""
        norms = (getattr(block, "norm", None) for block in self.blocks)
        return [norm for norm in norms if norm is not None]

    def build_block(self, index: int, inputs: int, layer: ConvLayer) -> nn.Module:
        """Build block `index`, from `inputs` channels to the layer's."""
        raise NotImplementedError

    def forward(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Encode a padded batch; see `FeatureEncoder.forward`."""
        geometry = self.config.geometry
        frames = geometry.frames(waveform.shape[1])
        # Pad to the receptive field, the shortest input of the convolutions; the frames that this
        # adds are cut below.
        missing = max(0, geometry.receptive_field - waveform.shape[1])
        waveform = torch.where(valid_steps(lengths, waveform.shape[1]), waveform, 0.0)
        x = self.enter(F.pad(waveform, (0, missing)))
        steps = lengths
        for block, layer in zip(self.blocks, self.config.layers, strict=True):
            x = block(x, steps)
            steps = (steps + 2 * layer.padding - layer.kernel).div(
                layer.stride, rounding_mode="floor"
            ) + 1
            steps = steps.clamp(min=0)
        valid = frame_lengths(geometry, lengths)
        return Frames(zero_padding(self.leave(x)[:, :frames], valid), valid)

    def enter(self, waveform: Tensor) -> Tensor:
        """Return waveform (b, t) in the blocks' layout."""
        return rearrange(waveform, "b t -> b 1 t")

    def leave(self, x: Tensor) -> Tensor:
        """Return the last block's output as (b, n, d)."""
        return rearrange(x, "b d n -> b n d")


class _PaddedBlock(nn.Module):
    def __init__(self, inputs: int, layer: ConvLayer, *, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            inputs, layer.channels, layer.kernel, layer.stride, layer.padding, bias=bias
        )

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Convolve x (b, d, n) with `steps` (b,) valid steps; invalid steps count as zeros."""
        valid = rearrange(valid_steps(steps, x.shape[2]), "b n -> b 1 n")
        return F.gelu(self.conv(torch.where(valid, x, 0.0)))


class PaddedFeatureEncoder(ConvFeatureEncoder):
    """The `tutorial` architecture: zero-padded convolutions with GELU, without norms."""

    def build_block(self, index: int, inputs: int, layer: ConvLayer) -> nn.Module:  # noqa: ARG002
        """Return a padded convolution and GELU."""
        return _PaddedBlock(inputs, layer, bias=self.config.bias)


class MaskedChannelNorm(nn.Module):
    """Group norm with one group per channel, with statistics over valid steps only."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Normalise x (b, d, n) over its first `steps` (b,) steps."""
        valid = rearrange(valid_steps(steps, x.shape[2]), "b n -> b 1 n")
        count = rearrange(steps.clamp(min=1), "b -> b 1 1")
        mean = reduce(torch.where(valid, x, 0.0), "b d n -> b d 1", "sum") / count
        centred = torch.where(valid, x - mean, 0.0)
        # x is the largest tensor of the model: no copy of it is made for the squares.
        squares = einsum(centred, centred, "b d n, b d n -> b d")
        scale = torch.rsqrt(rearrange(squares, "b d -> b d 1") / count + self.eps)
        scale = scale * rearrange(self.weight, "d -> d 1")
        return torch.addcmul(rearrange(self.bias, "d -> d 1"), centred, scale)


class _GroupNormBlock(nn.Module):
    def __init__(self, inputs: int, layer: ConvLayer, *, bias: bool, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, layer.channels, layer.kernel, layer.stride, bias=bias)
        self.norm = MaskedChannelNorm(layer.channels) if norm else None
        self.layer = layer

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Convolve x (b, d, n) with `steps` (b,) valid steps."""
        x = self.conv(x)
        if self.norm is not None:
            outputs = (steps - self.layer.kernel).div(self.layer.stride, rounding_mode="floor") + 1
            x = self.norm(x, outputs.clamp(min=0))
        return F.gelu(x)


class GroupNormFeatureEncoder(ConvFeatureEncoder):
    """BASE: a group norm over the whole utterance after the first convolution."""

    def build_block(self, index: int, inputs: int, layer: ConvLayer) -> nn.Module:
        """Return a convolution, a group norm (first layer only) and GELU."""
        return _GroupNormBlock(inputs, layer, bias=self.config.bias, norm=index == 0)


class _LayerNormBlock(nn.Module):
    def __init__(self, inputs: int, layer: ConvLayer, *, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, layer.channels, layer.kernel, layer.stride, bias=bias)
        self.norm = nn.LayerNorm(layer.channels)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:  # noqa: ARG002
        """Convolve x (b, n, d); without padding, valid outputs depend on valid inputs only."""
        return F.gelu(self.norm(convolve_rows(x, self.conv)))


def convolve_rows(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Convolve x (b, n, d) without padding to (b, m, out), as matrix products, channels last.

    Layer norm needs channels last and `nn.Conv1d` channels first: transposing between them would
    take half of a training step. Steps are grouped by `stride`, and each group is multiplied by its
    part of the kernel.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    outputs = (x.shape[1] - kernel) // stride + 1
    weight = rearrange(conv.weight, "o i k -> o k i")
    y = x.new_zeros(())
    for first in range(0, kernel, stride):
        width = min(stride, kernel - first)
        steps = x[:, first : first + (outputs - 1) * stride + width]
        # Groups do not overlap; the last may be short of steps that this part does not use.
        steps = F.pad(steps, (0, 0, 0, outputs * stride - steps.shape[1]))
        rows = rearrange(steps, "b (n s) i -> b n s i", s=stride)[:, :, :width]
        part = F.linear(
            rearrange(rows, "b n s i -> b n (s i)"),
            rearrange(weight[:, first : first + width], "o k i -> o (k i)"),
            conv.bias if first == 0 else None,
        )
        y = part if first == 0 else y + part
    return y


class LayerNormFeatureEncoder(ConvFeatureEncoder):
    """LARGE: a layer norm after each convolution, no statistics over the utterance."""

    def enter(self, waveform: Tensor) -> Tensor:
        """Return waveform (b, t) as (b, t, 1), channels last."""
        return rearrange(waveform, "b t -> b t 1")

    def leave(self, x: Tensor) -> Tensor:
        """Return x (b, n, d) unchanged."""
        return x

    def build_block(self, index: int, inputs: int, layer: ConvLayer) -> nn.Module:  # noqa: ARG002
        """Return a convolution, a layer norm over channels, and GELU."""
        return _LayerNormBlock(inputs, layer, bias=self.config.bias)


FEATURE_ENCODERS: dict[str, type[ConvFeatureEncoder]] = {
    "padded": PaddedFeatureEncoder,
    "group_norm": GroupNormFeatureEncoder,
    "layer_norm": LayerNormFeatureEncoder,
}
