"""A bundle matches its manifest, or it is refused with the name of the file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import w2v_edge
from w2v_edge.bundle import Bundle
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import (
    BundleError,
    BundleIntegrityError,
    BundleVersionError,
    GraphMissingError,
    W2VEdgeError,
)
from w2v_edge.providers.table import TABLE

NAME = "base-small"
CLIP = np.sin(np.arange(4_000) / 9).astype(np.float32) / 2
FILES = (
    *(f"{x}.onnx" for x in ("encoder", "tokenizer", "quantizer", "frontend", "context")),
    *("statistics.onnx", "frontend.bin", "context.bin", "quantizer.bin", "golden.npz"),
)
ENCODE = ("encoder.onnx", "frontend.bin", "context.bin", "quantizer.onnx", "quantizer.bin")
TOKENIZE = ("tokenizer.onnx", "frontend.bin", "quantizer.bin")


@pytest.fixture(scope="module")
def module_copy(bundle: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that each example damages and mends again."""
    return shutil.copytree(bundle(NAME), tmp_path_factory.mktemp("damaged") / "bundle")


@pytest.fixture
def folder(copied_bundle: Callable[[str], Path]) -> Path:
    """A copy of a bundle, which the test may damage."""
    return copied_bundle(NAME)


def _flip(path: Path, position: int, flip: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        (byte,) = stream.read(1)
        stream.seek(position)
        stream.write(bytes([byte ^ flip]))


def _refused(folder: Path, name: str, kind: type[BundleError] = BundleIntegrityError) -> None:
    with pytest.raises(kind) as refused:
        Bundle.open(folder).check_all()
    assert str(folder / name) in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=100)
@given(
    name=st.sampled_from((*FILES, "manifest.json")), where=st.floats(0, 1), flip=st.integers(1, 255)
)
@example(name="golden.npz", where=0.0, flip=1)
@example(name="context.bin", where=1.0, flip=128)
def test_any_flipped_byte_is_seen(module_copy: Path, name: str, where: float, flip: int) -> None:
    """One changed byte in any file is an error that names the file."""
    path = module_copy / name
    position = round(where * (path.stat().st_size - 1))
    _flip(path, position, flip)
    try:
        # A format version that became a larger number is told as such.
        _refused(
            module_copy, name, BundleError if name == "manifest.json" else BundleIntegrityError
        )
    finally:
        _flip(path, position, flip)
    Bundle.open(module_copy).check_all()


