"""Heads: context representations to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from w2v_edge.model.config import (
    CtcHeadConfig,
    FrameHeadConfig,
    HeadConfig,
    UtteranceHeadConfig,
)
from w2v_edge.model.padding import Frames, mean_over_frames, zero_padding


class Head(nn.Module):
    """Base of all heads: selects the input, the context or a learned mix of hidden states."""

    def __init__(self, layers: int | None, *, normed: bool = False) -> None:
        """Build a head.

        Args:
            layers: transformer blocks whose hidden states are mixed; None to use the context alone.
            normed: use the (normed) context in place of the last hidden state in the mix.
        """
        super().__init__()
        self.normed = normed
        self.layer_weights = None if layers is None else nn.Parameter(torch.empty(layers + 1))

    def read(self, context: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Return the classifier's input (b, n, d): the context, or the mix of hidden states."""
        if self.layer_weights is None:
            return context
        states = [*states[:-1], context] if self.normed else states
        mixed = torch.zeros_like(context)
        for weight, state in zip(self.layer_weights.softmax(dim=0), states, strict=True):
            mixed = mixed + weight * state
        return mixed

    def forward(self, context: Frames, states: Sequence[Tensor]) -> Tensor:
        """Return logits for the context (b, n, d) and the hidden states, each (b, n, d)."""
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


def build_head(dim: int, layers: int, config: HeadConfig) -> Head:
    """Build the head of a context network with `layers` blocks and `dim` output channels."""
    if isinstance(config, CtcHeadConfig):
        return CtcHead(dim, config)
    if isinstance(config, UtteranceHeadConfig):
        return UtteranceHead(dim, config, layers)
    return FrameHead(dim, config, layers)
