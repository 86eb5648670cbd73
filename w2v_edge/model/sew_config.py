"""Configurations of SEW's context networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from w2v_edge.model.conformer_config import Activation
from w2v_edge.model.validation import Layers, Natural, Positive, PositiveReal, Range, Share


@dataclass(frozen=True)
class SqueezedContextConfig:
    """SEW's transformer, which sees the mean of every `squeeze` frames.

    Its output is widened to the rate of its input; frames left over at the end of an utterance
    have a context of zeros.

    Attributes:
        dim: channels.
        layers: number of post-norm blocks.
        heads: attention heads.
        feed_forward: hidden width of the feed-forward layers.
        position_kernel: width of the positional convolution, in frames of the input.
        position_groups: its groups.
        squeeze: frames that are one frame of the transformer.
        dropout: probability, in training.
        layer_drop: probability that a block is skipped, in training.
        norm_eps: added to the variance in layer norms.
        activation: of the feed-forward layers.
    """

    dim: Positive
    layers: Layers
    heads: Positive
    feed_forward: Positive
    position_kernel: Positive
    position_groups: Positive
    squeeze: Annotated[int, Range(1, 16)]
    dropout: Share = 0.0
    layer_drop: Share = 0.0
    norm_eps: PositiveReal = 1e-5
    activation: Activation = "gelu"
    kind: Literal["squeezed"] = "squeezed"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim


@dataclass(frozen=True)
class DisentangledContextConfig:
    """SEW-D's context network: SEW's, with DeBERTa's disentangled attention.

    Attributes:
        dim: channels.
        layers: number of post-norm blocks.
        heads: attention heads.
        feed_forward: hidden width of the feed-forward layers.
        position_kernel: width of the positional convolution, in frames of the input.
        position_groups: its groups.
        squeeze: frames that are one frame of the transformer.
        max_distance: distance in frames of the transformer from which all are alike.
        buckets: buckets of distances per direction, logarithmic for long ones; 0 for one each.
        position_keys: whether queries attend to distances (c2p).
        position_queries: whether distances attend to keys (p2c).
        shared: whether the projections of keys and queries also project distances.
        position_norm: whether the embeddings of distances are layer-normed.
        dropout: probability, in training.
        layer_drop: probability that a block is skipped, in training.
        norm_eps: added to the variance in layer norms of the blocks.
        feature_norm_eps: added to the variance in the layer norm of the features.
        activation: of the feed-forward layers.
    """

    dim: Positive
    layers: Layers
    heads: Positive
    feed_forward: Positive
    position_kernel: Positive
    position_groups: Positive
    squeeze: Annotated[int, Range(1, 16)]
    max_distance: Positive
    buckets: Natural
    position_keys: bool
    position_queries: bool
    shared: bool
    position_norm: bool
    dropout: Share = 0.0
    layer_drop: Share = 0.0
    norm_eps: PositiveReal = 1e-7
    feature_norm_eps: PositiveReal = 1e-5
    activation: Activation = "gelu"
    kind: Literal["disentangled"] = "disentangled"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim

    @property
    def span(self) -> int:
        """Embeddings of distances per direction."""
        return self.buckets or self.max_distance


SewContextConfig = SqueezedContextConfig | DisentangledContextConfig
