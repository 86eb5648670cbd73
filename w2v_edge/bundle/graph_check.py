"""Checks which files an ONNX graph reads and what it allocates, before onnxruntime opens it.

A graph names the files with its weights, and older releases of onnxruntime follow any name: out of
the folder, through links, even to addresses in memory. So its bytes are parsed here first, by the
field numbers of onnx.proto. Every occurrence of a field is checked, since parsers may merge
several; a field that must be unique is an error if it occurs twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from w2v_edge.bundle.manifest import GraphInfo, TensorInfo
from w2v_edge.bundle.wire_format import BYTES, WireError, fields, varints
from w2v_edge.errors import BundleIntegrityError

MAX_DEPTH = 32
"""Maximum depth of nested graphs."""

MAX_GRAPH_BYTES = 16 * 2**20
"""Maximum size of a graph, whose weights are in separate files."""

MAX_AXES = 64

VALUES_PER_BYTE = 4
"""The narrowest element type has 2 bits."""

# Fields of each message that hold other messages: field number to message.
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
_ONCE = {("Model", 7), ("Attribute", 5), ("Attribute", 6), ("Attribute", 22)}
_ONCE |= {("Training", 1), ("Training", 2), ("SparseTensor", 1), ("SparseTensor", 2)}

# Field numbers of TensorProto.
_DIMS, _EXTERNAL = 1, 13
_DATA = frozenset({4, 5, 6, 7, 9, 10, 11})

# Field numbers of GraphProto, and element types of its inputs and outputs.
_INPUTS, _OUTPUTS = 11, 12
_ELEMENT_TYPES = {1: "float", 7: "int64"}


def check_graph(data: bytes, info: GraphInfo, sizes: Mapping[str, int]) -> None:
    """Check the bytes of an ONNX file before onnxruntime sees them.

    Args:
        data: content of the file.
        info: the graph's entry in the manifest.
        sizes: size in bytes of each data file that it may read.

    Raises:
        BundleIntegrityError: the file is not ONNX, reads other files or past the end of one, or has
            tensors larger than their data, or other inputs or outputs than the manifest.
    """
    if len(data) > MAX_GRAPH_BYTES:
        raise BundleIntegrityError(f"larger than {MAX_GRAPH_BYTES} bytes, not a bundle's graph")
    try:
        for tensor in _tensors(memoryview(data), "Model", 0):
            _check_tensor(tensor, sizes)
        graph = _one(memoryview(data), 7)
        for what, number, expected in (
            ("inputs", _INPUTS, info.inputs),
            ("outputs", _OUTPUTS, info.outputs),
        ):
            _check_signature(what, [_signature(x) for x in _all(graph, number)], expected)
    except WireError as error:
        raise BundleIntegrityError(f"not a graph of this format ({error!s:.200})") from error


def _tensors(message: memoryview, kind: str, depth: int) -> Iterator[memoryview]:
    """Yield every tensor in a message, however deep."""
    if depth > MAX_DEPTH:
        raise WireError("graphs nested too deeply")
    inside = _INSIDE[kind]
    seen: Counter[int] = Counter()
    for number, _, value in fields(message):
        if number not in inside or not isinstance(value, memoryview):
            continue
        seen[number] += 1
        if seen[number] > 1 and (kind, number) in _ONCE:
            raise WireError(f"two values of one field in {kind}")
        if inside[number] == "Tensor":
            yield value
        else:
            yield from _tensors(value, inside[number], depth + (inside[number] == "Graph"))


def _check_tensor(tensor: memoryview, sizes: Mapping[str, int]) -> None:
    """Check that a tensor has its data in the bundle's files, and is not larger than its data."""
    dims: list[int] = []
    stored = 0
    external: list[tuple[str, str]] = []
    for number, _, value in fields(tensor):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else islice(varints(value), MAX_AXES + 1)
        elif number == _EXTERNAL and isinstance(value, memoryview):
            external.append((_text(value, 1), _text(value, 2)))
        elif number in _DATA:
            stored += len(value) if isinstance(value, memoryview) else 1
    if external:
        stored += _external_bytes(external, sizes)
    if len(dims) > MAX_AXES or math.prod(dims) > VALUES_PER_BYTE * stored:
        raise WireError(f"a tensor of shape {dims!s:.60} in {stored} bytes")


def _external_bytes(external: list[tuple[str, str]], sizes: Mapping[str, int]) -> int:
    """Return the bytes of a data file that a tensor uses."""
    stated = dict(external)
    if len(stated) != len(external):
        raise WireError("a tensor has two locations of its data")
    location = stated.get("location", "")
    if location not in sizes:
        expected = ", ".join(sizes) or "none"
        raise WireError(f"reads file {location!r:.40}, the manifest's are: {expected}")
    size = sizes[location]
    offset = _whole(stated.get("offset", "0"))
    length = _whole(stated["length"]) if "length" in stated else size - offset
    if length < 0 or offset + length > size:
        raise WireError(f"reads {location} up to byte {offset + length}, it has {size}")
    return length


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004
        raise WireError(f"invalid offset or length {text!r:.40}")
    return int(text)


def _signature(value: memoryview) -> str:
    """Return name, element type and rank of a ValueInfoProto of a tensor, as text."""
    tensor = _one(_one(value, 2), 1)
    kinds = [x for number, _, x in fields(tensor) if number == 1]
    kind = _ELEMENT_TYPES.get(kinds[0]) if len(kinds) == 1 and isinstance(kinds[0], int) else None
    rank = sum(number == 1 for shape in _all(tensor, 2) for number, _, _ in fields(shape))
    return f"{_text(value, 1)}: {kind} of rank {rank}"


def _check_signature(what: str, found: list[str], expected: tuple[TensorInfo, ...]) -> None:
    """Check that inputs or outputs are those of the manifest."""
    wanted = [f"{x.name}: {x.type} of rank {len(x.axes)}" for x in expected]
    if len(found) != len(wanted):
        raise WireError(f"{len(found)} {what}, the manifest has {len(wanted)}")
    for one, other in zip(found, wanted, strict=True):
        if one != other:
            raise WireError(f"{what}: found {one!r:.60}, the manifest has {other!r:.60}")


def _one(message: memoryview, number: int) -> memoryview:
    """Return the only value of a field that is a message."""
    found = _all(message, number)
    if len(found) != 1:
        raise WireError(f"{len(found)} values of a field that has one")
    return found[0]


def _all(message: memoryview, number: int) -> list[memoryview]:
    """Return the values of a field that are messages or text."""
    return [
        value
        for field, kind, value in fields(message)
        if field == number and kind == BYTES and isinstance(value, memoryview)
    ]


def _text(message: memoryview, number: int) -> str:
    """Return the only value of a field that is text."""
    try:
        return str(_one(message, number), "utf-8")
    except UnicodeDecodeError as error:
        raise WireError("text is not UTF-8") from error
