"""Configurations of SEW's context networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from w2v_edge.model.validation import Layers, Positive, PositiveReal, Range, Share


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
    kind: Literal["squeezed"] = "squeezed"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim
