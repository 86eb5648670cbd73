"""Twins of the heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from w2v_edge.model.heads import CtcHead, FrameHead, Head, UtteranceHead
from w2v_edge_export.deployable.layers import Linear


class HeadTwin(nn.Module):
    """What all heads share: the choice of what they read."""

    def __init__(self, source: Head) -> None:
        super().__init__()
        self.normed = source.normed
        weights = source.layer_weights
        self.layer_weights = (
            None
            if weights is None
            else nn.Parameter(weights.detach().softmax(dim=0), requires_grad=False)
        )

    def read(self, context: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Return what is classified, (b, n, d); see `w2v_edge.model.heads.Head`."""
        if self.layer_weights is None:
            return context
        states = [*states[:-1], context] if self.normed else list(states)
        mixed = states[0] * self.layer_weights[0]
        for i, state in enumerate(states[1:], 1):
            mixed = mixed + state * self.layer_weights[i]
        return mixed


class FrameHeadTwin(HeadTwin):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, source: CtcHead | FrameHead) -> None:
        super().__init__(source)
        self.classifier = Linear(source.classifier)

    def forward(self, context: Tensor, states: Sequence[Tensor], valid: Tensor) -> Tensor:
        """Return the logits of each frame; `valid` (b, n, 1) is 0 at padding, else 1."""
        logits: Tensor = self.classifier(self.read(context, states)) * valid
        return logits


class UtteranceHeadTwin(HeadTwin):
    """Logits (b, labels)."""

    def __init__(self, source: UtteranceHead) -> None:
        super().__init__(source)
        self.projection = Linear(source.projection)
        self.classifier = Linear(source.classifier)

    def forward(self, context: Tensor, states: Sequence[Tensor], valid: Tensor) -> Tensor:
        """Return the logits of each utterance; `valid` (b, n, 1) is 0 at padding, else 1."""
        # One frame, so that the classifier is a product over frames like any other.
        pooled = mean_over_frames(self.projection(self.read(context, states)), valid)
        logits: Tensor = self.classifier(pooled.unsqueeze(1))
        return logits.squeeze(1)


def mean_over_frames(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (b, d) of x (b, n, d) where `valid` (b, n, 1) is 1; zeros where nowhere."""
    return (x * valid).sum(dim=1) / torch.clamp(valid.sum(dim=1), min=1)


def head_twin(source: Head) -> FrameHeadTwin | UtteranceHeadTwin:
    """Return the twin of a head."""
    if isinstance(source, UtteranceHead):
        return UtteranceHeadTwin(source)
    assert isinstance(source, CtcHead | FrameHead)
    return FrameHeadTwin(source)
