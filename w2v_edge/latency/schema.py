"""The JSON Schema of a report, made from its classes: `python -m w2v_edge.latency.schema`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from importlib import resources
from typing import Any

from w2v_edge.latency.report import FORMAT, VERSION, Report

FILE = "report.schema.json"
"""Shipped beside this module."""

SCALARS: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
"""JSON has no number that is not one: NaN and infinity are no text of it."""


def report_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12: each class is a definition, each field required."""
    definitions: dict[str, Any] = {}
    top = _class(Report, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:w2v-edge:latency-report:{VERSION}",
        "title": f"{FORMAT} report, version {VERSION}",
        **top,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def to_text(schema: dict[str, Any]) -> str:
    """Return the text of the file that is shipped."""
    return json.dumps(schema, indent=2) + "\n"


def shipped() -> str:
    """Return the text of the schema that is shipped with the package."""
    return (resources.files("w2v_edge.latency") / FILE).read_text(encoding="utf-8")


def field_descriptions(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of each field under "Attributes:"."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    # Fields stand four spaces in, and what goes on below them eight.
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _class(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    says = field_descriptions(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    return {
        "description": inspect.cleandoc(cls.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": {
            name: {"description": says[name], **_type(hints[name], definitions)} for name in names
        },
        "required": names,
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    if dataclasses.is_dataclass(hint):
        cls = typing.cast("type[Any]", hint)
        if cls.__name__ not in definitions:
            definitions[cls.__name__] = _class(cls, definitions)
        return {"$ref": f"#/$defs/{cls.__name__}"}
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and members[1:] == (...,):
        return {"type": "array", "items": _type(members[0], definitions)}
    if origin is dict and members[0] is str:
        return {"type": "object", "additionalProperties": _type(members[1], definitions)}
    if origin is typing.Literal:
        return {"const": members[0]} if len(members) == 1 else {"enum": list(members)}
    if origin in {typing.Union, types.UnionType}:
        return {"anyOf": [_type(member, definitions) for member in members]}
    raise TypeError(f"no schema for a field of type {hint}")


if __name__ == "__main__":
    sys.stdout.write(to_text(report_schema()))
