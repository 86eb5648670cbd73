"""Inference twins of the heads and the quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.head_config import EMBEDDING, LOGITS, FramePooling
from w2v_edge.model.heads import (
    Branch,
    CtcHead,
    FrameHead,
    Head,
    PooledHead,
    TdnnLayer,
    UtteranceHead,
    XVectorHead,
)
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge_export.deployable.layers import Linear
from w2v_edge_export.deployable.ops import MASKED
from w2v_edge_export.graph_builder import ExportError

SMALLEST_LENGTH = 1e-12
"""Divisor of vectors without a length, as in `nn.functional.normalize`."""


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

    def read(
        self, context: Tensor, valid: Tensor, states: Sequence[Tensor], valid_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the input of the classifier (b, n, d), and which of its frames are valid."""
        if self.layer_weights is None:
            return context, valid
        states = [*states[:-1], context] if self.normed else list(states)
        mixed = states[0] * self.layer_weights[0]
        for i, state in enumerate(states[1:], 1):
            mixed = mixed + state * self.layer_weights[i]
        return mixed, valid_states

    def forward(
        self, context: Tensor, valid: Tensor, states: Sequence[Tensor], valid_states: Tensor
    ) -> dict[str, Tensor]:
        """Return the outputs by name.

        Args:
            context: (b, n, d), zero at padding.
            valid: (b, n, 1), 0 at padding, else 1.
            states: the hidden states, each (b, m, d).
            valid_states: (b, m, 1), the same for them.
        """
        raise NotImplementedError


