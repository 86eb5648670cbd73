"""The configuration of a model: frozen dataclasses that map one to one to a checkpoint's config.

Where architectures differ in kind, the field is a union discriminated by `kind`. The bounds of a
number are part of its type (`Positive`, `Share`, ...); `validation` checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from w2v_edge import strict
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.bundle.resampling import MAX_FRAME_RATE, MIN_FRAME_RATE, Resampling
from w2v_edge.model.conformer_config import (
    Activation,
    CausalConformerContextConfig,
    ConformerContextConfig,
    ConvAdapterConfig,
)
from w2v_edge.model.head_config import (
    CtcHeadConfig,
    FrameHeadConfig,
    PooledHeadConfig,
    UtteranceHeadConfig,
    XVectorHeadConfig,
)
from w2v_edge.model.sew_config import SewContextConfig
from w2v_edge.model.validation import (
    MAX_LAYERS,
    Decay,
    Layers,
    Natural,
    Positive,
    PositiveReal,
    Range,
    Share,
    Weight,
    validate,
)
from w2v_edge.names import Pooling


@dataclass(frozen=True)
class ConvLayer:
    """One convolution of a feature encoder; sizes in input steps, padding on both sides."""

    channels: Positive
    kernel: Positive
    stride: Positive
    padding: Natural = 0


@dataclass(frozen=True)
class FeatureEncoderConfig:
    """The strided convolutions from waveform to features.

    Attributes:
        kind: `padded`, zero padding without norm; `group_norm`, one group per channel after layer
            0, as in wav2vec 2.0 BASE; `layer_norm`, after each layer, as in LARGE (LV-60k).
        layers: the convolutions, first to last.
        bias: whether they have a bias.
    """

    kind: Literal["padded", "group_norm", "layer_norm"]
    layers: tuple[ConvLayer, ...]
    bias: bool

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return self.layers[-1].channels

    @property
    def measured_channels(self) -> int:
        """Channels of the first layer whose statistics over the utterance the features need."""
        return self.layers[0].channels if self.kind == "group_norm" else 0

    @property
    def geometry(self) -> Geometry:
        """Hop, receptive field and padding of the frames, in samples."""
        return Geometry.of_convolutions((x.kernel, x.stride, x.padding) for x in self.layers)


MEL_WINDOW, MEL_HOP = 400, 160
"""Samples of a mel frame, and from one to the next: 25 and 10 ms at 16 kHz."""


@dataclass(frozen=True)
class LogMelConfig:
    """Logarithmic mel energies, normalised over the utterance, two frames side by side (w2v-BERT).

    Attributes:
        bins: mel bins of a frame.
    """

    bins: Positive
    kind: Literal["log_mel"] = "log_mel"

    @property
    def layers(self) -> tuple[ConvLayer, ...]:
        """The steps over time, as convolutions: frames of the waveform, then pairs of frames."""
        return ConvLayer(self.bins, MEL_WINDOW, MEL_HOP), ConvLayer(2 * self.bins, 2, 2)

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return 2 * self.bins

    @property
    def measured_channels(self) -> int:
        """Channels of the first layer whose statistics over the utterance the features need."""
        return self.bins

    @property
    def geometry(self) -> Geometry:
        """Hop, receptive field and padding of the frames, in samples."""
        return Geometry.of_convolutions((x.kernel, x.stride, x.padding) for x in self.layers)


@dataclass(frozen=True)
class TemperatureSchedule:
    """Gumbel temperature at update u: max(end, start * decay ** u)."""

    start: PositiveReal
    end: PositiveReal
    decay: Decay

    def at(self, update: int) -> float:
        """Return the temperature after `update` optimiser steps."""
        return max(self.end, self.start * self.decay**update)


@dataclass(frozen=True)
class SoftQuantizerConfig:
    """Softmax over each group's entries; the output is a weighted sum of codebook rows."""

    groups: Positive
    entries: Annotated[int, Range(2)]
    vector_dim: Positive
    kind: Literal["soft"] = "soft"


@dataclass(frozen=True)
class GumbelQuantizerConfig:
    """Gumbel softmax over each group's entries (wav2vec 2.0, section 2).

    `vector_dim` is the width of the groups' concatenated vectors. `hard` samples a single row, with
    a straight-through gradient.
    """

    groups: Positive
    entries: Annotated[int, Range(2)]
    vector_dim: Positive
    temperature: TemperatureSchedule
    hard: bool
    kind: Literal["gumbel"] = "gumbel"


