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

    def __init__(self, layers: int | None) -> None:
        """Build a head that reads a mix of the inputs and outputs of `layers` blocks, or one."""
        super().__init__()
        self.layer_weights = None if layers is None else nn.Parameter(torch.empty(layers + 1))

    def mix(self, states: Sequence[Tensor]) -> Tensor:
        """Return the last of states, each (b, n, d), or the mix of all of them."""
        if self.layer_weights is None:
            return states[-1]
        mixed = torch.zeros_like(states[-1])
        for weight, state in zip(self.layer_weights.softmax(dim=0), states, strict=True):
            mixed = mixed + weight * state
        return mixed

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return logits for states, each (b, n, d), whose first `lengths` (b,) frames are valid."""
        raise NotImplementedError


class CtcHead(Head):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, dim: int, config: CtcHeadConfig) -> None:
        super().__init__(None)
        self.classifier = nn.Linear(dim, config.size)

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the logits of the last of states; see `Head`."""
        return zero_padding(self.classifier(self.mix(states)), lengths)


class FrameHead(Head):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, dim: int, config: FrameHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None)
        self.classifier = nn.Linear(dim, config.size)

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the logits of each frame; see `Head`."""
        return zero_padding(self.classifier(self.mix(states)), lengths)


class UtteranceHead(Head):
    """Logits (b, labels)."""

    def __init__(self, dim: int, config: UtteranceHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None)
        self.projection = nn.Linear(dim, config.hidden)
        self.classifier = nn.Linear(config.hidden, config.size)

    def forward(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """Return the logits of each utterance; see `Head`."""
        pooled = mean_over_frames(Frames(self.projection(self.mix(states)), lengths))
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
