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
    "context.position_layers": 1,
    "context.relative_position.buckets": 4,
    "context.relative_position.max_distance": 1,
    "context.language_adapter": 1,
    "context.adapter.dim": 1,
    "context.adapter.layers": 0,
    "context.adapter.kernel": 1,
    "context.adapter.stride": 1,
    "context.adapter.padding": 0,
    "head.size": 1,
    "head.hidden": 1,
    "head.blank": 0,
    "objective.projection_dim": 1,
    "objective.distractors.count": 1,
}

LARGEST = ("context.layers", "context.position_layers", "context.adapter.layers")
MOST_LAYERS = 1000
"""Each is a module to build, before any weights tell that a config claims too much."""

SHARES = ("masking.probability", "context.dropout", "context.layer_drop")
"""From 0 to 1."""

WEIGHTS = (
    "objective.diversity_weight",
    "objective.penalty_weight",
    "objective.feature_gradient_scale",
)
"""From 0 up."""

SCALES = (
    "context.norm_eps",
    "normalise.eps",
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
    _check_training(config)
    _check_outputs(config)


def _check_ranges(config: ModelConfig) -> None:
    for path, smallest in SMALLEST.items():
        _check(config, path, partial(operator.le, smallest), f"a number from {smallest} up")
    for path in LARGEST:
        _check(config, path, lambda x: x <= MOST_LAYERS, f"at most {MOST_LAYERS}")
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
        value = getattr(value, name, None)
        if value is None:
            return
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
    pairs = [
        (context.dim, context.heads, "context.dim by context.heads"),
        (context.dim, context.position_groups, "context.dim by context.position_groups"),
    ]
    if quantizer is not None:
        pairs.append(
            (quantizer.vector_dim, quantizer.groups, "quantizer.vector_dim by quantizer.groups")
        )
    for whole, part, where in pairs:
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
    relative = getattr(config.context, "relative_position", None)
    if relative is not None and relative.max_distance <= relative.buckets // 4:
        raise ConfigError(
            "context.relative_position.max_distance: expected more than a quarter of the buckets "
            f"({relative.buckets}), found {relative.max_distance}"
        )
    if over_queries and config.context.position_kernel % 2 == 0:
        raise ConfigError("context.position_kernel: expected an odd number for 'query_softmax'")


def _check_training(config: ModelConfig) -> None:
    """A pre-training objective needs a quantizer of features."""
    quantizer, objective = config.quantizer, config.objective
    trained = config.quantizer_input == "features"
    if config.architecture == "tutorial" and (not trained or objective is None):
        raise ConfigError("architecture 'tutorial' needs a quantizer of features and an objective")
    if objective is None:
        return
    if not trained:
        raise ConfigError("objective: needs a quantizer of features")
    assert quantizer is not None
    if config.architecture == "tutorial" and objective.projection_dim != quantizer.vector_dim:
        raise ConfigError(
            "objective.projection_dim: expected quantizer.vector_dim "
            f"({quantizer.vector_dim}), found {objective.projection_dim}"
        )


def _check_outputs(config: ModelConfig) -> None:
    """What comes out beside features must be there."""
    layers, head, quantizer = config.context.layers, config.head, config.quantizer
    for layer in config.outputs.layers:
        if not 1 <= layer <= layers:
            raise ConfigError(f"outputs.layers: expected layers from 1 to {layers}, found {layer}")
    if len(set(config.outputs.layers)) < len(config.outputs.layers):
        raise ConfigError("outputs.layers: the same layer twice")
    dim = config.context.output_dim
    if (
        quantizer is not None
        and quantizer.kind == "nearest"
        and (quantizer.groups, quantizer.vector_dim) != (1, dim)
    ):
        raise ConfigError(
            f"quantizer: expected 1 group of vectors {dim} wide, found "
            f"{quantizer.groups} of {quantizer.vector_dim}"
        )
    if config.architecture == "tutorial" and (head or config.outputs.layers or config.normalise):
        raise ConfigError("architecture 'tutorial' has no head, layer outputs or normalisation")
    if head is not None and head.kind == "ctc":
        _check_labels(head.labels, head.size, head.blank)


def _check_labels(labels: tuple[str, ...], size: int, blank: int) -> None:
    if labels and len(labels) != size:
        raise ConfigError(f"head.labels: expected {size} labels, found {len(labels)}")
    if len(set(labels)) < len(labels):
        raise ConfigError("head.labels: the same label twice")
    if blank >= size:
        raise ConfigError(f"head.blank: expected an index below {size}, found {blank}")
