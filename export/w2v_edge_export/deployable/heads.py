"""Inference twins of the heads and the quantizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from w2v_edge.model.heads import CtcHead, FrameHead, Head, UtteranceHead
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge_export.deployable.layers import Linear
from w2v_edge_export.graph_builder import ExportError


class HeadTwin(nn.Module):
    """Base of the heads: the weighted sum of layers that a head reads."""

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
        """Return the input of the classifier (b, n, d); see `w2v_edge.model.heads.Head`."""
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
        # As one frame, since `Linear` is a product over frames.
        pooled = mean_over_frames(self.projection(self.read(context, states)), valid)
        logits: Tensor = self.classifier(pooled.unsqueeze(1))
        return logits.squeeze(1)


def mean_over_frames(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (b, d) of x (b, n, d) over `valid` (b, n, 1) frames; 0 without any."""
    return (x * valid).sum(dim=1) / torch.clamp(valid.sum(dim=1), min=1)


def head_twin(source: Head) -> FrameHeadTwin | UtteranceHeadTwin:
    """Return the twin of a head."""
    if isinstance(source, UtteranceHead):
        return UtteranceHeadTwin(source)
    if isinstance(source, CtcHead | FrameHead):
        return FrameHeadTwin(source)
    raise ExportError(f"no inference twin for {type(source).__name__}")


class QuantizerTwin(nn.Module):
    """Codes, the best entry of each group, and their codebook vectors, concatenated."""

    def __init__(self, source: VectorQuantizer) -> None:
        super().__init__()
        self.groups = source.config.groups
        self.entries = source.config.entries
        self.scorer = Linear(_linear(source))
        rows = source.codebook.weight.detach().flatten(0, 1).contiguous()
        self.codebook = nn.Parameter(rows, requires_grad=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map features or context (b, n, d) to `codes` (b, n, g) int64, `vectors` (b, n, g * d)."""
        logits = self.scorer(frames).unflatten(2, (self.groups, self.entries))
        codes = logits.argmax(dim=3)
        first = torch.arange(self.groups, dtype=torch.int64) * self.entries
        return codes, nn.functional.embedding(codes + first, self.codebook).flatten(2)


def _linear(source: VectorQuantizer) -> nn.Linear:
    weight, bias = source.linear()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return linear
