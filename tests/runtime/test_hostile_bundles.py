"""Untrusted bundles with valid hashes cannot reach outside their folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import w2v_edge
from w2v_edge.bundle import Bundle
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import BundleIntegrityError, W2VEdgeError

CLIP = np.sin(np.arange(4_000) / 9).astype(np.float32) / 2
GRAPH = "tokenizer.onnx"
DATA = "quantizer.bin"

Reseal = Callable[..., None]


@pytest.fixture
def folder(copied_bundle: Callable[[str], Path]) -> Path:
    """A copy of a bundle, which the test may damage."""
    return copied_bundle("base-small")


@pytest.mark.parametrize("name", [GRAPH, DATA, "manifest.json"])
def test_links_out_of_the_folder(folder: Path, name: str) -> None:
    """A link to a file outside the bundle is refused, even with the right content."""
    shutil.move(folder / name, folder.parent / name)
    (folder / name).symlink_to(Path("..") / name)
    with pytest.raises(BundleIntegrityError, match=f"{name}: a link out of"):
        w2v_edge.load(folder).tokenize(CLIP)
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    with pytest.raises(W2VEdgeError, match=name):
        w2v_edge.load(folder).tokenize(CLIP)


def test_the_folder_may_be_a_link(folder: Path) -> None:
    """A bundle may be reached through a link."""
    link = folder.parent / "link"
    link.symlink_to(folder, target_is_directory=True)
    assert w2v_edge.load(link).tokenize(CLIP).shape[1] == 2


@pytest.mark.parametrize("name", [GRAPH, DATA, "golden.npz", "manifest.json"])
def test_pipes_are_not_waited_for(folder: Path, name: str) -> None:
    """A pipe in place of a file is refused without opening it."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(W2VEdgeError, match=f"{name}"):
        Bundle.open(folder).check_all()
    with pytest.raises(W2VEdgeError, match=f"{name}"):
        check_golden(w2v_edge.load(folder))


