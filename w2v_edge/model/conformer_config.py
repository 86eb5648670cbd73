"""The configuration of conformer context networks and of adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from w2v_edge.model.validation import Layers, Natural, Positive, PositiveReal, Share

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "swish"]
"""Activation of feed-forward layers; `gelu_tanh` and `quick_gelu` approximate GELU."""


@dataclass(frozen=True)
class ConvAdapterConfig:
    """Strided gated convolutions after the transformer, which downsample its frames.

    Attributes:
        dim: channels; a linear projection precedes if the transformer has another width.
        layers: number of convolutions.
        kernel: width in frames.
        stride: in frames.
        padding: in frames, on both sides.
    """

    dim: Positive
    layers: Layers
    kernel: Positive
    stride: Positive
    padding: Natural = 1

    def frames(self, frames: int) -> int:
        """Return the output frames of `frames` input frames."""
        for _ in range(self.layers):
            frames = convolved_frames(frames, self.kernel, self.stride, self.padding)
        return frames

    def needed(self, frames: int) -> int:
        """Return the fewest input frames that give `frames` output frames."""
        for _ in range(self.layers):
            frames = frames_to_convolve(frames, self.kernel, self.stride, self.padding)
        return frames


@dataclass(frozen=True)
class AttentionAdapterConfig:
    """Adapter layers of w2v-BERT: strided gated convolutions, attention and feed-forward.

    Attributes:
        dim: channels; a linear projection precedes if the conformer has another width.
        layers: number of adapter layers.
        kernel: width of the convolutions in frames.
        stride: in frames.
        padding: in frames, on both sides.
        feed_forward: hidden width of the feed-forward layers.
        activation: of the feed-forward layers.
        first_feed_forward: whether a half-step feed-forward layer precedes the adapter layers.
    """

    dim: Positive
    layers: Layers
    kernel: Positive
    stride: Positive
    padding: Natural
    feed_forward: Positive
    activation: Activation = "relu"
    first_feed_forward: bool = False

    def frames(self, frames: int) -> int:
        """Return the output frames of `frames` input frames."""
        for _ in range(self.layers):
            frames = self.convolved(frames)
        return frames

    def needed(self, frames: int) -> int:
        """Return the fewest input frames that give `frames` output frames."""
        for _ in range(self.layers):
            frames = frames_to_convolve(frames, self.kernel, self.stride, self.padding)
        return frames

    def convolved(self, frames: int) -> int:
        """Return the frames after one layer."""
        return convolved_frames(frames, self.kernel, self.stride, self.padding)


def convolved_frames(frames: int, kernel: int, stride: int, padding: int) -> int:
    """Return the output frames of a convolution; none for no frames, whatever the padding."""
    room = frames + 2 * padding - kernel
    return room // stride + 1 if frames and room >= 0 else 0


def frames_to_convolve(frames: int, kernel: int, stride: int, padding: int) -> int:
    """Return the fewest input frames of which a convolution gives `frames` output frames."""
    return max(1, (frames - 1) * stride + kernel - 2 * padding) if frames else 0


@dataclass(frozen=True)
class RotaryPositionConfig:
    """Queries and keys are rotated by their position (RoFormer, arXiv 2104.09864).

    Attributes:
        base: of the geometric series of periods.
        precision: type that the series was rounded to, as checkpoints in half precision store it.
    """

    base: PositiveReal
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    kind: Literal["rotary"] = "rotary"


@dataclass(frozen=True)
class SinusoidPositionConfig:
    """A score for the sinusoids of each distance (Transformer-XL, arXiv 1901.02860, 3.3)."""

    kind: Literal["relative"] = "relative"


@dataclass(frozen=True)
class DistancePositionConfig:
    """A score for the learned vector of each distance (Shaw et al., arXiv 1803.02155).

    Attributes:
        left: distance from which all keys before the query share a vector, in frames.
        right: the same for keys after it.
    """

    left: Natural
    right: Natural
    kind: Literal["relative_key"] = "relative_key"


PositionConfig = RotaryPositionConfig | SinusoidPositionConfig | DistancePositionConfig


@dataclass(frozen=True)
class ConformerContextConfig:
    """The conformer of wav2vec2-Conformer: centred convolutions with batch norm.

    Attributes:
        dim: channels.
        layers: number of blocks.
        heads: attention heads.
        feed_forward: hidden width of the feed-forward layers.
        kernel: width of the depthwise convolutions, in frames.
        activation: of the feed-forward and convolution modules.
        position: encoding of positions in the attention, if any.
        dropout: probability, in training.
        layer_drop: probability that a block is skipped, in training.
        norm_eps: added to the variance in the norms before and after the blocks.
        final_norm: whether a norm follows the blocks; false if the network was cut at one.
        adapter: strided convolutions after the blocks, if any.
    """

    dim: Positive
    layers: Layers
    heads: Positive
    feed_forward: Positive
    kernel: Positive
    activation: Activation
    position: PositionConfig | None
    dropout: Share = 0.0
    layer_drop: Share = 0.0
    norm_eps: PositiveReal = 1e-5
    final_norm: bool = True
    adapter: ConvAdapterConfig | None = None
    kind: Literal["conformer"] = "conformer"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim if self.adapter is None else self.adapter.dim

    def cut(self, layers: int) -> ConformerContextConfig:
        """Return the network of the first `layers` blocks, with no norm after them."""
        return replace(self, layers=layers, final_norm=False, adapter=None)


@dataclass(frozen=True)
class CausalConformerContextConfig:
    """The conformer of w2v-BERT 2.0: causal convolutions with layer norm, no norm at the end.

    Attributes:
        dim: channels.
        layers: number of blocks.
        heads: attention heads, of the adapter too.
        feed_forward: hidden width of the feed-forward layers.
        kernel: width of the depthwise convolutions, in frames.
        activation: of the feed-forward and convolution modules.
        position: encoding of positions in the attention, if any.
        dropout: probability, in training.
        layer_drop: probability that a block is skipped, in training.
        norm_eps: added to the variance in layer norms.
        adapter: adapter layers after the blocks, if any.
    """

    dim: Positive
    layers: Layers
    heads: Positive
    feed_forward: Positive
    kernel: Positive
    activation: Activation
    position: PositionConfig | None
    dropout: Share = 0.0
    layer_drop: Share = 0.0
    norm_eps: PositiveReal = 1e-5
    adapter: AttentionAdapterConfig | None = None
    kind: Literal["causal_conformer"] = "causal_conformer"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim if self.adapter is None else self.adapter.dim

    def cut(self, layers: int) -> CausalConformerContextConfig:
        """Return the network of the first `layers` blocks."""
        return replace(self, layers=layers, adapter=None)


AnyConformerConfig = ConformerContextConfig | CausalConformerContextConfig