class FrameHeadTwin(HeadTwin):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, source: CtcHead | FrameHead) -> None:
        super().__init__(source)
        self.classifier = Linear(source.classifier)

    def forward(
        self, context: Tensor, valid: Tensor, states: Sequence[Tensor], valid_states: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each frame; see `HeadTwin`."""
        x, valid = self.read(context, valid, states, valid_states)
        return {LOGITS: self.classifier(x) * valid}


class UtteranceHeadTwin(HeadTwin):
    """Logits (b, labels)."""

    def __init__(self, source: UtteranceHead) -> None:
        super().__init__(source)
        self.projection = Linear(source.projection)
        self.classifier = Linear(source.classifier)

    def forward(
        self, context: Tensor, valid: Tensor, states: Sequence[Tensor], valid_states: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each utterance; see `HeadTwin`."""
        x, valid = self.read(context, valid, states, valid_states)
        pooled = mean_over_frames(self.projection(x), valid)
        return {LOGITS: _of_vector(self.classifier, pooled)}


class BranchTwin(nn.Module):
    """Linear, tanh, linear."""

    def __init__(self, source: Branch) -> None:
        super().__init__()
        self.dense = Linear(source.dense)
        self.projection = Linear(source.projection)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled context vectors (b, d) to logits (b, labels)."""
        return _of_vector(self.projection, torch.tanh(_of_vector(self.dense, pooled)))


class PooledHeadTwin(HeadTwin):
    """Logits (b, labels) of each branch."""

    def __init__(self, source: PooledHead) -> None:
        super().__init__(source)
        self.pooling = source.pooling
        self.names = source.names
        self.branches = nn.ModuleList(BranchTwin(cast("Branch", x)) for x in source.branches)

    def forward(
        self, context: Tensor, valid: Tensor, states: Sequence[Tensor], valid_states: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each utterance; see `HeadTwin`."""
        pooled = pool(*self.read(context, valid, states, valid_states), self.pooling)
        branches = zip(self.names, self.branches, strict=True)
        return {name: branch(pooled) for name, branch in branches}


class TdnnLayerTwin(nn.Module):
    """A time-delay layer and ReLU."""

    def __init__(self, source: TdnnLayer) -> None:
        super().__init__()
        self.kernel, self.dilation = source.kernel, source.dilation
        self.linear = Linear(source.linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, inputs) to (b, n, channels); the last frames see zeros past the end."""
        if self.kernel == 1:
            return nn.functional.relu(self.linear(x))
        frames = x.shape[1]
        padded = nn.functional.pad(x, (0, 0, 0, self.dilation * (self.kernel - 1)))
        starts = range(0, self.dilation * self.kernel, self.dilation)
        seen = torch.cat([padded[:, start : start + frames] for start in starts], dim=2)
        return nn.functional.relu(self.linear(seen))


class XVectorHeadTwin(HeadTwin):
    """An embedding (b, size)."""

    def __init__(self, source: XVectorHead) -> None:
        super().__init__(source)
        self.lost_frames = source.lost_frames
        self.projection = Linear(source.projection)
        self.layers = nn.ModuleList(TdnnLayerTwin(cast("TdnnLayer", x)) for x in source.layers)
        self.embedding = Linear(source.embedding)

    def forward(
        self, context: Tensor, valid: Tensor, states: Sequence[Tensor], valid_states: Tensor
    ) -> dict[str, Tensor]:
        """Return the embedding of each utterance; see `HeadTwin`."""
        x, valid = self.read(context, valid, states, valid_states)
        x = self.projection(x)
        for layer in self.layers:
            x = layer(x)
        # A frame is whole if the last one that it sees is within the utterance.
        shifted = nn.functional.pad(valid, (0, 0, 0, self.lost_frames))
        whole = shifted[:, self.lost_frames : self.lost_frames + valid.shape[1]]
        embedding = _of_vector(self.embedding, pool_frames(x, whole, std=True))
        return {EMBEDDING: embedding * (whole.sum(dim=1) > 1).to(x.dtype)}


def pool(x: Tensor, valid: Tensor, pooling: FramePooling) -> Tensor:
    """Return x (b, n, d) pooled over `valid` (b, n, 1) frames, (b, d); 0 without any."""
    if pooling == "mean":
        return mean_over_frames(x, valid)
    if pooling == "sum":
        return (x * valid).sum(dim=1)
    # One more frame, since a maximum needs one.
    masked = nn.functional.pad(x * valid + (1 - valid) * MASKED, (0, 0, 0, 1), value=MASKED)
    return masked.amax(dim=1) * (valid.sum(dim=1) > 0).to(x.dtype)


def mean_over_frames(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (b, d) of x (b, n, d) over `valid` (b, n, 1) frames; 0 without any."""
    return (x * valid).sum(dim=1) / torch.clamp(valid.sum(dim=1), min=1)


def pool_frames(x: Tensor, valid: Tensor, *, std: bool) -> Tensor:
    """Return the mean of `mean_over_frames` (b, d), with `std` beside it (b, 2 * d)."""
    mean = mean_over_frames(x, valid)
    if not std:
        return mean
    squares = ((x - mean.unsqueeze(1)) * valid).square().sum(dim=1)
    variance = squares / torch.clamp(valid.sum(dim=1) - 1, min=1)
    return torch.cat((mean, variance.sqrt()), dim=1)


def _of_vector(linear: Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to x (b, d), as one frame, since it is a product over frames."""
    y: Tensor = linear(x.unsqueeze(1))
    return y.squeeze(1)


def head_twin(source: Head) -> HeadTwin:
    """Return the twin of a head."""
    if isinstance(source, UtteranceHead):
        return UtteranceHeadTwin(source)
    if isinstance(source, PooledHead):
        return PooledHeadTwin(source)
    if isinstance(source, XVectorHead):
        return XVectorHeadTwin(source)
    if isinstance(source, CtcHead | FrameHead):
        return FrameHeadTwin(source)
    raise ExportError(f"no inference twin for {type(source).__name__}")


class QuantizerTwin(nn.Module):
    """Codes, the best entry of each group, and their codebook vectors, concatenated."""

    def __init__(self, source: VectorQuantizer) -> None:
        super().__init__()
        self.groups = source.config.groups
        self.entries = source.config.entries
        self.unit_length = getattr(source.config, "unit_length", False)
        self.scorer = Linear(_linear(source))
        rows = source.codebook.weight.detach().flatten(0, 1).contiguous()
        self.codebook = nn.Parameter(rows, requires_grad=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map features or context (b, n, d) to `codes` (b, n, g) int64, `vectors` (b, n, g * d)."""
        if self.unit_length:
            squares = frames.square().sum(dim=2, keepdim=True)
            frames = frames / torch.clamp(squares.sqrt(), min=SMALLEST_LENGTH)
        logits = self.scorer(frames).unflatten(2, (self.groups, self.entries))
        codes = logits.argmax(dim=3)
        first = torch.arange(self.groups, dtype=torch.int64) * self.entries
        return codes, nn.functional.embedding(codes + first, self.codebook).flatten(2)


def _linear(source: VectorQuantizer) -> nn.Linear:
    weight, bias = source.linear()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return linear