@dataclass(frozen=True)
class NearestQuantizerConfig:
    """The nearest of `entries` k-means centroids to a context vector (HuBERT units).

    With `unit_length`, to the context vector over its length; the centroids stay as they are.
    """

    groups: Positive
    entries: Annotated[int, Range(2)]
    vector_dim: Positive
    unit_length: bool = False
    kind: Literal["nearest"] = "nearest"


QuantizerConfig = SoftQuantizerConfig | GumbelQuantizerConfig | NearestQuantizerConfig


@dataclass(frozen=True)
class FixedSpansConfig:
    """A fixed number of masked spans per utterance."""

    spans: Natural
    span_frames: Positive
    kind: Literal["fixed"] = "fixed"


@dataclass(frozen=True)
class ProbableSpansConfig:
    """Each frame starts a masked span with `probability`; starts are drawn without replacement."""

    probability: Share
    span_frames: Positive
    kind: Literal["probability"] = "probability"


@dataclass(frozen=True)
class QuerySoftmaxContextConfig:
    """The context network of the `tutorial` architecture: attention's softmax runs over queries."""

    dim: Positive
    layers: Layers
    heads: Positive
    feed_forward: Positive
    position_kernel: Positive
    position_groups: Positive
    kind: Literal["query_softmax"] = "query_softmax"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim


@dataclass(frozen=True)
class RelativePositionConfig:
    """WavLM's relative position bias.

    Attributes:
        buckets: buckets of distances, half of them per direction.
        max_distance: distance in frames from which all share the last bucket.
    """

    buckets: Annotated[int, Range(4)]
    max_distance: Positive


@dataclass(frozen=True)
class TransformerContextConfig:
    """The transformer of wav2vec 2.0, HuBERT, WavLM and data2vec.

    Attributes:
        kind: `post_norm` blocks (BASE) or `pre_norm` blocks (LARGE).
        dim: channels.
        layers: number of blocks.
        heads: attention heads.
        feed_forward: hidden width of the feed-forward layers.
        position_kernel: width of the positional convolution, in frames.
        position_groups: its groups.
        dropout: probability, in training.
        layer_drop: probability that a block is skipped, in training.
        norm_eps: added to the variance in layer norms.
        position: norm of the positional convolution: `weight_norm` (wav2vec 2.0), `batch_norm` of
            its input (some HuBERT), or `output_norm`, a layer norm per convolution (data2vec).
        position_layers: positional convolutions, with `output_norm`.
        relative_position: WavLM's attention bias, if any.
        language_adapter: hidden width of MMS's adapter in each block, if any.
        final_norm: whether a norm follows `pre_norm` blocks; false if the network was cut at one.
        adapter: strided convolutions after the blocks, if any.
        frame_rate: frames per second that features are resampled to, before their norm and
            projection; None for the rate of the feature encoder.
        activation: of the feed-forward layers.
    """

    kind: Literal["post_norm", "pre_norm"]
    dim: Positive
    layers: Layers
    heads: Positive
    feed_forward: Positive
    position_kernel: Positive
    position_groups: Positive
    dropout: Share = 0.0
    layer_drop: Share = 0.0
    norm_eps: PositiveReal = 1e-5
    position: Literal["weight_norm", "batch_norm", "output_norm"] = "weight_norm"
    position_layers: Annotated[int, Range(1, MAX_LAYERS)] = 1
    relative_position: RelativePositionConfig | None = None
    language_adapter: Positive | None = None
    final_norm: bool = True
    adapter: ConvAdapterConfig | None = None
    frame_rate: Annotated[float, Range(MIN_FRAME_RATE, MAX_FRAME_RATE)] | None = None
    activation: Activation = "gelu"

    @property
    def output_dim(self) -> int:
        """Channels of the context."""
        return self.dim if self.adapter is None else self.adapter.dim

    def cut(self, layers: int) -> TransformerContextConfig:
        """Return the network of the first `layers` blocks, with no norm after them, as in fairseq.

        Post-norm networks keep their norm, which comes before the blocks.
        """
        return replace(self, layers=layers, final_norm=self.kind == "post_norm", adapter=None)


ContextConfig = (
    QuerySoftmaxContextConfig
    | TransformerContextConfig
    | SewContextConfig
    | ConformerContextConfig
    | CausalConformerContextConfig
)


@dataclass(frozen=True)
class InBatchDistractorsConfig:
    """All other masked positions of the batch are distractors."""

    kind: Literal["in_batch"] = "in_batch"


