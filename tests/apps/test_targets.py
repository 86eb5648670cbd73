"""Exports for browsers and phones."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

import w2v_edge
from w2v_edge.bundle import Bundle
from w2v_edge.cli.group import run
from w2v_edge.errors import OutputExistsError, ParityError
from w2v_edge_export import export
from w2v_edge_export.ort_format import ort_folder, write_ort_format


@pytest.fixture
def source(shared_folder: Path, ctc_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of `ctc_bundle`, with a parity gate of one length."""
    assert ctc_bundle.is_dir()
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    return shared_folder / "checkpoints/ctc"


@pytest.fixture
def quick_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write one file in place of the ORT format, for tests of how folders are published."""

    def write(_: Bundle, folder: Path) -> None:
        (folder / "encoder.ort").write_bytes(b"new")

    monkeypatch.setattr("w2v_edge_export.pipeline.write_ort_format", write)


@pytest.fixture(scope="session")
def converted(
    shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Callable[[Path], Path]:
    """`converted(bundle)`: a folder with its graphs in ORT format, made once."""

    def convert(folder: Path) -> Path:
        output = shared_folder / "ort" / folder.name
        with locked(f"ort-{folder.name}"):
            if not (output / "contents.json").exists():
                output.mkdir(parents=True)
                write_ort_format(Bundle.open(folder), output)
        return output

    return convert


def _run(path: Path, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_graphs_for_the_web_are_those_of_cpu(
    source: Path, ctc_bundle: Path, tmp_path: Path
) -> None:
    """Graphs and weights are those of the target `cpu`; only the manifest differs."""
    export(source, tmp_path / "web", target="web")
    manifest = Bundle.open(tmp_path / "web").manifest
    assert manifest.target == "web"
    assert manifest.files == Bundle.open(ctc_bundle).manifest.files
    assert [x.name for x in tmp_path.iterdir()] == ["web"]


def test_an_export_for_phones_is_two_folders(
    source: Path, ctc_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The target `mobile` writes the bundle of `cpu`, and beside it hashed graphs in ORT format."""
    output = tmp_path / "phone"
    capfd.readouterr()
    assert run(["export", str(source), "-o", str(output), "--target", "mobile", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["ort_format"] == str(ort_folder(output))
    opened = Bundle.open(output)
    assert opened.manifest.files == Bundle.open(ctc_bundle).manifest.files
    beside = ort_folder(output)
    contents = json.loads((beside / "contents.json").read_text())
    assert contents["bundle"] == opened.manifest.sha256
    assert contents["onnxruntime"] == onnxruntime.__version__
    found = {x.name: x.read_bytes() for x in beside.iterdir() if x.name != "contents.json"}
    assert contents["files"] == {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in found.items()
    }
    graphs = {f"{name}.ort" for name in opened.manifest.graphs}
    assert found.keys() == graphs | {"required_operators.config"}
    assert {x.name for x in tmp_path.iterdir()} == {"phone", "phone-ort"}


@pytest.mark.usefixtures("quick_conversion")
def test_both_folders_are_kept_without_force(source: Path, tmp_path: Path) -> None:
    """Existing folders stay without `force`, and folders with other files stay even with it."""
    beside = tmp_path / "phone-ort"
    beside.mkdir()
    with pytest.raises(OutputExistsError, match="phone-ort already exists"):
        export(source, tmp_path / "phone", target="mobile")
    (beside / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="phone-ort is not graphs"):
        export(source, tmp_path / "phone", target="mobile", force=True)
    (beside / "notes.txt").unlink()
    export(source, tmp_path / "phone", target="mobile", force=True)
    assert (beside / "encoder.ort").is_file()


def test_a_failed_conversion_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed conversion leaves neither folder nor parts of one."""

    def fail(_: Bundle, folder: Path) -> None:
        (folder / "encoder.ort").write_bytes(b"half")
        raise ParityError("differs")

    monkeypatch.setattr("w2v_edge_export.pipeline.write_ort_format", fail)
    with pytest.raises(ParityError):
        export(source, tmp_path / "phone", target="mobile")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick_conversion")
@pytest.mark.parametrize(
    ("fails", "occupied"), [("phone", True), ("phone-ort", True), ("phone-ort", False)]
)
def test_a_rename_that_fails_publishes_neither_folder(
    fails: str,
    occupied: bool,
    source: Path,
    ctc_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If either folder cannot be renamed into place, both outputs are as they were before."""
    folders = (tmp_path / "phone", tmp_path / "phone-ort")
    if occupied:
        shutil.copytree(ctc_bundle, folders[0])
        folders[1].mkdir()
        (folders[1] / "encoder.ort").write_bytes(b"old")
    before = {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()}
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target.name == fails and path.suffix == ".part":
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space left"):
        export(source, folders[0], target="mobile", force=True)
    assert {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()} == before
    assert set(tmp_path.iterdir()) == (set(folders) if occupied else set())


def test_ort_format_that_differs_is_refused(
    copied_bundle: Callable[[str], Path], reseal: Callable[..., None], tmp_path: Path
) -> None:
    """Converted graphs that miss the bundle's golden vectors are refused."""
    folder = copied_bundle("tiny")
    with np.load(folder / "golden.npz") as archive:
        golden = dict(archive)
    golden["context"][0, 3] += 1
    np.savez_compressed(folder / "golden.npz", **golden)
    reseal(folder)
    (tmp_path / "out").mkdir()
    with pytest.raises(ParityError, match=r"in ORT format: .* first: context of encoder golden"):
        write_ort_format(Bundle.open(folder), tmp_path / "out")


def test_ort_format_gives_the_codes_of_the_bundle(
    bundle: Callable[[str], Path],
    converted: Callable[[Path], Path],
    speech: dict[str, npt.NDArray[np.float32]],
) -> None:
    """Graphs in ORT format give the bundle's codes, in onnxruntime alone."""
    path = converted(bundle("tiny")) / "tokenizer.ort"
    model = w2v_edge.load(bundle("tiny"))
    for waveform in speech.values():
        found = _run(path, waveform=waveform[None], lengths=np.array([len(waveform)]))
        np.testing.assert_array_equal(found["codes"][0], model.tokenize(waveform))


def test_ort_format_gives_golden_codes(
    bundle: Callable[[str], Path],
    int8_bundle: Callable[[str], Path],
    converted: Callable[[Path], Path],
) -> None:
    """Graphs in ORT format reproduce golden codes in float32 and int8."""
    for folder in (bundle("tiny"), int8_bundle("tiny")):
        with np.load(folder / "golden.npz") as golden:
            batch = {name: golden[name] for name in ("waveform", "lengths")}
            found = _run(converted(folder) / "tokenizer.ort", **batch)
            np.testing.assert_array_equal(found["codes"], golden["codes"])


def test_ort_format_is_portable(
    int8_bundle: Callable[[str], Path], converted: Callable[[Path], Path], tmp_path: Path
) -> None:
    """ORT format has no operators of one processor's memory layout, and no paths."""
    folder = converted(int8_bundle("tiny"))
    listed = (folder / "required_operators.config").read_text().splitlines()
    domains = {line.split(";")[0] for line in listed}
    assert domains == {"ai.onnx", "com.microsoft"}
    assert "MatMulIntegerToFloat" in listed[-1]
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
