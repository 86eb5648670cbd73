"""Heads: from context vectors to logits of labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from w2v_edge.model.config import (
    CtcHeadConfig,
    FrameHeadConfig,
    HeadConfig,
    UtteranceHeadConfig,
)
from w2v_edge.model.lengths import Frames, valid_steps, zero_padding


class Head(nn.Module):
    """What all heads share: the choice of what they read."""

    def __init__(self, layers: int | None, *, normed: bool = False) -> None:
        """Build a head.

        Args:
            layers: blocks whose input and outputs it mixes; None to read the context alone.
            normed: whether the context takes the place of the last block's output in the mix.
        """
        super().__init__()
        self.normed = normed
        self.layer_weights = None if layers is None else nn.Parameter(torch.empty(layers + 1))

    def read(self, context: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Return what is classified: the context (b, n, d), or the mix of states of that shape."""
        if self.layer_weights is None:
            return context
        states = [*states[:-1], context] if self.normed else states
        mixed = torch.zeros_like(context)
        for weight, state in zip(self.layer_weights.softmax(dim=0), states, strict=True):
            mixed = mixed + weight * state
        return mixed

    def forward(self, context: Frames, states: Sequence[Tensor]) -> Tensor:
        """Return logits for the context (b, n, d), made of `states`."""
        raise NotImplementedError


class CtcHead(Head):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, dim: int, config: CtcHeadConfig) -> None:
        super().__init__(None)
        self.classifier = nn.Linear(dim, config.size)

    def forward(self, context: Frames, states: Sequence[Tensor]) -> Tensor:
        """Return the logits of each frame; see `Head`."""
        return zero_padding(self.classifier(self.read(context.values, states)), context.lengths)


class FrameHead(Head):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, dim: int, config: FrameHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None, normed=config.normed_mix)
        self.classifier = nn.Linear(dim, config.size)

    def forward(self, context: Frames, states: Sequence[Tensor]) -> Tensor:
        """Return the logits of each frame; see `Head`."""
        return zero_padding(self.classifier(self.read(context.values, states)), context.lengths)


class UtteranceHead(Head):
    """Logits (b, labels)."""

    def __init__(self, dim: int, config: UtteranceHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None, normed=config.normed_mix)
        self.projection = nn.Linear(dim, config.hidden)
        self.classifier = nn.Linear(config.hidden, config.size)

    def forward(self, context: Frames, states: Sequence[Tensor]) -> Tensor:
        """Return the logits of each utterance; see `Head`."""
        projected = self.projection(self.read(context.values, states))
        pooled = mean_over_frames(Frames(projected, context.lengths))
        logits: Tensor = self.classifier(pooled)
        return logits


def mean_over_frames(frames: Frames) -> Tensor:
    """Return the mean (b, d) of valid frames (b, n, d); zeros where there are none."""
    valid = valid_steps(frames.lengths, frames.values.shape[1])
    total = reduce(
        torch.where(rearrange(valid, "b n -> b n 1"), frames.values, 0.0), "b n d -> b d", "sum"
    )
    return total / rearrange(frames.lengths.clamp(min=1), "b -> b 1")


def build_head(dim: int, layers: int, config: HeadConfig) -> Head:
    """Build the head of a context network with `layers` blocks, `dim` wide."""
    if isinstance(config, CtcHeadConfig):
        return CtcHead(dim, config)
    if isinstance(config, UtteranceHeadConfig):
        return UtteranceHead(dim, config, layers)
    return FrameHead(dim, config, layers)
