"""The configurations of heads, what follows the context network.

Each states its outputs by name, `logits`, `logits_NAME` or `embedding`, with their widths, and
whether it has them for each frame or for the utterance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from w2v_edge.model.validation import Natural, Positive

LOGITS, EMBEDDING = "logits", "embedding"

Meaning = Literal["one_of", "any_of", "values"]
"""Meaning of a classifier's logits: `one_of` the labels applies (softmax), `any_of` them may apply
(sigmoid), or the logits are `values` of a regression."""

FramePooling = Literal["mean", "sum", "max"]
"""How a head pools vectors over the frames of an utterance."""


@dataclass(frozen=True)
class CtcHeadConfig:
    """CTC: a linear layer from each context vector to the logits of `size` labels.

    Attributes:
        size: number of labels.
        labels: the labels in order of their indices, empty for outputs without one; none if
            unknown.
        blank: index of the CTC blank.
        word_delimiter: the label between words, if any.
        special: labels that are removed from a transcription, the blank included.
        language: language of the labels, in a multilingual checkpoint.
        separator: text between labels, such as a space between phonemes.
        lowercase: whether transcriptions are lowercased.
    """

    size: Positive
    labels: tuple[str, ...]
    blank: Natural
    word_delimiter: str | None
    special: tuple[str, ...]
    language: str | None = None
    separator: str = ""
    lowercase: bool = False
    kind: Literal["ctc"] = "ctc"

    by_frame = True

    @property
    def outputs(self) -> Mapping[str, int]:
        """Width of each output, by name."""
        return {LOGITS: self.size}


@dataclass(frozen=True)
class UtteranceHeadConfig:
    """Utterance classifier: projection, mean over frames, linear layer.

    Attributes:
        labels: the labels in order of their indices.
        hidden: width of the projection.
        weighted_layers: the input is a learned mix of all hidden states, not the context alone.
        normed_mix: the final norm applies to the last hidden state of that mix.
        meaning: interpretation of the logits.
    """

    labels: tuple[str, ...]
    hidden: Positive
    weighted_layers: bool
    normed_mix: bool = False
    meaning: Literal["one_of", "any_of", "values"] = "one_of"
    kind: Literal["utterance"] = "utterance"

    by_frame = False

    @property
    def outputs(self) -> Mapping[str, int]:
        """Width of each output, by name."""
        return {LOGITS: len(self.labels)}


@dataclass(frozen=True)
class FrameHeadConfig:
    """Frame classifier; see `UtteranceHeadConfig` for the attributes."""

    labels: tuple[str, ...]
    weighted_layers: bool
    normed_mix: bool = False
    meaning: Literal["one_of", "any_of", "values"] = "one_of"
    kind: Literal["frame"] = "frame"

    by_frame = True

    @property
    def outputs(self) -> Mapping[str, int]:
        """Width of each output, by name."""
        return {LOGITS: len(self.labels)}


@dataclass(frozen=True)
class BranchConfig:
    """One output of a pooled head: dense layer, tanh, linear layer.

    Attributes:
        name: the output is `logits_NAME`; empty for the only one, whose output is `logits`.
        labels: the labels in order of their indices.
        hidden: width of the dense layer.
        meaning: interpretation of the logits.
    """

    name: str
    labels: tuple[str, ...]
    hidden: Positive
    meaning: Literal["one_of", "any_of", "values"]

    @property
    def output(self) -> str:
        """Name of the output."""
        return f"{LOGITS}_{self.name}" if self.name else LOGITS


@dataclass(frozen=True)
class PooledHeadConfig:
    """Utterance heads that share one pooling of the context over frames.

    Attributes:
        pooling: of the context over an utterance's frames.
        branches: the outputs; several have names.
    """

    pooling: Literal["mean", "sum", "max"]
    branches: tuple[BranchConfig, ...]
    kind: Literal["pooled"] = "pooled"

    by_frame = False

    @property
    def outputs(self) -> Mapping[str, int]:
        """Width of each output, by name."""
        return {branch.output: len(branch.labels) for branch in self.branches}

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of `logits`; empty where outputs have names."""
        return next((x.labels for x in self.branches if not x.name), ())

    @property
    def meaning(self) -> Meaning | None:
        """Interpretation of `logits`; None where outputs have names."""
        return next((x.meaning for x in self.branches if not x.name), None)


@dataclass(frozen=True)
class TdnnLayerConfig:
    """A time-delay layer: each frame sees `kernel` frames, `dilation` apart."""

    channels: Positive
    kernel: Positive
    dilation: Positive


@dataclass(frozen=True)
class XVectorHeadConfig:
    """Speaker embedding (Snyder et al., "X-vectors", ICASSP 2018, section 2).

    Projection, time-delay layers with ReLU, mean and standard deviation over frames, linear layer.

    Attributes:
        hidden: width of the projection.
        layers: the time-delay layers.
        size: width of the embedding.
        weighted_layers: the input is a learned mix of all hidden states, not the context alone.
        normed_mix: the final norm applies to the last hidden state of that mix.
    """

    hidden: Positive
    layers: tuple[TdnnLayerConfig, ...]
    size: Positive
    weighted_layers: bool
    normed_mix: bool = False
    kind: Literal["xvector"] = "xvector"

    by_frame = False
    labels = ()
    meaning = None

    @property
    def outputs(self) -> Mapping[str, int]:
        """Width of each output, by name."""
        return {EMBEDDING: self.size}

    @property
    def lost_frames(self) -> int:
        """How many frames fewer the time-delay layers give than they get."""
        return sum(layer.dilation * (layer.kernel - 1) for layer in self.layers)

    @property
    def min_frames(self) -> int:
        """Fewest frames with an embedding: of one frame there is no standard deviation."""
        return self.lost_frames + 2


HeadConfig = (
    CtcHeadConfig | UtteranceHeadConfig | FrameHeadConfig | PooledHeadConfig | XVectorHeadConfig
)
