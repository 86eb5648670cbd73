"""Heads: context representations to logits, or to an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.head_config import (
    EMBEDDING,
    LOGITS,
    BranchConfig,
    CtcHeadConfig,
    FrameHeadConfig,
    FramePooling,
    HeadConfig,
    PooledHeadConfig,
    TdnnLayerConfig,
    UtteranceHeadConfig,
    XVectorHeadConfig,
)
from w2v_edge.model.padding import (
    Frames,
    mean_over_frames,
    pool_frames,
    valid_steps,
    zero_padding,
)


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

    def read(self, context: Frames, states: Sequence[Tensor], lengths: Tensor) -> Frames:
        """Return the classifier's input (b, n, d): the context, or the mix of hidden states."""
        if self.layer_weights is None:
            return context
        states = [*states[:-1], context.values] if self.normed else states
        mixed = torch.zeros_like(states[0])
        for weight, state in zip(self.layer_weights.softmax(dim=0), states, strict=True):
            mixed = mixed + weight * state
        return Frames(mixed, lengths)

    def forward(
        self, context: Frames, states: Sequence[Tensor], lengths: Tensor
    ) -> dict[str, Tensor]:
        """Return the outputs by name.

        Args:
            context: (b, n, d).
            states: the hidden states, each (b, m, d).
            lengths: (b,) valid frames of the hidden states.

        Returns:
            As `outputs` of the head's config: (b, n, width) each, zero at padding, or (b, width).
        """
        raise NotImplementedError


class CtcHead(Head):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, dim: int, config: CtcHeadConfig) -> None:
        super().__init__(None)
        self.classifier = nn.Linear(dim, config.size)

    def forward(
        self, context: Frames, states: Sequence[Tensor], lengths: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each frame; see `Head`."""
        read = self.read(context, states, lengths)
        return {LOGITS: zero_padding(self.classifier(read.values), read.lengths)}


class FrameHead(Head):
    """Logits (b, n, labels), zero at padding."""

    def __init__(self, dim: int, config: FrameHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None, normed=config.normed_mix)
        self.classifier = nn.Linear(dim, len(config.labels))

    def forward(
        self, context: Frames, states: Sequence[Tensor], lengths: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each frame; see `Head`."""
        read = self.read(context, states, lengths)
        return {LOGITS: zero_padding(self.classifier(read.values), read.lengths)}


class UtteranceHead(Head):
    """Logits (b, labels)."""

    def __init__(self, dim: int, config: UtteranceHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None, normed=config.normed_mix)
        self.projection = nn.Linear(dim, config.hidden)
        self.classifier = nn.Linear(config.hidden, len(config.labels))

    def forward(
        self, context: Frames, states: Sequence[Tensor], lengths: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each utterance; see `Head`."""
        read = self.read(context, states, lengths)
        pooled = mean_over_frames(Frames(self.projection(read.values), read.lengths))
        return {LOGITS: self.classifier(pooled)}


class Branch(nn.Module):
    """Linear, tanh, linear."""

    def __init__(self, dim: int, config: BranchConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, config.hidden)
        self.projection = nn.Linear(config.hidden, len(config.labels))

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled context vectors (b, d) to logits (b, labels)."""
        logits: Tensor = self.projection(torch.tanh(self.dense(pooled)))
        return logits


class PooledHead(Head):
    """Logits (b, labels) of each branch, from one pooling of the context over frames.

    Source: the classification heads of audeering's emotion and age-gender models, and of the
    recipes whose classes are called `...ForSpeechClassification`; transformers has none of them.
    """

    def __init__(self, dim: int, config: PooledHeadConfig) -> None:
        super().__init__(None)
        self.pooling: FramePooling = config.pooling
        self.names = [branch.output for branch in config.branches]
        self.branches = nn.ModuleList(Branch(dim, branch) for branch in config.branches)

    def forward(
        self, context: Frames, states: Sequence[Tensor], lengths: Tensor
    ) -> dict[str, Tensor]:
        """Return the logits of each utterance; see `Head`."""
        pooled = pool(self.read(context, states, lengths), self.pooling)
        branches = (cast("Branch", branch) for branch in self.branches)
        return {name: branch(pooled) for name, branch in zip(self.names, branches, strict=True)}


class TdnnLayer(nn.Module):
    """A time-delay layer and ReLU."""

    def __init__(self, inputs: int, config: TdnnLayerConfig) -> None:
        super().__init__()
        self.kernel, self.dilation = config.kernel, config.dilation
        self.linear = nn.Linear(config.kernel * inputs, config.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, inputs) to (b, n, channels); the last frames see zeros past the end."""
        frames = x.shape[1]
        padded = nn.functional.pad(x, (0, 0, 0, self.dilation * (self.kernel - 1)))
        starts = range(0, self.dilation * self.kernel, self.dilation)
        seen = torch.cat([padded[:, start : start + frames] for start in starts], dim=2)
        return nn.functional.relu(self.linear(seen))


class XVectorHead(Head):
    """An embedding (b, size).

    Statistics are of the frames whose windows lie within the utterance, as in transformers for an
    utterance alone; in a padded batch, transformers ignores dilation when it counts them. An
    utterance with fewer than two of them has an embedding of zeros.
    """

    def __init__(self, dim: int, config: XVectorHeadConfig, layers: int) -> None:
        super().__init__(layers if config.weighted_layers else None, normed=config.normed_mix)
        self.lost_frames = config.lost_frames
        self.projection = nn.Linear(dim, config.hidden)
        widths = [config.hidden, *(layer.channels for layer in config.layers)]
        self.layers = nn.ModuleList(map(TdnnLayer, widths, config.layers))
        self.embedding = nn.Linear(2 * widths[-1], config.size)

    def forward(
        self, context: Frames, states: Sequence[Tensor], lengths: Tensor
    ) -> dict[str, Tensor]:
        """Return the embedding of each utterance; see `Head`."""
        read = self.read(context, states, lengths)
        x = self.projection(read.values)
        for layer in self.layers:
            x = layer(x)
        whole = (read.lengths - self.lost_frames).clamp(min=0)
        embedding = self.embedding(pool_frames(Frames(x, whole), std=True))
        return {EMBEDDING: torch.where(rearrange(whole > 1, "b -> b 1"), embedding, 0.0)}


def pool(frames: Frames, pooling: FramePooling) -> Tensor:
    """Return frames (b, n, d) pooled over valid ones, (b, d); zeros for an utterance without."""
    if pooling == "mean":
        return mean_over_frames(frames)
    valid = rearrange(valid_steps(frames.lengths, frames.values.shape[1]), "b n -> b n 1")
    if pooling == "sum":
        return torch.where(valid, frames.values, 0.0).sum(dim=1)
    # One more frame, since a maximum needs one.
    padded = nn.functional.pad(
        torch.where(valid, frames.values, -torch.inf), (0, 0, 0, 1), value=-torch.inf
    )
    largest = padded.amax(dim=1)
    return torch.where(rearrange(frames.lengths > 0, "b -> b 1"), largest, 0.0)


def build_head(dim: int, layers: int, config: HeadConfig) -> Head:
    """Build the head of a context network with `layers` blocks and `dim` output channels."""
    if isinstance(config, CtcHeadConfig):
        return CtcHead(dim, config)
    if isinstance(config, UtteranceHeadConfig):
        return UtteranceHead(dim, config, layers)
    if isinstance(config, PooledHeadConfig):
        return PooledHead(dim, config)
    if isinstance(config, XVectorHeadConfig):
        return XVectorHead(dim, config, layers)
    return FrameHead(dim, config, layers)
