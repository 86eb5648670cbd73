"""The configuration of a model: frozen dataclasses that map one to one to a checkpoint's config.

Where published architectures differ in kind, the field is a union and `kind` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from w2v_edge import strict
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.model.validation import validate


@dataclass(frozen=True)
class ConvLayer:
    """One convolution of a feature encoder; `padding` is in its input's steps, on both sides."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class FeatureEncoderConfig:
    """The strided convolutions between waveform and features.

    `padded`: zero padding, no norm. `group_norm`: one group per channel after layer 0, as in
    wav2vec 2.0 BASE. `layer_norm`: a layer norm after each convolution, as in LARGE (LV-60k).
    """

    kind: Literal["padded", "group_norm", "layer_norm"]
    layers: tuple[ConvLayer, ...]
    bias: bool

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return self.layers[-1].channels

    @property
    def geometry(self) -> Geometry:
        """How the frames lie over the samples."""
        return Geometry.of_convolutions((x.kernel, x.stride, x.padding) for x in self.layers)


@dataclass(frozen=True)
class TemperatureSchedule:
    """Gumbel temperature at update u: max(end, start * decay ** u)."""

    start: float
    end: float
    decay: float

    def at(self, update: int) -> float:
        """Temperature after `update` optimiser steps."""
        return max(self.end, self.start * self.decay**update)


@dataclass(frozen=True)
class SoftQuantizerConfig:
    """Softmax over each group's entries and a weighted sum of its codebook's rows."""

    groups: int
    entries: int
    vector_dim: int
    kind: Literal["soft"] = "soft"


@dataclass(frozen=True)
class GumbelQuantizerConfig:
    """Gumbel softmax over each group's entries (wav2vec 2.0, section 2).

    `vector_dim` is the width of the groups' vectors side by side. `hard` samples one row and
    passes the gradient straight through.
    """

    groups: int
    entries: int
    vector_dim: int
    temperature: TemperatureSchedule
    hard: bool
    kind: Literal["gumbel"] = "gumbel"


@dataclass(frozen=True)
class NearestQuantizerConfig:
    """The nearest of `entries` centroids to a context vector, as of a k-means (HuBERT's units)."""

    groups: int
    entries: int
    vector_dim: int
    kind: Literal["nearest"] = "nearest"


QuantizerConfig = SoftQuantizerConfig | GumbelQuantizerConfig | NearestQuantizerConfig


@dataclass(frozen=True)
class FixedSpansConfig:
    """So many spans an utterance, whatever its length."""

    spans: int
    span_frames: int
    kind: Literal["fixed"] = "fixed"


@dataclass(frozen=True)
class ProbableSpansConfig:
    """A share of all frames is drawn, without replacement, as starts of spans."""

    probability: float
    span_frames: int
    kind: Literal["probability"] = "probability"


@dataclass(frozen=True)
class QuerySoftmaxContextConfig:
    """The context network of the `tutorial` architecture: attention's softmax runs over queries."""

    dim: int
    layers: int
    heads: int
    feed_forward: int
    position_kernel: int
    position_groups: int
    kind: Literal["query_softmax"] = "query_softmax"

    @property
    def output_dim(self) -> int:
        """Width of the context."""
        return self.dim


@dataclass(frozen=True)
class RelativePositionConfig:
    """WavLM's bias on attention by distance: `buckets`, half a direction, up to `max_distance`."""

    buckets: int
    max_distance: int


@dataclass(frozen=True)
class ConvAdapterConfig:
    """Strided convolutions with gates after the transformer, that make its frames fewer.

    `dim`: channels they work on, which a linear layer leads to where it is not the transformer's.
    `padding` is in steps, on both sides.
    """

    dim: int
    layers: int
    kernel: int
    stride: int
    padding: int = 1

    def frames(self, frames: int) -> int:
        """Frames that are left of `frames`."""
        for _ in range(self.layers):
            room = frames + 2 * self.padding - self.kernel
            frames = room // self.stride + 1 if frames and room >= 0 else 0
        return frames


@dataclass(frozen=True)
class TransformerContextConfig:
    """The context network of wav2vec 2.0 and its kin.

    Attributes:
        kind: `post_norm` blocks (BASE) or `pre_norm` ones (LARGE).
        position: the positional convolution's norm: of its weight, of its input over the batch
            (some HuBERT), or, in a stack of `position_layers` of them, of each output (data2vec).
        relative_position: WavLM's bias; None elsewhere.
        language_adapter: width of the bottleneck that MMS adds to each block; None elsewhere.
        final_norm: whether a norm follows `pre_norm` blocks; not where the network ends early.
        adapter: convolutions after the blocks.
    """

    kind: Literal["post_norm", "pre_norm"]
    dim: int
    layers: int
    heads: int
    feed_forward: int
    position_kernel: int
    position_groups: int
    dropout: float = 0.0
    layer_drop: float = 0.0
    norm_eps: float = 1e-5
    position: Literal["weight_norm", "batch_norm", "output_norm"] = "weight_norm"
    position_layers: int = 1
    relative_position: RelativePositionConfig | None = None
    language_adapter: int | None = None
    final_norm: bool = True
    adapter: ConvAdapterConfig | None = None

    @property
    def output_dim(self) -> int:
        """Width of the context."""
        return self.dim if self.adapter is None else self.adapter.dim


