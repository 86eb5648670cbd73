"""Validation of model configurations."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import pytest

from w2v_edge.errors import ConfigError
from w2v_edge.model import ModelConfig, preset
from w2v_edge.model.validation import ranges

OUT_OF_RANGE: dict[str, tuple[float, ...]] = {
    "sample_rate": (0,),
    "quantizer.entries": (1,),
    "context.layers": (-1, 1001),
    "context.dropout": (-0.1, 1.5, math.nan),
    "masking.probability": (-0.1,),
    "objective.distractors.count": (0,),
    "objective.logit_temperature": (0.0, math.nan, math.inf),
    "objective.diversity_weight": (-1.0, math.nan),
    "quantizer.temperature.decay": (0.0, 1.5),
    "feature_encoder.layers.2.kernel": (0,),
    "feature_encoder.layers.2.padding": (-1, 1),
}
"""One field of each kind of bounds, with values outside them."""


def _changed(name: str, path: str, value: Any) -> dict[str, Any]:
    plain = preset(name).to_dict()
    inner: Any = plain
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in parents:
        inner = inner[key]
    assert last in inner
    inner[last] = value
    return plain


def test_a_number_out_of_range_is_named() -> None:
    """A number outside its bounds is an error that begins with the full path of its key."""
    for path, values in OUT_OF_RANGE.items():
        spelled = path.replace("layers.2", "layers[2]")
        for value in values:
            with pytest.raises(ConfigError) as caught:
                ModelConfig.from_dict(_changed("tiny", path, value))
            assert str(caught.value).startswith(f"{spelled}: expected ")


def _config_classes(hint: Any) -> set[type]:
    """All dataclasses in a type, at any depth."""
    if dataclasses.is_dataclass(hint):
        fields = typing.get_type_hints(hint).values()
        return {typing.cast("type", hint)}.union(*map(_config_classes, fields))
    return set[type]().union(*map(_config_classes, typing.get_args(hint)))


def test_every_number_of_the_config_has_bounds() -> None:
    """No int or float field of any config class is left without validation."""
    classes = _config_classes(ModelConfig)
    assert len(classes) > 15
    for cls in classes:
        hints = typing.get_type_hints(cls)
        numbers = {name for name, hint in hints.items() if {int, float} & {hint, *_members(hint)}}
        assert ranges(cls).keys() == numbers, cls


def _members(hint: Any) -> tuple[Any, ...]:
    return () if typing.get_origin(hint) is tuple else typing.get_args(hint)


def test_a_number_without_bounds_cannot_be_declared() -> None:
    """A config class with a bare int or float field raises as soon as it is validated."""
    for hint in [int, float, int | None]:
        cls = dataclasses.make_dataclass("Careless", [("size", hint)])
        with pytest.raises(TypeError, match=r"Careless\.size: found (int|float), expected a Range"):
            ranges(cls)


def test_inconsistent_values_are_named() -> None:
    """Values that exclude each other are an error that names them."""
    cases: list[tuple[str, str, object, str]] = [
        ("tutorial", "context.position_kernel", 128, "context.position_kernel: expected an odd"),
        ("tutorial", "objective.projection_dim", 128, "objective.projection_dim"),
        ("tutorial", "architecture", "wav2vec2", "architecture 'wav2vec2' does not go with"),
        (
            "tutorial",
            "feature_encoder.layers.2.padding",
            2,
            "padding: expected less than half",
        ),
        ("base", "feature_encoder.kind", "padded", "feature encoder 'padded'"),
        ("base", "feature_encoder.layers", [], "feature_encoder.layers: expected at least one"),
        ("base", "feature_encoder.layers.0.padding", 1, "layers[0].padding: expected 0 unless"),
        ("base", "context.heads", 7, "context.dim by context.heads: 768 is not divisible by 7"),
        ("base", "context.position_groups", 7, "context.dim by context.position_groups"),
        ("base", "quantizer.vector_dim", 255, "quantizer.vector_dim by quantizer.groups"),
        ("base", "quantizer", None, "objective: needs a quantizer of features"),
        ("base", "outputs.layers", [13], "outputs.layers: expected layers from 0 to 12, found 13"),
        ("base", "outputs.layers", [2, 2], "outputs.layers: found a layer twice"),
    ]
    for name, path, value, message in cases:
        with pytest.raises(ConfigError) as caught:
            ModelConfig.from_dict(_changed(name, path, value))
        assert message in str(caught.value)


def _conformer(**changes: Any) -> dict[str, Any]:
    """Return the plain values of a w2v-BERT; `context` in changes is merged in."""
    context: dict[str, Any] = {"dim": 24, "layers": 1, "heads": 4, "feed_forward": 8, "kernel": 3}
    context |= {"kind": "causal_conformer", "activation": "swish", "position": None}
    context |= changes.pop("context", {})
    return {
        "architecture": "wav2vec2_bert",
        "sample_rate": 16_000,
        "feature_encoder": {"kind": "log_mel", "bins": 80},
        "quantizer": None,
        "masking": None,
        "context": context,
        "objective": None,
        **changes,
    }


def test_a_conformer_comes_back() -> None:
    """A w2v-BERT's configuration, with all its parts, is the same from its plain values."""
    adapter = {"dim": 16, "layers": 1, "kernel": 3, "stride": 2, "padding": 1, "feed_forward": 8}
    position = {"kind": "relative_key", "left": 4, "right": 2}
    config = ModelConfig.from_dict(_conformer(context={"adapter": adapter, "position": position}))
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert config.context_frames(9) == 5
    assert (config.geometry.receptive_field, config.geometry.hop) == (560, 320)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "wav2vec2"}, "architecture 'wav2vec2' does not go with"),
        ({"architecture": "wav2vec2_conformer"}, "does not go with feature encoder 'log_mel'"),
        ({"normalise": {"eps": 1e-7}}, "normalise: expected none"),
        ({"sample_rate": 8_000}, "sample_rate: expected 16000 for mel energies, found 8000"),
        ({"context": {"kernel": 4}}, "context.kernel: expected an odd number, found 4"),
        (
            {"context": {"dim": 12, "position": {"kind": "rotary", "base": 10.0}}},
            "context.position: 'rotary' needs an even width, found 3",
        ),
        ({"context": {"heads": 5}}, "context.dim by context.heads"),
    ],
)
def test_inconsistent_conformers_are_named(changes: dict[str, Any], message: str) -> None:
    """Values that exclude each other are an error that names them."""
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict(_conformer(**changes))
    assert message in str(caught.value)
