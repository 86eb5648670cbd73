"""The benchmark in C: its report against that of Python, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
import soundfile

from w2v_edge.data import TINY_INT8
from w2v_edge.latency.benchmark import benchmark
from w2v_edge.latency.compare_reports import compare, same_device
from w2v_edge.latency.device.fingerprint import ARM_PARTS, FEATURES, describe_device
from w2v_edge.latency.measure.plan import Matrix
from w2v_edge.latency.report.files import read_report, render_report
from w2v_edge.latency.report.schema import shipped

from .conftest import APPS, Clip, Program

QUICK = ("--rounds", "3", "--min-steady-seconds", "0.05", "--threads", "1")


@dataclass(frozen=True)
class Bench:
    """Runs the benchmark in an empty folder, into which it may write one report."""

    program: Program
    clip: Path
    folder: Path

    @property
    def report(self) -> Path:
        """The report's path."""
        return self.folder / "report.json"

    def __call__(
        self, bundle: Path, *options: str | Path, audio: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Measure a bundle."""
        given = ("--audio", audio or self.clip, "--report", self.report)
        return self.program(bundle, *given, *options)


@pytest.fixture
def bench(c_program: Callable[[str], Program], clip: Clip, tmp_path: Path) -> Bench:
    """The benchmark, with a recording."""
    folder = tmp_path / "written"
    folder.mkdir()
    return Bench(c_program("w2v-edge-bench"), clip.path, folder)


@pytest.fixture
def refused(bench: Bench, refuses: Callable[..., None]) -> Callable[..., None]:
    """`refused(bundle, *options, words=...)`: one line, exit code 1, and nothing written."""

    def check(bundle: Path, *options: str | Path, words: tuple[str, ...], **more: Any) -> None:
        refuses(bench(bundle, *options, **more), *words)
        assert not list(bench.folder.iterdir())

    return check


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundle that ships, which a test may damage."""
    return shutil.copytree(TINY_INT8, tmp_path / "bundle")


def test_the_report_is_that_of_python(bench: Bench) -> None:
    """The report has the schema, device, bundle and cases of `w2v-edge bench`: both compare."""
    options = ("--seconds", "0.5,1", "--batch", "2", *QUICK)
    outcome = bench(TINY_INT8, *options)
    assert outcome.returncode == 0, outcome
    assert outcome.stdout.count("p50") == 4
    plain = json.loads(bench.report.read_text())
    jsonschema.validate(plain, json.loads(shipped()))
    assert plain["command"].startswith(f"w2v-edge-bench {TINY_INT8} --audio")
    assert " ".join(options) in plain["command"]
    found = read_report(bench.report)
    device = describe_device()
    assert same_device(found.device, device)
    assert (found.device.identity, found.device.onnxruntime) == (
        device.identity,
        device.onnxruntime,
    )

    matrix = Matrix(("tokenizer",), (0.5,), (1,), (2,))
    python = benchmark([TINY_INT8], matrix, audio=[bench.clip], rounds=3)
    assert (found.bundles, found.audio) == (python.bundles, python.audio)
    compared = compare(python, found, metrics=["p50", "cold", "rss"])
    assert [x.failure for x in compared.pairs] == [""] * 3
    assert not compared.only_before
    assert len(compared.only_after) == 3
    for result in found.cases:
        assert len(result.trials) == 3
        assert result.summary is not None
        for trial in result.trials:
            assert trial.import_ms > 0
            assert trial.load_ms > 0
            assert trial.audio_s == pytest.approx(len(trial.latencies_ms) * 2 * result.case.seconds)
            assert sum(trial.latencies_ms) == pytest.approx(1e3 * trial.steady_s, abs=0.01)
            assert 0 < (trial.loaded_mb or 0) <= (trial.peak_mb or 0)
    # Samples before the first trial and after each.
    assert len(found.conditions.samples) == 13
    assert "w2v-edge-bench" in render_report(found, ".html")


def test_tables_of_processors_are_those_of_python() -> None:
    """The program names instruction sets and ARM's designs as Python's fingerprint does."""
    text = (APPS / "c/device.c").read_text()
    tables = [
        re.findall(r'"([^"]+)"', x) for x in re.findall(r"\[\] = \{(.*?)\n\};", text, re.DOTALL)
    ]
    parts = [word for pair in ARM_PARTS.items() for word in pair]
    tables.append(
        re.findall(r'"([^"]+)"', re.findall(r"\[\]\[2\] = \{(.*?)\n\};", text, re.DOTALL)[0])
    )
    assert [x for x in FEATURES if not x.startswith("feat_")] in tables
    assert parts in tables


def test_hashes_hold_at_every_length(
    bench: Bench, copy: Path, reseal: Callable[..., None], refuses: Callable[..., None]
) -> None:
    """SHA-256 pads by the length modulo 64: manifests of all of them are accepted."""
    config = json.loads((copy / "manifest.json").read_text())["config"]
    for length in range(64):
        reseal(copy, config=config | {"name": "x" * length})
        refuses(bench(copy, audio=bench.folder / "none.wav"), "none.wav")


@pytest.mark.parametrize("name", ["encoder.onnx", "frontend.bin", "context.bin", "manifest.json"])
def test_changed_files_are_refused(copy: Path, refused: Callable[..., None], name: str) -> None:
    """One changed byte, a missing byte, and a missing file are refused by the file's name."""
    whole = (copy / name).read_bytes()
    at = whole.index(b"wav2vec2") if name == "manifest.json" else len(whole) // 2
    (copy / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refused(copy, "--graph", "encoder", *QUICK, words=(name, "damaged"))
    (copy / name).write_bytes(whole[:-1])
    refused(copy, "--graph", "encoder", *QUICK, words=(name, "damaged"))
    (copy / name).unlink()
    refused(copy, "--graph", "encoder", *QUICK, words=(name,))


def test_no_file_outside_the_bundle_is_read(
    copy: Path, refused: Callable[..., None], reseal: Callable[..., None], tmp_path: Path
) -> None:
    """Neither by a link, nor by a name in the manifest, nor by one in a graph."""
    outside = (copy / "context.bin").rename(tmp_path / "context.bin")
    (copy / "context.bin").symlink_to(outside)
    refused(copy, *QUICK, words=("context.bin", "link out of"))
    (copy / "context.bin").unlink()
    shutil.copy(outside, copy)
    graphs = json.loads((copy / "manifest.json").read_text())["graphs"]
    data = graphs["encoder"]["data"]
    for name in ("../context.bin", "/etc/passwd", ".", "a/b.bin", "x" * 100):
        graphs["encoder"]["data"] = [*data, name]
        reseal(copy, graphs=graphs)
        refused(copy, *QUICK, words=("names a file no bundle has",))
    graphs["encoder"]["data"] = data
    for name in ("../context.bin", "golden.npz"):
        _locate(copy / "encoder.onnx", "location", name)
        reseal(copy, graphs=graphs)
        refused(copy, *QUICK, words=("encoder.onnx", name))


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "99999999"), ("length", "1"), ("offset", "-1")]
)
def test_tensors_lie_within_their_files(
    copy: Path, refused: Callable[..., None], reseal: Callable[..., None], key: str, value: str
) -> None:
    """A tensor past the end of its file, or larger than its data, is refused."""
    _locate(copy / "encoder.onnx", key, value)
    reseal(copy)
    refused(copy, *QUICK, words=("encoder.onnx", "a tensor"))


