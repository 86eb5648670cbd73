"""A cache of traced parts, for this user: a trace depends on the config, not on the weights.

A cached graph holds no weights. Those of the twin's `state_dict` are put in when it is read, so a
graph from the cache and a new trace are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType

import onnx
import onnx_ir as ir
from onnx_ir.tensor_adapters import TorchTensor

from w2v_edge.files import cache_folder, replacing
from w2v_edge_export.targets import Target
from w2v_edge_export.trace import Part, trace

PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "w2v-edge")
"""Packages whose version changes a trace."""

CODE = (
    "w2v_edge.bundle.geometry",
    "w2v_edge.model.",
    "w2v_edge_export.deployable.",
    "w2v_edge_export.graph_builder",
    "w2v_edge_export.parts",
    "w2v_edge_export.trace",
)
"""Modules whose code changes a trace, by the beginning of their names."""

MAX_TRACES = 200
"""Traces kept; a model has three to six parts."""


def trace_cached(part: Part, target: Target, folder: Path | None) -> ir.Model:
    """Trace a part, or read its trace from the cache.

    Args:
        part: the twin and its example inputs.
        target: profile of the runtime that the graph is for.
        folder: of the cache; None to trace in any case. What cannot be read is traced again, and
            what cannot be written is not kept.
    """
    path = None if folder is None else folder / f"{_key(part, target)}.onnx"
    if path is not None:
        try:
            cached = _with_weights(_unseal(path.read_bytes()), part)
            # The least recently used are dropped first.
            os.utime(path)
        except (OSError, ValueError, KeyError):
            pass
        else:
            return cached
    traced = trace(part, target.opset)
    if set(traced.graph.initializers) != part.module.state_dict().keys():
        # A constant that the key does not describe.
        return traced
    graph = _without_weights(traced)
    if path is not None:
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(_seal(graph))
            _drop_oldest(path.parent)
        except OSError:
            pass
    return _with_weights(graph, part)


def trace_folder() -> Path | None:
    """Return this user's folder for traces; None without a home folder."""
    base = cache_folder()
    return None if base is None else base / "traces"


def _key(part: Part, target: Target) -> str:
    """Return a hash of all that a trace depends on."""
    described = {
        "part": part.name,
        "twin": repr(part.module),
        "constants": _constants(part),
        "inputs": {name: (str(x.dtype), list(x.shape)) for name, x in part.inputs.items()},
        "dynamic": {name: dict(axes) for name, axes in part.dynamic.items()},
        "outputs": part.outputs,
        "multiples": dict(part.multiples),
        "weights": {
            name: (str(x.dtype), list(x.shape)) for name, x in part.module.state_dict().items()
        },
        "opset": target.opset,
        "versions": [sys.version, *(metadata.version(name) for name in PACKAGES)],
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _constants(part: Part) -> list[str]:
    """Return the settings that the twin's modules hold beside their weights."""
    return [
        f"{name}.{key}={value!r}"
        for name, module in part.module.named_modules()
        for key, value in sorted(vars(module).items())
        if not key.startswith("_") and key != "training"
    ]


def _code() -> str:
    """Return a hash of the code of twins and models as it is loaded, changed or not."""
    found = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        if name.startswith(CODE):
            for key, value in sorted(vars(module).items()):
                found.update(f"{name}.{key}".encode())
                if isinstance(value, int | float | str | tuple | frozenset | list | dict):
                    found.update(_stable(value))
                for function in _functions(value):
                    found.update(_stable(function.__defaults__) + _stable(function.__kwdefaults__))
                    _add(found, function.__code__)
    return found.hexdigest()


def _functions(value: object) -> Iterator[FunctionType]:
    """Yield a function, or the methods and properties of a class."""
    if isinstance(value, type):
        for _, member in sorted(vars(value).items()):
            if not isinstance(member, type):
                yield from _functions(member)
    for name in ("fget", "func", "__func__", "__wrapped__"):
        inner = getattr(value, name, None)
        if isinstance(inner, FunctionType):
            yield inner
    if isinstance(value, FunctionType):
        yield value


def _add(found: hashlib._Hash, code: CodeType) -> None:
    found.update(code.co_code)
    found.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add(found, constant)
        else:
            found.update(_stable(constant))


def _stable(value: object) -> bytes:
    """Return the repr of a constant; empty if it holds an address, which varies by process."""
    if isinstance(value, frozenset):
        return b"".join(sorted(map(_stable, value)))
    text = repr(value)
    return b"" if " at 0x" in text else text.encode()


def _without_weights(traced: ir.Model) -> onnx.ModelProto:
    """Return a traced graph whose weights are inputs."""
    weights = dict(traced.graph.initializers)
    for name, value in weights.items():
        del traced.graph.initializers[name]
        value.const_value = None
        traced.graph.inputs.append(value)
    return ir.to_proto(traced)


def _with_weights(graph: onnx.ModelProto, part: Part) -> ir.Model:
    """Return a graph with the weights of a part in place of its last inputs.

    Raises:
        KeyError: the graph is of another twin.
    """
    model = ir.from_proto(graph)
    tensors = part.module.state_dict()
    inputs = list(model.graph.inputs)
    for value in inputs[len(part.inputs) :]:
        model.graph.inputs.remove(value)
        value.const_value = TorchTensor(tensors[str(value.name)], name=value.name)
        model.graph.initializers.add(value)
    return model


def _seal(graph: onnx.ModelProto) -> bytes:
    data: bytes = graph.SerializeToString(deterministic=True)
    return hashlib.sha256(data).digest() + data


def _unseal(content: bytes) -> onnx.ModelProto:
    """Parse a file of the cache.

    Raises:
        ValueError: it is damaged.
    """
    digest, data = content[:32], content[32:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("damaged")
    return onnx.load_from_string(data)


def _drop_oldest(folder: Path) -> None:
    traces = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
    for path in traces[:-MAX_TRACES]:
        path.unlink(missing_ok=True)