def _npz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _npy(shape: str, descr: str = "'<f4'", data: bytes = bytes(16)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


def test_invalid_golden_vectors(folder: Path, reseal: Reseal) -> None:
    """Archives with false sizes, objects or too many arrays are refused."""
    cases: list[bytes] = [
        _npz({"waveform.npy": _npy("(1000000000000,)")}),
        _npz({"waveform.npy": _npy("(1099511627776, 1099511627776)")}),
        _npz({"waveform.npy": _npy("(-4,)")}),
        _npz({"waveform.npy": _npy("()", "'<U2000000000'")}),
        _npz({"waveform.npy": _npy("(4,)", "'|O'")}),
        _npz({"waveform.npy": _npy("(4,)", "[('a', '<f4')]")}),
        _npz({"waveform.npy": b"\x80\x04cos\nsystem\n."}),
        _npz({f"{i}.npy": _npy("(4,)") for i in range(100)}),
        _npz({"waveform.npy": _npy("(4,)")}),
        _npz({"bars.npy": _npy("()", "'<U4'", "[[[[".encode("utf-32-le"))}),
        b"PK\5\6" + bytes(18),
        b"",
    ]
    for content in cases:
        (folder / "golden.npz").write_bytes(content)
        reseal(folder)
        with pytest.raises(BundleIntegrityError, match=r"golden\.npz"):
            check_golden(w2v_edge.load(folder))


def test_archives_that_expand(
    folder: Path, reseal: Reseal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small archive of a large array is refused before the array is made."""
    monkeypatch.setattr("w2v_edge.bundle.npz.MAX_BYTES", 2**20)
    content = _npz({"waveform.npy": _npy("(1000000,)", data=bytes(4_000_000))})
    assert len(content) < 10_000
    (folder / "golden.npz").write_bytes(content)
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match="more or larger arrays"):
        check_golden(w2v_edge.load(folder))


HUGE = 10**400
CHANGES: tuple[dict[str, Any], ...] = (
    {"hop": 10**18},
    {"hop": HUGE},
    {"left_padding": 10**12},
    {"receptive_field": 2**62, "min_samples": 1},
    {"sample_rate": 10**18},
    {"longest_context_seconds": HUGE},
    {"config": {"context": 3}},
    {"config": {"context": {"squeeze": 0}}},
    {"config": {"context": {"squeeze": HUGE}}},
    {"config": {"context": {"adapter": []}}},
    {"config": {"context": {"adapter": {"layers": 10**9, "kernel": 1, "stride": 1, "padding": 0}}}},
    {"config": {"context": {"adapter": {"layers": 8, "kernel": 1, "stride": HUGE, "padding": 0}}}},
    {"parity": {}},
    {"parity": {"passed": "yes\x1b[2J"}},
    {"graphs": {"../x": {"inputs": [], "outputs": [], "data": [], "operators": {}}}},
    {
        "graphs": {
            "encoder": {"inputs": [], "outputs": [], "data": ["/etc/passwd"], "operators": {}}
        }
    },
    {"tools": {"a\nb" * 10**6: 3}},
)


@pytest.mark.parametrize("changes", CHANGES)
def test_numbers_out_of_range(folder: Path, reseal: Reseal, changes: dict[str, Any]) -> None:
    """Numbers and names outside the format's bounds are refused when read."""
    reseal(folder, **changes)
    with pytest.raises(BundleIntegrityError, match=r"manifest\.json") as refused:
        Bundle.open(folder)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("name", ["base-small", "ctc"])
def test_tensors_of_another_format(
    name: str, bundle: Callable[[str], Path], ctc_bundle: Path, tmp_path: Path, reseal: Reseal
) -> None:
    """Each tensor of each graph has the format's name, type and axes, or the bundle is refused."""
    source = ctc_bundle if name == "ctc" else bundle(name)
    content = json.loads((source / "manifest.json").read_text())
    for graph, info in content["graphs"].items():
        for kind in ("inputs", "outputs"):
            for at, tensor in enumerate(info[kind]):
                for change in _other_tensors(tensor):
                    changed = deepcopy(content["graphs"])
                    changed[graph][kind][at] |= change
                    (tmp_path / "manifest.json").write_text(json.dumps(content | {"files": {}}))
                    reseal(tmp_path, graphs=changed, files=content["files"])
                    with pytest.raises(BundleIntegrityError, match=rf"graphs\.{graph}") as refused:
                        w2v_edge.load(tmp_path)
                    assert "\n" not in str(refused.value)


def _other_tensors(tensor: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield changes that make a tensor one of another format."""
    axes = tensor["axes"]
    for name in ("other", f"{tensor['name']}_", ""):
        yield {"name": name}
    for kind in ("double", "int64" if tensor["type"] == "float" else "float"):
        yield {"type": kind}
    for at, axis in enumerate(axes):
        others = {"other", "batch", "frames", "samples"} - {axis}
        for other in (*others, *((7, True) if isinstance(axis, str) else ())):
            yield {"axes": [*axes[:at], other, *axes[at + 1 :]]}
        if isinstance(axis, int):
            yield {"axes": [*axes[:at], 0, *axes[at + 1 :]]}
    yield {"axes": axes[:-1]}
    yield {"axes": [*axes, 3]}


def test_deep_manifests(folder: Path) -> None:
    """Deeply nested manifests are refused."""
    for depth in (200, 500, 900, 5_000, 100_000):
        nested = "[" * depth + "]" * depth
        (folder / "manifest.json").write_text(f'{{"format_version": 1, "config": {nested}}}')
        with pytest.raises(BundleIntegrityError, match=r"manifest\.json"):
            Bundle.open(folder)


def test_golden_vectors_of_another_model(folder: Path, reseal: Reseal) -> None:
    """Golden vectors with missing arrays or other shapes never crash the comparison."""
    with np.load(folder / "golden.npz") as archive:
        arrays = dict(archive)
    for name in arrays:
        for other in (None, np.zeros((3, 2)), np.array("{}"), arrays[name].ravel()[:0]):
            changed = {k: v for k, v in arrays.items() if k != name}
            if other is not None:
                changed[name] = other
            np.savez(folder / "golden.npz", **changed)
            reseal(folder)
            _verify_once(folder)


def _verify_once(folder: Path) -> None:
    """Compare golden vectors; a deviation may be a row or a typed error."""
    try:
        check_golden(w2v_edge.load(folder))
    except W2VEdgeError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right


def test_manifests_are_shown_as_text(
    folder: Path, reseal: Reseal, capfd: pytest.CaptureFixture[str]
) -> None:
    """Control characters in a manifest do not reach the terminal."""
    from w2v_edge.cli.group import run

    manifest = json.loads((folder / "manifest.json").read_text())
    reseal(folder, source=manifest["source"] | {"name": "\x1b]0;owned\x07 \x1b[2J"})
    assert run(["inspect", str(folder)]) == 0
    assert "\x1b" not in capfd.readouterr().out
