"""Configurations as plain data: a one-to-one mapping, and errors that name the key."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pytest

from w2v_edge.errors import ConfigError
from w2v_edge.model import ModelConfig, preset
from w2v_edge.names import Preset
from w2v_edge.strict import from_plain, to_plain

PRESETS = get_args(Preset)
Path = tuple[str | int, ...]

NULL = {"quantizer", "masking", "objective", "normalise", "head", "pooled"}
NULL |= {"relative_position", "language_adapter", "adapter", "standardised", "frame_rate"}
"""Keys whose value may be null."""

OPTIONAL = {
    "outputs.projected",
    "outputs.mixed",
    "padding",
    "dropout",
    "layer_drop",
    "feature_gradient_scale",
    "norm_eps",
    "activation",
    "position",
}
OPTIONAL |= {"position_layers", "final_norm", "feature_norm", "outputs", "outputs.layers"}
OPTIONAL |= NULL - {"quantizer", "masking", "objective"}
"""Keys with a default."""


@dataclass(frozen=True)
class _Leaf:
    size: int
    share: float = 0.5
    note: str | None = None


@dataclass(frozen=True)
class _Tree:
    name: Literal["oak", "elm"]
    leaves: tuple[_Leaf, ...]
    counts: dict[str, int]
    ready: bool = False


TREE: dict[str, Any] = {
    "name": "oak",
    "leaves": [{"size": 1}, {"size": 2, "share": 1, "note": "old"}],
    "counts": {"a": 1},
}


def _paths(plain: Any, where: Path = ()) -> Iterator[Path]:
    """Return every path to a value in nested dicts and lists."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for key, value in items:
        yield (*where, key)
        if isinstance(value, dict | list):
            yield from _paths(value, (*where, key))


def _spell(path: Path) -> str:
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _parent(plain: Any, path: Path) -> Any:
    for key in path[:-1]:
        plain = plain[key]
    return plain


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json(name: str) -> None:
    """To a dict, to text and back gives an equal configuration."""
    config = preset(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", ["tutorial", "base"])
def test_each_missing_key_is_named(name: str) -> None:
    """Every key but those with a default must be there, or its full path is in the error."""
    plain = preset(name).to_dict()
    for path in _paths(plain):
        if isinstance(path[-1], str) and not {path[-1], _spell(path)} & OPTIONAL:
            damaged = copy.deepcopy(plain)
            del _parent(damaged, path)[path[-1]]
            with pytest.raises(ConfigError) as caught:
                ModelConfig.from_dict(damaged)
            assert f"missing key '{_spell(path)}'" in str(caught.value)


@pytest.mark.parametrize("name", ["tutorial", "base"])
def test_each_unknown_key_is_named(name: str) -> None:
    """An unknown key is refused with its full path."""
    plain = preset(name).to_dict()
    for path in _paths(plain):
        if isinstance(path[-1], str):
            damaged = copy.deepcopy(plain)
            _parent(damaged, path)["sizes"] = 1
            with pytest.raises(ConfigError) as caught:
                ModelConfig.from_dict(damaged)
            assert f"unknown key '{_spell((*path[:-1], 'sizes'))}'" in str(caught.value)


def test_each_value_of_the_wrong_type_is_named() -> None:
    """A value of another type is an error that begins with its full path."""
    for name in ["tutorial", "base"]:
        for wrong in [None, "many", [1], {"a": 1}, True, 1.5]:
            plain = preset(name).to_dict()
            for path in _paths(plain):
                value = _parent(plain, path)[path[-1]]
                fits = type(value) is type(wrong) and not isinstance(wrong, str | dict | list)
                fits |= wrong is None and path[-1] in NULL
                fits |= wrong == [1] and _spell(path) in {"outputs.layers", "outputs.mixed"}
                if fits:
                    continue
                damaged = copy.deepcopy(plain)
                _parent(damaged, path)[path[-1]] = wrong
                with pytest.raises(ConfigError) as caught:
                    ModelConfig.from_dict(damaged)
                message = str(caught.value)
                assert _spell(path) in message
                assert "\n" not in message


def test_no_value_is_quietly_converted() -> None:
    """No value is converted, except int to float."""
    tree = from_plain(_Tree, TREE)
    assert tree.leaves[1] == _Leaf(2, 1.0, "old")
    assert isinstance(tree.leaves[1].share, float)
    for wrong in ({"size": 1.0}, {"size": "1"}, {"size": True}, {"size": 1, "share": False}):
        with pytest.raises(ConfigError, match=r"leaves\[0\]\.(size|share): expected"):
            from_plain(_Tree, {**TREE, "leaves": [wrong]})


def test_defaults_fill_what_is_left_out() -> None:
    """Missing fields get their defaults."""
    tree = from_plain(_Tree, TREE)
    assert (tree.ready, tree.leaves[0]) == (False, _Leaf(1, 0.5, None))
    assert from_plain(_Tree, to_plain(tree)) == tree


def test_the_error_says_what_was_found_and_expected() -> None:
    """Errors have path, expected and found in one line."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"name": "ash"}, "name: expected 'oak' or 'elm', found 'ash'"),
        ({"counts": {"a": "1"}}, "counts.a: expected int, found '1'"),
        ({"counts": []}, "counts: expected a mapping, found []"),
        ({"leaves": "ab"}, "leaves: expected a list, found 'ab'"),
        ({"leaves": [{"size": 1, "note": 3}]}, "leaves[0].note: expected str, found 3"),
    ]
    for change, message in cases:
        with pytest.raises(ConfigError) as caught:
            from_plain(_Tree, {**TREE, **change})
        assert str(caught.value) == message


def test_what_is_no_mapping_is_no_config() -> None:
    """Anything but a mapping is refused at the root."""
    others: list[object] = [None, [], "config", 3]
    for data in others:
        with pytest.raises(ConfigError, match="config: expected a mapping for ModelConfig"):
            from_plain(ModelConfig, data)