def test_every_byte_of_the_manifest_counts(folder: Path) -> None:
    """Whitespace, key order and number format of a manifest are checked."""
    path = folder / "manifest.json"
    text = path.read_bytes()
    content = json.loads(text)
    rewritten = (
        text + b"\n",
        text.rstrip(),
        text.replace(b": ", b":  ", 1),
        text.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text,
        text.decode().encode("utf-16"),
        json.dumps(content).encode(),
        text.replace(b'"hop": 320', b'"hop": 320.0'),
        text.replace(b'"hop": 320,', b'"hop": 320,\n "hop": 320,'),
        text.replace(b'"target": "cpu"', b'"target": "\\ud800"'),
        text[: len(text) // 2],
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"\xff" * 100,
    )
    for changed in rewritten:
        assert changed != text
        path.write_bytes(changed)
        _refused(folder, "manifest.json")
    path.write_bytes(text)
    Bundle.open(folder).check_all()


@pytest.mark.parametrize("name", ENCODE)
def test_encode_refuses_a_damaged_file(folder: Path, name: str) -> None:
    """`encode` refuses a damaged file when it opens it, and not before."""
    _flip(folder / name, (folder / name).stat().st_size // 2, 1)
    model = w2v_edge.load(folder)
    with pytest.raises(BundleIntegrityError, match=name):
        model.encode(CLIP)


@pytest.mark.parametrize("name", TOKENIZE)
def test_tokenize_refuses_a_damaged_file(folder: Path, name: str) -> None:
    """`tokenize` refuses damaged weights."""
    _flip(folder / name, (folder / name).stat().st_size // 2, 1)
    model = w2v_edge.load(folder)
    with pytest.raises(BundleIntegrityError, match=name):
        model.tokenize(CLIP)


def test_tokenize_needs_its_own_files_only(folder: Path, bundle: Callable[[str], Path]) -> None:
    """`tokenize` needs the tokenizer's files only."""
    expected = w2v_edge.load(bundle(NAME)).tokenize(CLIP)
    for path in folder.iterdir():
        if path.name not in {*TOKENIZE, "manifest.json"}:
            path.unlink()
    assert np.array_equal(w2v_edge.load(folder).tokenize(CLIP), expected)
    with pytest.raises(BundleIntegrityError, match=r"missing"):
        w2v_edge.load(folder).encode(CLIP)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_truncated_files(folder: Path, name: str) -> None:
    """A truncated, grown or missing file, or a folder in its place, is named."""
    path = folder / name
    size = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(b"\0")
    _refused(folder, name)
    os.truncate(path, size - 1)
    _refused(folder, name)
    os.truncate(path, 0)
    _refused(folder, name)
    path.unlink()
    _refused(folder, name)
    path.mkdir()
    _refused(folder, name)


def test_damaged_golden_vectors(folder: Path, reseal: Callable[..., None]) -> None:
    """Golden vectors are checked on use, and encoding does not need them."""
    (folder / "golden.npz").write_bytes(b"PK\x03\x04 no archive")
    model = w2v_edge.load(folder)
    model.encode(CLIP)
    with pytest.raises(BundleIntegrityError, match=r"golden\.npz"):
        check_golden(model)
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match=r"golden\.npz"):
        check_golden(w2v_edge.load(folder))


@pytest.mark.parametrize("name", ["base-small", "tutorial-small", "large-small", "tiny"])
def test_golden_vectors_are_reproduced(name: str, bundle: Callable[[str], Path]) -> None:
    """Every graph of an intact bundle reproduces its golden vectors."""
    rows, tally = check_golden(w2v_edge.load(bundle(name)))
    assert all(row.ok for row in rows)
    assert {row.case.split()[0] for row in rows} == {
        *("encoder", "tokenizer", "quantizer", "frontend", "context")
    }
    assert tally.compared > 100
    assert tally.wrong == 0


class _Half:
    """A bundle on a provider that computes in float16, all outputs rounded to it."""

    precision, half = "fp16", True

    def __init__(self, model: w2v_edge.Model) -> None:
        self.model, self.manifest, self.bundle = model, model.manifest, model.bundle
        self.changed = np.float32(0)

    def run(self, graph: str, **tensors: Any) -> dict[str, Any]:
        found = self.model.run(graph, **tensors)
        found = {k: v if "lengths" in k or k == "codes" else _half(v) for k, v in found.items()}
        if "vectors" in found:
            found["vectors"] = found["vectors"] + self.changed
        return found


def _half(values: Any) -> Any:
    return values.astype(np.float16).astype(np.float32)


def test_golden_vectors_in_float16(
    bundle: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that computes in float16 is held to its tolerances; codebooks keep their rows."""
    model = w2v_edge.load(bundle(NAME))
    half = _Half(model)
    assert all(row.ok for row in check_golden(half)[0])
    half.changed = np.float32(1e-3)
    assert {row.output for row in check_golden(half)[0] if not row.ok} == {"vectors"}
    # Elsewhere a codebook in float16 is another one.
    half.half, half.changed = False, np.float32(0)
    assert {row.output for row in check_golden(half)[0] if not row.ok} == {"vectors"}
    needed = {"intra_op_num_threads": "1"}
    monkeypatch.setitem(TABLE, "cpu", replace(TABLE["cpu"], half=needed))
    assert w2v_edge.load(bundle(NAME)).precision == "fp16"
    exact = w2v_edge.load(bundle(NAME), provider=("cpu", {"intra_op_num_threads": "2"}))
    assert exact.precision == "fp32"


def test_newer_formats(folder: Path, reseal: Callable[..., None]) -> None:
    """A newer format is refused as such, with any content."""
    reseal(folder, format_version=3, invention={"of": "tomorrow"})
    with pytest.raises(BundleVersionError, match=r"update w2v-edge"):
        w2v_edge.load(folder)


def test_invalid_versions(folder: Path, reseal: Callable[..., None]) -> None:
    """A format version that is not a whole number above 0 is damage."""
    for version in [0, -1, None, "1", 1.0, True, [1]]:
        reseal(folder, format_version=version)
        _refused(folder, "manifest.json")


def test_a_folder_may_be_renamed(folder: Path, bundle: Callable[[str], Path]) -> None:
    """A bundle does not depend on its path."""
    moved = folder.rename(folder.with_name("Modèle #1 (fp32)"))
    found, expected = (
        w2v_edge.load(str(moved)).encode(CLIP),
        w2v_edge.load(bundle(NAME)).encode(CLIP),
    )
    assert found.context.tobytes() == expected.context.tobytes()


def test_missing_graphs(folder: Path, reseal: Callable[..., None]) -> None:
    """A missing graph is an error that lists the available ones."""
    with pytest.raises(GraphMissingError, match=r"encoder, "):
        w2v_edge.load(folder).run("decoder", waveform=CLIP)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    graphs = {x: y for x, y in manifest["graphs"].items() if x not in {"tokenizer", "quantizer"}}
    reseal(folder, graphs=graphs, codebook=None, quantizer_input=None)
    model = w2v_edge.load(folder)
    with pytest.raises(GraphMissingError, match=r"no quantizer"):
        model.tokenize(CLIP)
    encoding = model.encode(CLIP)
    assert encoding.codes is None
    assert encoding.vectors is None


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "sub/x.bin", "notes.txt", ""])
def test_unknown_files(folder: Path, reseal: Callable[..., None], name: str) -> None:
    """A manifest with files outside the format is refused, even with valid hashes."""
    (folder.parent / "x").write_bytes(b"")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    empty = {
        "size": 0,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    reseal(folder)
    content = manifest["files"] | {name: empty}
    _write(folder, manifest | {"files": content}, reseal)
    _refused(folder, "manifest.json")


@pytest.mark.parametrize(
    "graph", [{"data": ["../x"]}, {"data": ["/etc/hostname"]}, {"data": ["manifest.json"]}]
)
def test_data_files_elsewhere(folder: Path, reseal: Callable[..., None], graph: Any) -> None:
    """A graph's data files are files of the bundle, or the graph is not opened."""
    (folder.parent / "x").write_bytes(b"")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["graphs"]["encoder"] |= graph
    reseal(folder, graphs=manifest["graphs"])
    with pytest.raises(BundleIntegrityError, match=r"graphs\.encoder\.data"):
        w2v_edge.load(folder).encode(CLIP)


@pytest.mark.parametrize(
    "changes",
    [
        {"hop": "320"},
        {"hop": None},
        {"graphs": []},
        {"graphs": {"encoder": {}}},
        {"surprise": 1},
        {"files": {}},
    ],
)
def test_invalid_manifests(
    folder: Path, reseal: Callable[..., None], changes: dict[str, Any]
) -> None:
    """An invalid manifest with valid hashes is refused in one line."""
    reseal(folder, **changes)
    with pytest.raises(W2VEdgeError) as refused:
        w2v_edge.load(folder).encode(CLIP)
    assert "\n" not in str(refused.value)


def test_other_paths_are_refused(tmp_path: Path) -> None:
    """A folder without a manifest, a file and a missing path are refused with a remedy."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(BundleError, match=r"w2v-edge export") as refused:
            w2v_edge.load(path)
        assert str(path) in str(refused.value)


def _write(folder: Path, content: dict[str, Any], reseal: Callable[..., None]) -> None:
    """Seal a manifest whose files are not all there."""
    (folder / "manifest.json").write_text(json.dumps(content | {"files": {}}))
    reseal(folder, files=content["files"])
