"""What a configuration must hold beyond its types, so that a model can be built and trained."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from w2v_edge.errors import ConfigError

if TYPE_CHECKING:
    from w2v_edge.model.config import ModelConfig

SMALLEST: dict[str, int] = {
    "sample_rate": 1,
    "quantizer.groups": 1,
    "quantizer.entries": 2,
    "quantizer.vector_dim": 1,
    "masking.spans": 0,
    "masking.span_frames": 1,
    "context.dim": 1,
    "context.layers": 0,
    "context.heads": 1,
    "context.feed_forward": 1,
    "context.position_kernel": 1,
    "context.position_groups": 1,
    "objective.projection_dim": 1,
    "objective.distractors.count": 1,
}

SHARES = ("masking.probability", "context.dropout", "context.layer_drop")
"""From 0 to 1."""

WEIGHTS = (
    "objective.diversity_weight",
    "objective.penalty_weight",
    "objective.feature_gradient_scale",
)
"""From 0 up."""

SCALES = (
    "objective.logit_temperature",
    "quantizer.temperature.start",
    "quantizer.temperature.end",
    "quantizer.temperature.decay",
)
"""Above 0."""


def validate(config: ModelConfig) -> None:
    """Refuse what no model could be built from or trained with.

    Raises:
        ConfigError: a value out of range, or two that do not go together; the key is named.
    """
    _check_ranges(config)
    _check_convolutions(config)
    _check_divisions(config)
    _check_kinds(config)


def _check_ranges(config: ModelConfig) -> None:
    for path, smallest in SMALLEST.items():
        _check(config, path, partial(operator.le, smallest), f"a number from {smallest} up")
    for path in SHARES:
        _check(config, path, lambda x: 0 <= x <= 1, "a number from 0 to 1")
    for path in WEIGHTS:
        _check(config, path, lambda x: 0 <= x < math.inf, "a number from 0 up")
    for path in SCALES:
        _check(config, path, lambda x: 0 < x < math.inf, "a number above 0")
    _check(config, "quantizer.temperature.decay", lambda x: x <= 1, "at most 1")


def _check(config: ModelConfig, path: str, holds: Callable[[float], bool], expected: str) -> None:
    """Check the value at a path, unless this kind of configuration has no such key."""
    value: object = config
    for name in path.split("."):
        if not hasattr(value, name):
            return
        value = getattr(value, name)
    assert isinstance(value, int | float)
    if not holds(value):
        raise ConfigError(f"{path}: expected {expected}, found {value}")


def _check_convolutions(config: ModelConfig) -> None:
    layers = config.feature_encoder.layers
    if not layers:
        raise ConfigError("feature_encoder.layers: expected at least one layer, found none")
    padded = config.feature_encoder.kind == "padded"
    for i, layer in enumerate(layers):
        where = f"feature_encoder.layers[{i}]"
        for name in ("channels", "kernel", "stride"):
            if getattr(layer, name) < 1:
                found = getattr(layer, name)
                raise ConfigError(f"{where}.{name}: expected a number above 0, found {found}")
        if layer.padding and not padded:
            raise ConfigError(f"{where}.padding: only a 'padded' encoder may have padding")
        if layer.padding < 0 or 2 * layer.padding >= layer.kernel:
            raise ConfigError(
                f"{where}.padding: expected less than half the kernel ({layer.kernel}), "
                f"found {layer.padding}"
            )


def _check_divisions(config: ModelConfig) -> None:
    context, quantizer = config.context, config.quantizer
    for whole, part, where in (
        (context.dim, context.heads, "context.dim by context.heads"),
        (context.dim, context.position_groups, "context.dim by context.position_groups"),
        (quantizer.vector_dim, quantizer.groups, "quantizer.vector_dim by quantizer.groups"),
    ):
        if whole % part:
            raise ConfigError(f"{where}: {whole} is not divisible by {part}")


def _check_kinds(config: ModelConfig) -> None:
    tutorial = config.architecture == "tutorial"
    padded = config.feature_encoder.kind == "padded"
    over_queries = config.context.kind == "query_softmax"
    if not tutorial == padded == over_queries:
        raise ConfigError(
            f"architecture {config.architecture!r} does not go with feature encoder "
            f"{config.feature_encoder.kind!r} and context network {config.context.kind!r}"
        )
    if tutorial and config.objective.projection_dim != config.quantizer.vector_dim:
        raise ConfigError(
            "objective.projection_dim: expected quantizer.vector_dim "
            f"({config.quantizer.vector_dim}), found {config.objective.projection_dim}"
        )
    if over_queries and config.context.position_kernel % 2 == 0:
        raise ConfigError("context.position_kernel: expected an odd number for 'query_softmax'")
