"""Presets: named model configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from w2v_edge.errors import ConfigError
from w2v_edge.model.config import (
    ConvLayer,
    FeatureEncoderConfig,
    FixedSpansConfig,
    GumbelQuantizerConfig,
    InBatchDistractorsConfig,
    ModelConfig,
    ObjectiveConfig,
    ProbableSpansConfig,
    QuerySoftmaxContextConfig,
    SampledDistractorsConfig,
    TemperatureSchedule,
    TransformerContextConfig,
)
from w2v_edge.names import Preset

SAMPLE_RATE = 16_000


def preset(name: str) -> ModelConfig:
    """Return the configuration of preset `name`.

    Raises:
        ConfigError: an unknown preset.
    """
    if name not in _PRESETS:
        choices = ", ".join(get_args(Preset))
        raise ConfigError(f"unknown preset {name!r}; choose one of: {choices}")
    return _PRESETS[name]()


def _tutorial() -> ModelConfig:
    """The reference notebook's network."""
    first = ConvLayer(channels=512, kernel=9, stride=5, padding=4)
    others = (ConvLayer(channels=512, kernel=3, stride=2, padding=1),) * 6
    return ModelConfig(
        architecture="tutorial",
        sample_rate=SAMPLE_RATE,
        feature_encoder=FeatureEncoderConfig("padded", (first, *others), bias=True),
        quantizer=GumbelQuantizerConfig(
            groups=2,
            entries=320,
            vector_dim=256,
            temperature=TemperatureSchedule(start=0.1, end=0.1, decay=1.0),
            hard=False,
        ),
        masking=FixedSpansConfig(spans=8, span_frames=10),
        context=QuerySoftmaxContextConfig(
            dim=768,
            layers=12,
            heads=12,
            feed_forward=3072,
            position_kernel=127,
            position_groups=12,
        ),
        objective=ObjectiveConfig(
            distractors=InBatchDistractorsConfig(),
            projection_dim=256,
            logit_temperature=1.0,
            diversity_weight=0.1,
            penalty_weight=10.0,
        ),
    )


def _wav2vec2_convs(channels: int) -> tuple[ConvLayer, ...]:
    """The seven convolutions of wav2vec 2.0, section 4.2: hop 320, receptive field 400 samples."""
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    return tuple(ConvLayer(channels, k, s) for k, s in zip(kernels, strides, strict=True))


def _tiny() -> ModelConfig:
    """About 1.2 million parameters, norms as in `large`: no statistics over the utterance."""
    return ModelConfig(
        architecture="wav2vec2",
        sample_rate=SAMPLE_RATE,
        feature_encoder=FeatureEncoderConfig("layer_norm", _wav2vec2_convs(128), bias=True),
        quantizer=GumbelQuantizerConfig(
            groups=2,
            entries=64,
            vector_dim=128,
            temperature=TemperatureSchedule(start=2.0, end=0.5, decay=0.9995),
            hard=True,
        ),
        masking=ProbableSpansConfig(probability=0.065, span_frames=10),
        context=TransformerContextConfig(
            "pre_norm",
            dim=128,
            layers=4,
            heads=4,
            feed_forward=512,
            position_kernel=64,
            position_groups=16,
        ),
        objective=ObjectiveConfig(
            distractors=SampledDistractorsConfig(count=50),
            projection_dim=128,
            logit_temperature=0.1,
            diversity_weight=0.1,
            penalty_weight=0.0,
        ),
    )


def _base() -> ModelConfig:
    """BASE (LS-960) of wav2vec 2.0, tables and section 4.2."""
    return ModelConfig(
        architecture="wav2vec2",
        sample_rate=SAMPLE_RATE,
        feature_encoder=FeatureEncoderConfig("group_norm", _wav2vec2_convs(512), bias=False),
        quantizer=GumbelQuantizerConfig(
            groups=2,
            entries=320,
            vector_dim=256,
            temperature=TemperatureSchedule(start=2.0, end=0.5, decay=0.999995),
            hard=True,
        ),
        masking=ProbableSpansConfig(probability=0.065, span_frames=10),
        context=TransformerContextConfig(
            "post_norm",
            dim=768,
            layers=12,
            heads=12,
            feed_forward=3072,
            position_kernel=128,
            position_groups=16,
            dropout=0.1,
            layer_drop=0.05,
        ),
        objective=ObjectiveConfig(
            distractors=SampledDistractorsConfig(count=100),
            projection_dim=256,
            logit_temperature=0.1,
            diversity_weight=0.1,
            penalty_weight=10.0,
            feature_gradient_scale=0.1,
        ),
    )


def _large() -> ModelConfig:
    """LARGE as trained on LV-60k and in XLS-R."""
    return ModelConfig(
        architecture="wav2vec2",
        sample_rate=SAMPLE_RATE,
        feature_encoder=FeatureEncoderConfig("layer_norm", _wav2vec2_convs(512), bias=True),
        quantizer=GumbelQuantizerConfig(
            groups=2,
            entries=320,
            vector_dim=768,
            temperature=TemperatureSchedule(start=2.0, end=0.1, decay=0.999995),
            hard=True,
        ),
        masking=ProbableSpansConfig(probability=0.065, span_frames=10),
        context=TransformerContextConfig(
            "pre_norm",
            dim=1024,
            layers=24,
            heads=16,
            feed_forward=4096,
            position_kernel=128,
            position_groups=16,
        ),
        objective=ObjectiveConfig(
            distractors=SampledDistractorsConfig(count=100),
            projection_dim=768,
            logit_temperature=0.1,
            diversity_weight=0.1,
            penalty_weight=0.0,
        ),
    )


_PRESETS: dict[str, Callable[[], ModelConfig]] = {
    "tutorial": _tutorial,
    "tiny": _tiny,
    "base": _base,
    "large": _large,
}