ContextConfig = QuerySoftmaxContextConfig | TransformerContextConfig


@dataclass(frozen=True)
class InBatchDistractorsConfig:
    """Every other masked position of the batch is a distractor."""

    kind: Literal["in_batch"] = "in_batch"


@dataclass(frozen=True)
class SampledDistractorsConfig:
    """`count` distractors are drawn from the other masked positions of the same utterance."""

    count: int
    kind: Literal["sampled"] = "sampled"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and temperatures of the pre-training losses."""

    distractors: InBatchDistractorsConfig | SampledDistractorsConfig
    projection_dim: int
    logit_temperature: float
    diversity_weight: float
    penalty_weight: float
    feature_gradient_scale: float = 1.0


@dataclass(frozen=True)
class CtcHeadConfig:
    """A linear layer from each context vector to the logits of `size` labels.

    Attributes:
        size: how many labels.
        labels: what they are, in order; empty where a checkpoint does not say.
        blank: index of the label that stands for nothing.
        word_delimiter: the label between words, if any.
        special: labels that are never part of a text, the blank among them.
        language: of the labels, where there is a choice.
        separator: what stands between labels in a text, as between phonemes.
        lowercase: whether a text is put in lower case.
    """

    size: int
    labels: tuple[str, ...]
    blank: int
    word_delimiter: str | None
    special: tuple[str, ...]
    language: str | None = None
    separator: str = ""
    lowercase: bool = False
    kind: Literal["ctc"] = "ctc"


Meaning = Literal["one_of", "any_of", "values"]
"""What a classifier's logits are: of labels of which one holds (softmax), of labels that hold each
for itself (sigmoid), or plain values (a regression)."""


@dataclass(frozen=True)
class UtteranceHeadConfig:
    """Logits of an utterance: project, average over its frames, classify.

    `weighted_layers`: the input is a learned mix of the first block's input and all blocks'
    outputs; `normed_mix`: in it, the network's final norm is on the last one.
    """

    labels: tuple[str, ...]
    hidden: int
    weighted_layers: bool
    normed_mix: bool = False
    meaning: Literal["one_of", "any_of", "values"] = "one_of"
    kind: Literal["utterance"] = "utterance"

    @property
    def size(self) -> int:
        """How many labels."""
        return len(self.labels)


@dataclass(frozen=True)
class FrameHeadConfig:
    """Logits of each frame; `weighted_layers` and `normed_mix` as of an utterance."""

    labels: tuple[str, ...]
    weighted_layers: bool
    normed_mix: bool = False
    meaning: Literal["one_of", "any_of", "values"] = "one_of"
    kind: Literal["frame"] = "frame"

    @property
    def size(self) -> int:
        """How many labels."""
        return len(self.labels)


HeadConfig = CtcHeadConfig | UtteranceHeadConfig | FrameHeadConfig


@dataclass(frozen=True)
class NormalisationConfig:
    """Each waveform less its mean, over its standard deviation; `eps` is added to the variance."""

    eps: float


@dataclass(frozen=True)
class OutputsConfig:
    """What a model gives beside its context.

    Attributes:
        layers: outputs of these blocks, counted from 1.
        pooled: the context's mean over an utterance's frames.
    """

    layers: tuple[int, ...] = ()
    pooled: Literal["mean"] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shapes and the arithmetic of a model.

    Attributes:
        quantizer: what makes codes; None for a model without.
        masking, objective: of the pre-training; None for a model that lacks what it takes.
        normalise: how each waveform is brought to zero mean and unit variance first, if it is.
        feature_norm: whether features are layer-normed; always without effect in `tutorial`.
        head: what makes logits; None for a model without.
        outputs: what is given beside context.
    """

    architecture: Literal["tutorial", "wav2vec2", "hubert", "wavlm", "data2vec"]
    sample_rate: int
    feature_encoder: FeatureEncoderConfig
    quantizer: SoftQuantizerConfig | GumbelQuantizerConfig | NearestQuantizerConfig | None
    masking: FixedSpansConfig | ProbableSpansConfig | None
    context: QuerySoftmaxContextConfig | TransformerContextConfig
    objective: ObjectiveConfig | None
    normalise: NormalisationConfig | None = None
    feature_norm: bool = True
    head: CtcHeadConfig | UtteranceHeadConfig | FrameHeadConfig | None = None
    outputs: OutputsConfig = OutputsConfig()

    def __post_init__(self) -> None:
        """Refuse what no model could be built from."""
        validate(self)

    @property
    def geometry(self) -> Geometry:
        """How the frames lie over the samples."""
        return self.feature_encoder.geometry

    @property
    def quantizer_input(self) -> Literal["features", "context"] | None:
        """The tensor that codes are made from."""
        if self.quantizer is None:
            return None
        return "context" if self.quantizer.kind == "nearest" else "features"

    def context_frames(self, frames: int) -> int:
        """Context vectors of an utterance of `frames` frames."""
        adapter = getattr(self.context, "adapter", None)
        return frames if adapter is None else int(adapter.frames(frames))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Read a plain dict.

        Raises:
            ConfigError: a key is missing, unknown, of the wrong type, or contradicts another.
        """
        return strict.from_plain(cls, data)

    def to_dict(self) -> dict[str, Any]:
        """Write a plain dict of numbers, strings and lists."""
        plain: dict[str, Any] = strict.to_plain(self)
        return plain
