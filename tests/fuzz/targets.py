"""Fuzzing targets: the readers of untrusted files.

Each target takes any bytes. It returns, or raises the errors that the reader documents; any other
exception is a finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge import AudioFile
from w2v_edge.bundle import GraphInfo, Manifest, TensorInfo, read_manifest
from w2v_edge.bundle.graph_check import check_graph
from w2v_edge.bundle.manifest import NUMPY_TYPES
from w2v_edge.bundle.npz import read_npz
from w2v_edge.errors import BundleError, InputError, W2VEdgeError
from w2v_edge.runtime.classification import classifiers
from w2v_edge.text.spelling import Spelling

MODEL_RATE = 16_000

GRAPH = GraphInfo(
    (TensorInfo("x", "float", ("n",)),), (TensorInfo("y", "float", ("n",)),), ("frontend.bin",), {}
)
AXES = {"batch", "samples", "frames", "context_frames"}
DATA_SIZES = {"frontend.bin": 1000}


def manifest(data: bytes) -> None:
    """`manifest.json`: as it is, and with a hash that matches."""
    for text in (data, _sealed(data)):
        with _file(text, "manifest.json") as path:
            try:
                found = read_manifest(path.parent)
            except BundleError as error:
                _check_message(error)
            else:
                _use(found)


def npz(data: bytes) -> None:
    """An `.npz`, and one whose only array is these bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("array.npy", data)
    for content in (data, archive.getvalue()):
        with contextlib.suppress(ValueError):
            for array in read_npz(io.BytesIO(content)).values():
                assert array.dtype.kind != "O"
                assert array.nbytes < 2**30


def audio(data: bytes) -> None:
    """An audio file of any format: the result is finite float32 PCM of the stated length."""
    with _file(data, "clip") as path:
        try:
            source = AudioFile(path, MODEL_RATE, max_seconds=60)
            stated = source.samples
            blocks = list(source.blocks())
        except InputError as error:
            _check_message(error)
            return
        assert all(x.dtype == np.float32 and x.ndim == 1 and len(x) < 2**20 for x in blocks)
        assert all(np.isfinite(x).all() for x in blocks)
        count = sum(map(len, blocks))
        assert count > 0 or stated is None
        assert stated in (None, count), f"{stated} stated, {count} read"


def graph(data: bytes) -> None:
    """An ONNX file: protobuf's own reader finds no other data file in an accepted graph."""
    try:
        check_graph(data, GRAPH, DATA_SIZES)
    except BundleError as error:
        _check_message(error)
        return
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return
    for location in _locations(model):
        assert location in DATA_SIZES, location


TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": manifest,
    "npz": npz,
    "audio": audio,
    "graph": graph,
}


def _use(found: Manifest) -> None:
    """Do with a manifest what commands do before any graph is opened."""
    assert found.geometry.frames(10 * found.sample_rate) < 2**32
    if "context" in found.graphs:
        assert set(found.context_outputs.values()) <= {None, "frame_lengths", "context_lengths"}
    for info in found.graphs.values():
        for tensor in (*info.inputs, *info.outputs):
            assert tensor.type in NUMPY_TYPES
            assert {axis for axis in tensor.axes if isinstance(axis, str)} <= AXES
    for read in (Spelling.of_manifest, classifiers):
        try:
            read(found)
        except W2VEdgeError as error:
            _check_message(error)
    from w2v_edge.cli.inspect import _print

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        _print(found, dict.fromkeys(found.files, "ok"), 0, operators=True)
    assert "\x1b" not in shown.getvalue()


def _check_message(error: Exception) -> None:
    assert "\n" not in str(error), error
    assert len(str(error)) < 2_000, str(error)[:200]


def _sealed(data: bytes) -> bytes:
    """Return the canonical text of a JSON object with its own hash, as `w2v_edge.bundle` has it."""
    try:
        content = json.loads(data)
        content.pop("sha256", None)
        content["sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
        return _canonical(content)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data


def _canonical(content: Any) -> bytes:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")


def _locations(message: Any) -> Iterator[str]:
    """Yield the data locations of all tensors in a parsed message."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield from (x.value for x in message.external_data if x.key == "location")
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            many = [value] if hasattr(value, "DESCRIPTOR") else value
            for inner in many:
                yield from _locations(inner)


@contextlib.contextmanager
def _file(content: bytes, name: str) -> Iterator[Path]:
    """Yield a file in a temporary folder; no other file may be in it afterwards."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path
        assert os.listdir(folder) == [name]  # noqa: PTH208
        assert path.read_bytes() == content
