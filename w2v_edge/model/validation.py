"""Validation of model configurations, beyond the types that `strict` checks.

The bounds of a number belong to its type, as in `heads: Positive`, so a field cannot be forgotten:
an int or float field without bounds is a TypeError, when the first configuration is built.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from w2v_edge.errors import ConfigError

if TYPE_CHECKING:
    from w2v_edge.model.config import ModelConfig
    from w2v_edge.model.conformer_config import AnyConformerConfig

CONFORMERS = {"wav2vec2_conformer": "conformer", "wav2vec2_bert": "causal_conformer"}
"""Kind of the context network by architecture, of architectures with a conformer."""

MEL_RATE = 16_000
"""Sample rate of mel energies, in Hz."""

MAX_LAYERS = 1000
"""Each layer is a module to build, before the weights show that a config claims too many."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, inclusive; infinity and NaN are never inside.

    Attributes:
        minimum: the smallest value.
        maximum: the largest value.
        above: exclude `minimum` itself.
    """

    minimum: float
    maximum: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether `value` is finite and inside the bounds."""
        low = value > self.minimum if self.above else value >= self.minimum
        return low and value <= self.maximum and value < math.inf

    def __str__(self) -> str:
        """Return the bounds in words."""
        low = f"above {self.minimum:g}" if self.above else f"from {self.minimum:g}"
        high = "up" if self.maximum == math.inf else f"to {self.maximum:g}"
        return f"a number {low}" if self.above and high == "up" else f"a number {low} {high}"


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Layers = Annotated[int, Range(0, MAX_LAYERS)]
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0)]
PositiveReal = Annotated[float, Range(0, above=True)]
Decay = Annotated[float, Range(0, 1, above=True)]


def validate(config: ModelConfig) -> None:
    """Check that a model can be built from a configuration, and trained.

    Raises:
        ConfigError: a value is out of range, or two are inconsistent; the key is named.
    """
    _check_ranges(config)
    _check_convolutions(config)
    _check_divisions(config)
    _check_conformer(config)
    _check_kinds(config)
    _check_training(config)
    _check_outputs(config)


def _check_ranges(config: Any, where: str = "") -> None:
    """Check all numbers of a config dataclass, and of those inside it, against their bounds."""
    for name, bounds in ranges(config.__class__).items():
        value = getattr(config, name)
        if value is not None and value not in bounds:
            raise ConfigError(f"{where}{name}: expected {bounds}, found {value}")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{where}{field.name}.")
        for i, item in enumerate(value if isinstance(value, tuple) else ()):
            if dataclasses.is_dataclass(item):
                _check_ranges(item, f"{where}{field.name}[{i}].")


@cache
def ranges(cls: type) -> dict[str, Range]:
    """Return the bounds of each int or float field of a config dataclass.

    Raises:
        TypeError: a field has no bounds.
    """
    found = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        # `Positive | None` is a union with a member that has the bounds.
        for member in (hint, *typing.get_args(hint)):
            bare = typing.get_origin(hint) not in {Annotated, tuple}
            if member in {int, float} and bare:
                raise TypeError(f"{cls.__name__}.{name}: found {member.__name__}, expected a Range")
            if typing.get_origin(member) is Annotated:
                found[name] = typing.cast("Range", member.__metadata__[0])
    return found


def _check_convolutions(config: ModelConfig) -> None:
    layers = config.feature_encoder.layers
    if not layers:
        raise ConfigError("feature_encoder.layers: expected at least one layer, found none")
    padded = config.feature_encoder.kind == "padded"
    for i, layer in enumerate(layers):
        where = f"feature_encoder.layers[{i}]"
        if layer.padding and not padded:
            raise ConfigError(f"{where}.padding: expected 0 unless the encoder is 'padded'")
        if 2 * layer.padding >= layer.kernel:
            raise ConfigError(
                f"{where}.padding: expected less than half the kernel ({layer.kernel}), "
                f"found {layer.padding}"
            )


def _check_divisions(config: ModelConfig) -> None:
    context, quantizer = config.context, config.quantizer
    pairs = [(context.dim, context.heads, "context.dim by context.heads")]
    if context.kind == "causal_conformer":
        pairs.append((context.output_dim, context.heads, "context.adapter.dim by context.heads"))
    elif context.kind != "conformer":
        groups = context.position_groups
        pairs.append((context.dim, groups, "context.dim by context.position_groups"))
    if quantizer is not None:
        pairs.append(
            (quantizer.vector_dim, quantizer.groups, "quantizer.vector_dim by quantizer.groups")
        )
    for whole, part, where in pairs:
        if whole % part:
            raise ConfigError(f"{where}: {whole} is not divisible by {part}")


