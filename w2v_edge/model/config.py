"""The configuration of a model: frozen dataclasses that map one to one to a checkpoint's config.

Where published architectures differ in kind, the field is a union and `kind` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from w2v_edge import strict
from w2v_edge.geometry import Geometry
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


QuantizerConfig = SoftQuantizerConfig | GumbelQuantizerConfig


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


@dataclass(frozen=True)
class TransformerContextConfig:
    """The context network of wav2vec 2.0: `post_norm` (BASE) or `pre_norm` (LARGE) blocks."""

    kind: Literal["post_norm", "pre_norm"]
    dim: int
    layers: int
    heads: int
    feed_forward: int
    position_kernel: int
    position_groups: int
    dropout: float = 0.0
    layer_drop: float = 0.0


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
class ModelConfig:
    """Everything that decides the shapes and the arithmetic of a model."""

    architecture: Literal["tutorial", "wav2vec2"]
    sample_rate: int
    feature_encoder: FeatureEncoderConfig
    quantizer: SoftQuantizerConfig | GumbelQuantizerConfig
    masking: FixedSpansConfig | ProbableSpansConfig
    context: QuerySoftmaxContextConfig | TransformerContextConfig
    objective: ObjectiveConfig

    def __post_init__(self) -> None:
        """Refuse what no model could be built from."""
        validate(self)

    @property
    def geometry(self) -> Geometry:
        """How the frames lie over the samples."""
        return self.feature_encoder.geometry

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