def _locate(path: Path, key: str, value: str) -> None:
    """Change where a graph's last external tensor has its data."""
    graph = onnx.load(path, load_external_data=False)
    external = [x for x in graph.graph.initializer if x.external_data][-1].external_data
    entries = {x.key: x.value for x in external} | {key: value}
    del external[:]
    for name, text in entries.items():
        external.add(key=name, value=text)
    path.write_bytes(graph.SerializeToString())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[" * 100_000,
        b'{"format_version": 1e999}',
        b'{"a": "\\u12"}',
        b'{"a": "\x01"}',
        b'{"a" 1}',
        b"{} {}",
        b"{}\0",
        b'{"format_version": 3}',
        b'{"format_version": 1, "sha256": 5}',
        b"[" + b"0," * (1 << 20) + b"0]",
        b" " * (17 << 20),
    ],
    ids=range(14),
)
def test_manifests_that_are_none_are_one_line(
    copy: Path, refused: Callable[..., None], text: bytes
) -> None:
    """Whatever `manifest.json` holds, it is refused by its name."""
    (copy / "manifest.json").write_bytes(text)
    refused(copy, words=("manifest.json",))


def test_truncated_manifests_are_one_line(copy: Path, refused: Callable[..., None]) -> None:
    """A manifest that was cut, or has a bit turned, anywhere."""
    whole = (copy / "manifest.json").read_bytes()
    for at in range(1, len(whole), len(whole) // 40):
        (copy / "manifest.json").write_bytes(whole[:at])
        refused(copy, words=("manifest.json",))
        (copy / "manifest.json").write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
        refused(copy, words=("manifest.json",))


def test_special_files_are_refused(copy: Path, refused: Callable[..., None]) -> None:
    """A pipe is not waited for."""
    (copy / "manifest.json").unlink()
    os.mkfifo(copy / "manifest.json")
    refused(copy, words=("manifest.json", "no regular file"))


def test_unusable_options_are_one_line(
    bench: Bench, refused: Callable[..., None], tmp_path: Path
) -> None:
    """What was found, and what was expected."""
    for option, value, words in (
        ("--seconds", "0.01", ("0.01 s", "expected 0.025 to")),
        ("--seconds", "1,x", ("--seconds: found 'x'",)),
        ("--seconds", "nan", ("--seconds: found 'nan'",)),
        ("--seconds", "3000", ("3000 s of audio for 'encoder'",)),
        ("--threads", "1024", ("1024 threads", "usable cores")),
        ("--threads", "1.5", ("whole number",)),
        ("--batch", "100000", ("batches of 100000",)),
        ("--graph", "context", ("'context'", "w2v-edge bench")),
        ("--rounds", "2", ("--rounds",)),
        ("--library", str(tmp_path / "none.so"), ("onnxruntime cannot be loaded", "none.so")),
    ):
        refused(TINY_INT8, option, value, words=words)
    speech, _ = soundfile.read(bench.clip, dtype="float32")
    soundfile.write(tmp_path / "x.wav", speech, 8_000)
    refused(TINY_INT8, audio=tmp_path / "x.wav", words=("found 8000 Hz", "16000 Hz"))
    refused(tmp_path, words=("manifest.json",))
    refused(
        TINY_INT8, "-o", tmp_path / "none" / "r.json", words=("none/r.json", "cannot be written")
    )
    refused(TINY_INT8, "-o", tmp_path / "r.html", words=("r.html", "suffix .json"))
    assert bench(TINY_INT8, "--unknown").returncode == 2
    assert bench.program(TINY_INT8).returncode == 2
    assert "--seconds" in bench.program("--help").stdout