def _check_conformer(config: ModelConfig) -> None:
    if not config.context.kind.endswith("conformer"):
        return
    context = typing.cast("AnyConformerConfig", config.context)
    if context.kernel % 2 == 0:
        raise ConfigError(f"context.kernel: expected an odd number, found {context.kernel}")
    kind = None if context.position is None else context.position.kind
    width = {"rotary": context.dim // context.heads, "relative": context.dim}.get(str(kind), 0)
    if width % 2:
        raise ConfigError(f"context.position: {kind!r} needs an even width, found {width}")


def _check_kinds(config: ModelConfig) -> None:
    tutorial = config.architecture == "tutorial"
    padded = config.feature_encoder.kind == "padded"
    kind = config.context.kind
    over_queries = kind == "query_softmax"
    mel = config.feature_encoder.kind == "log_mel"
    conformer = kind if kind.endswith("conformer") else None
    consistent = (
        tutorial == padded == over_queries
        and conformer == CONFORMERS.get(config.architecture)
        and mel == (kind == "causal_conformer")
    )
    if not consistent:
        raise ConfigError(
            f"architecture {config.architecture!r} does not go with feature encoder "
            f"{config.feature_encoder.kind!r} and context network {config.context.kind!r}"
        )
    if mel and config.normalise is not None:
        raise ConfigError("normalise: expected none, since mel energies are normalised themselves")
    if mel and config.sample_rate != MEL_RATE:
        raise ConfigError(
            f"sample_rate: expected {MEL_RATE} for mel energies, found {config.sample_rate}"
        )
    relative = getattr(config.context, "relative_position", None)
    if relative is not None and relative.max_distance <= relative.buckets // 4:
        raise ConfigError(
            "context.relative_position.max_distance: expected more than a quarter of the buckets "
            f"({relative.buckets}), found {relative.max_distance}"
        )
    buckets, furthest = (getattr(config.context, x, 0) for x in ("buckets", "max_distance"))
    if buckets and (buckets < 4 or furthest <= buckets // 2 + 1):  # noqa: PLR2004 - two a direction
        raise ConfigError(
            "context.buckets: expected at least 4, and half of them below max_distance "
            f"({furthest}) - 1, found {buckets}"
        )
    if over_queries and getattr(config.context, "position_kernel", 1) % 2 == 0:
        raise ConfigError("context.position_kernel: expected an odd number for 'query_softmax'")


def _check_training(config: ModelConfig) -> None:
    """Check that a pre-training objective has a quantizer of features."""
    quantizer, objective = config.quantizer, config.objective
    trained = config.quantizer_input == "features"
    adapter = getattr(config.context, "adapter", None)
    if config.resampling is not None and (trained or objective is not None or adapter):
        raise ConfigError(
            "context.frame_rate: expected neither a quantizer of features, nor an objective or an "
            "adapter"
        )
    if config.architecture == "tutorial" and (not trained or objective is None):
        raise ConfigError("architecture 'tutorial' needs a quantizer of features and an objective")
    if objective is None:
        return
    if quantizer is None or not trained:
        raise ConfigError("objective: needs a quantizer of features")
    if config.architecture == "tutorial" and objective.projection_dim != quantizer.vector_dim:
        raise ConfigError(
            "objective.projection_dim: expected quantizer.vector_dim "
            f"({quantizer.vector_dim}), found {objective.projection_dim}"
        )


def _check_outputs(config: ModelConfig) -> None:
    """Check layer outputs, units and the head against the context network."""
    head, quantizer = config.head, config.quantizer
    _check_states(config)
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
    outputs = config.outputs
    of_states = outputs.layers or outputs.mixed or outputs.standardised
    if config.architecture == "tutorial" and (head or of_states or config.normalise):
        raise ConfigError("architecture 'tutorial' has no head, layer outputs or normalisation")
    mixed = getattr(head, "weighted_layers", False) and getattr(head, "kind", "") != "utterance"
    if config.context.kind in {"squeezed", "disentangled"} and (mixed or of_states):
        raise ConfigError(
            f"architecture {config.architecture!r} has no layer outputs: inside, its frames are "
            "means of several"
        )
    if head is not None and "embedding" in head.outputs and outputs.pooled is not None:
        raise ConfigError(
            "outputs.pooled (--pool): found an x-vector head, whose output `embedding` already is; "
            "leave --pool out, or read the body alone: --as body"
        )
    if head is not None and head.kind == "ctc":
        _check_labels(head.labels, head.size, head.blank)


def _check_states(config: ModelConfig) -> None:
    """Check the numbers of layers that are outputs."""
    layers = config.context.layers
    outputs = config.outputs
    for name, chosen in (("layers", outputs.layers), ("mixed", outputs.mixed)):
        for layer in chosen:
            if not 0 <= layer <= layers:
                raise ConfigError(
                    f"outputs.{name}: expected layers from 0 to {layers}, found {layer}"
                )
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"outputs.{name}: found a layer twice, expected distinct layers")
    if outputs.standardised not in {None, outputs.main}:
        raise ConfigError(
            f"outputs.standardised: expected {outputs.main!r}, found {outputs.standardised!r}"
        )


def _check_labels(labels: tuple[str, ...], size: int, blank: int) -> None:
    if labels and len(labels) != size:
        raise ConfigError(f"head.labels: expected {size} labels, found {len(labels)}")
    # An output without a label has an empty one.
    named = [label for label in labels if label]
    if len(set(named)) < len(named):
        raise ConfigError("head.labels: found a label twice, expected distinct labels")
    if blank >= size:
        raise ConfigError(f"head.blank: expected an index below {size}, found {blank}")