@dataclass(frozen=True)
class SampledDistractorsConfig:
    """`count` distractors are drawn from the other masked positions of the same utterance."""

    count: Positive
    kind: Literal["sampled"] = "sampled"


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and temperatures of the pre-training losses."""

    distractors: InBatchDistractorsConfig | SampledDistractorsConfig
    projection_dim: Positive
    logit_temperature: PositiveReal
    diversity_weight: Weight
    penalty_weight: Weight
    feature_gradient_scale: Weight = 1.0


@dataclass(frozen=True)
class NormalisationConfig:
    """Zero mean and unit variance for each waveform; `eps` is added to the variance."""

    eps: PositiveReal


@dataclass(frozen=True)
class OutputsConfig:
    """Outputs in addition to the context.

    Attributes:
        layers: hidden states, as numbers of blocks from 1; 0 is the first block's input.
        pooled: pooling over the frames of an utterance, of `mixed` if there is one and of the
            context otherwise: the mean, or mean and standard deviation side by side.
        projected: width of a linear projection of the context, if any.
        mixed: hidden states whose mean is an output, if any.
        standardised: output whose channels are standardised, if any: each minus its mean, over its
            standard deviation. The projection and the head see the context before that.
    """

    layers: tuple[int, ...] = ()
    pooled: Pooling | None = None
    projected: Positive | None = None
    mixed: tuple[int, ...] = ()
    standardised: Literal["context", "mixed"] | None = None

    @property
    def main(self) -> Literal["context", "mixed"]:
        """The output that is pooled."""
        return "mixed" if self.mixed else "context"


Architecture = Literal[
    "tutorial",
    "wav2vec2",
    "hubert",
    "wavlm",
    "data2vec",
    "unispeech",
    "unispeech_sat",
    "sew",
    "sew_d",
    "wav2vec2_conformer",
    "wav2vec2_bert",
]
"""The model classes, by name."""


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a model: all that determines its shapes and arithmetic.

    Attributes:
        architecture: selects the model class.
        sample_rate: of the waveform, in Hz.
        feature_encoder: what makes features of the waveform.
        quantizer: maps features or context to codes, if any.
        masking: span masking for pre-training, if any.
        context: the transformer.
        objective: the pre-training objective, if any.
        normalise: normalisation of the waveform, if any.
        feature_norm: whether features are layer-normed; ignored by `tutorial`.
        head: classifier on the context, if any.
        outputs: outputs in addition to the context.
    """

    architecture: Architecture
    sample_rate: Positive
    feature_encoder: FeatureEncoderConfig | LogMelConfig
    quantizer: SoftQuantizerConfig | GumbelQuantizerConfig | NearestQuantizerConfig | None
    masking: FixedSpansConfig | ProbableSpansConfig | None
    context: ContextConfig
    objective: ObjectiveConfig | None
    normalise: NormalisationConfig | None = None
    feature_norm: bool = True
    head: (
        CtcHeadConfig
        | UtteranceHeadConfig
        | FrameHeadConfig
        | PooledHeadConfig
        | XVectorHeadConfig
        | None
    ) = None
    outputs: OutputsConfig = OutputsConfig()

    def __post_init__(self) -> None:
        """Validate; see `validate`."""
        validate(self)

    @property
    def geometry(self) -> Geometry:
        """Hop, receptive field and padding of the frames, in samples."""
        return self.feature_encoder.geometry

    @property
    def quantizer_input(self) -> Literal["features", "context"] | None:
        """Input of the quantizer."""
        if self.quantizer is None:
            return None
        return "context" if self.quantizer.kind == "nearest" else "features"

    @property
    def squeeze(self) -> int:
        """Number of frames that are one frame of the transformer."""
        return int(getattr(self.context, "squeeze", 1))

    @property
    def resampling(self) -> Resampling | None:
        """Resampling of the features; `features` are then those before the norm."""
        frame_rate = getattr(self.context, "frame_rate", None)
        if frame_rate is None:
            return None
        return Resampling.of(frame_rate, self.geometry.hop, self.sample_rate)

    def context_frames(self, frames: int) -> int:
        """Return the context frames of an utterance of `frames` feature frames."""
        if self.resampling is not None:
            return self.resampling.frames(frames)
        adapter = getattr(self.context, "adapter", None)
        return frames if adapter is None else int(adapter.frames(frames))

    @property
    def embedding_min_frames(self) -> int | None:
        """Fewest feature frames of which an x-vector is computed; None without such a head."""
        if not isinstance(self.head, XVectorHeadConfig):
            return None
        adapter = None if self.head.weighted_layers else getattr(self.context, "adapter", None)
        fewest = self.head.min_frames
        return fewest if adapter is None else int(adapter.needed(fewest))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Read a plain dict.

        Raises:
            ConfigError: a key is missing, unknown, of the wrong type, out of range or inconsistent.
        """
        return strict.from_plain(cls, data)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict of numbers, strings and lists."""
        plain: dict[str, Any] = strict.to_plain(self)
        return plain
