"""The JSON Schema of reports, generated from their classes.

Run `python -m w2v_edge.latency.report.schema > w2v_edge/latency/report/report.schema.json`.
"""

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

from w2v_edge.latency.report.records import FORMAT, VERSION, BenchmarkReport

FILE = "report.schema.json"

SCALARS: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def report_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12: each class is a definition.

    A field is required unless it has a default.
    """
    definitions: dict[str, Any] = {}
    top = _class(BenchmarkReport, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:w2v-edge:latency-report:{VERSION}",
        "title": f"{FORMAT} report, version {VERSION}",
        **top,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def fleet_schema() -> dict[str, Any]:
    """Return the schema of the JSON of a fleet."""
    from w2v_edge.latency.report import fleet

    definitions: dict[str, Any] = {}
    top = _class(fleet.Fleet, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:w2v-edge:fleet:{fleet.VERSION}",
        "title": f"{fleet.FORMAT}, version {fleet.VERSION}",
        **top,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def to_text(schema: dict[str, Any]) -> str:
    """Return the content of the shipped file."""
    return json.dumps(schema, indent=2, allow_nan=False) + "\n"


def shipped() -> str:
    """Return the schema shipped with the package."""
    return (resources.files("w2v_edge.latency.report") / FILE).read_text(encoding="utf-8")


def field_descriptions(cls: type) -> dict[str, str]:
    """Return the description of each field in the "Attributes:" section of a docstring."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    # Fields are indented by four spaces, continuation lines by eight.
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _class(cls: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    descriptions = field_descriptions(cls)
    fields = dataclasses.fields(cls)
    return {
        "description": inspect.cleandoc(cls.__doc__ or "").partition("\n")[0],
        "type": "object",
        "properties": {
            x.name: {"description": descriptions[x.name], **_type(hints[x.name], definitions)}
            for x in fields
        },
        "required": [
            x.name
            for x in fields
            if x.default is dataclasses.MISSING and x.default_factory is dataclasses.MISSING
        ],
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
