"""Strict conversion between JSON-like mappings and frozen dataclasses.

Fields map one to one to keys. A missing or unknown key or a value of the wrong type raises a
`ConfigError` that names the full path, such as `feature_encoder.layers[2].kernel`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from w2v_edge.errors import ConfigError

T = TypeVar("T")

MAX_KEY_CHARACTERS = 120
"""Longer keys are shortened in errors."""


def to_plain(value: Any) -> Any:
    """Convert dataclasses to dicts and tuples to lists, recursively."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(cls: type[T], data: object, where: str = "") -> T:
    """Build the dataclass `cls` from a mapping.

    Args:
        cls: the dataclass.
        data: the mapping, as parsed from JSON or TOML.
        where: path of `data` in the whole document, for errors.

    Raises:
        ConfigError: a key is missing, unknown or of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise _wrong(where, f"a mapping for {cls.__name__}", data)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in data if key not in fields)
    if unknown:
        known = ", ".join(fields)
        found = _join(where, unknown[0])
        raise ConfigError(f"unknown key {found!r:.200}; the keys are: {known}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing key {_join(where, name)!r} ({cls.__name__})")
    return cls(**values)


def _convert(hint: Any, value: object, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), value, where)
    if origin is not None:
        return _GENERIC[origin](hint, value, where)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: object, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _wrong(where, "a smaller number", value) from None
    # To Python a bool is an int; in a config it is not.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(where, "null" if hint is type(None) else hint.__name__, value)
    return value


def _literal(hint: Any, value: object, where: str) -> Any:
    choices = typing.get_args(hint)
    if value not in choices or type(value) not in {type(c) for c in choices}:
        raise _wrong(where, " or ".join(repr(c) for c in choices), value)
    return value


def _union(hint: Any, value: object, where: str) -> Any:
    """Convert to the member of a union with the value's `kind`, or to the member of its type."""
    members = typing.get_args(hint)
    if value is None and type(None) in members:
        return None
    members = tuple(m for m in members if m is not type(None))
    kinds = {
        m: typing.get_type_hints(m).get("kind") for m in members if dataclasses.is_dataclass(m)
    }
    if isinstance(value, Mapping) and len(kinds) > 1:
        if "kind" not in value:
            raise ConfigError(f"missing key {_join(where, 'kind')!r}")
        for member, kind in kinds.items():
            if value["kind"] in typing.get_args(kind):
                return from_plain(typing.cast("type[Any]", member), value, where)
        names = " or ".join(repr(name) for kind in kinds.values() for name in typing.get_args(kind))
        raise _wrong(_join(where, "kind"), names, value["kind"])
    if len(members) == 1:
        return _convert(members[0], value, where)
    if type(value) in members:
        return value
    raise _wrong(where, " or ".join(getattr(m, "__name__", str(m)) for m in members), value)


def _tuple(hint: Any, value: object, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list", value)
    item = typing.get_args(hint)[0]
    return tuple(_convert(item, v, f"{where}[{i}]") for i, v in enumerate(value))


def _dict(hint: Any, value: object, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(where, "a mapping", value)
    key_hint, value_hint = typing.get_args(hint)
    return {
        _convert(key_hint, k, where): _convert(value_hint, v, _join(where, str(k)))
        for k, v in value.items()
    }


_GENERIC: dict[Any, Callable[[Any, object, str], Any]] = {
    typing.Literal: _literal,
    typing.Union: _union,
    types.UnionType: _union,
    tuple: _tuple,
    dict: _dict,
}


def _join(where: str, key: str) -> str:
    # Keys of a mapping may be any text; an error must stay one short line.
    key = key if key.isprintable() and len(key) <= MAX_KEY_CHARACTERS else f"{key!r:.40}"
    return f"{where}.{key}" if where else key


def _wrong(where: str, expected: str, found: object) -> ConfigError:
    return ConfigError(f"{where or 'config'}: expected {expected}, found {found!r:.80}")
