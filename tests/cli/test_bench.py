"""bench and compare: reports of real runs, budgets, refusals, and nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

from w2v_edge.cli.group import run
from w2v_edge.latency.report.files import read_report
from w2v_edge.latency.report.schema import shipped

Verb = Callable[..., Any]
QUICK = ("--rounds", "3", "--min-steady-seconds", "0.02")


@pytest.fixture(scope="session")
def folder(bundle: Callable[[str], Path]) -> Path:
    """A small bundle with a quantizer."""
    return bundle("tiny")


@pytest.fixture(scope="session")
def report(
    folder: Path, shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Path:
    """A report of one length and two graphs, measured once per run."""
    path = shared_folder / "bench.json"
    with locked("bench"):
        if not path.exists():
            given = ("bench", folder, "--seconds", "0.5", *QUICK, "--report", path)
            assert run([str(x) for x in given]) == 0
    return path


@pytest.fixture
def measured(report: Path, tmp_path: Path) -> Path:
    """A copy of that report, which the test may change."""
    return Path(shutil.copy(report, tmp_path / "a.json"))


def test_all_forms_of_a_report(w2v_edge: Verb, folder: Path, tmp_path: Path) -> None:
    """One run gives tables, JSON of the schema, Markdown and HTML; repeated lists add up."""
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "md", "html")}
    outcome = w2v_edge(
        "bench", folder, "--seconds", "0.3", "--seconds", "0.5", "--batch", "1,2",
        "--graph", "encoder", *QUICK, "--profile",
        *(x for path in paths.values() for x in ("--report", path)),
    )  # fmt: skip
    assert outcome.code == 0, outcome
    data = json.loads(paths["json"].read_text())
    jsonschema.validate(data, json.loads(shipped()))
    cases = {(x["case"]["graph"], x["case"]["seconds"], x["case"]["batch"]) for x in data["cases"]}
    assert cases == {("encoder", s, b) for s in (0.3, 0.5) for b in (1, 2)}
    report = read_report(paths["json"])
    for result in report.cases:
        assert result.summary is not None
        assert len(result.trials) == 3
        assert sum(len(trial.latencies_ms) for trial in result.trials) == result.summary.queries
        assert {x.operator for x in result.operators} & {"MatMul", "FusedMatMul", "Gemm"}
        peak = [trial.peak_mb for trial in result.trials]
        assert all(x is not None and 20 < x < 2000 for x in peak)
        for trial in result.trials:
            assert min(trial.start_ms, trial.import_ms, trial.load_ms, trial.first_ms) > 0
    assert f"{folder.name}" in outcome.out
    assert paths["html"].read_text().startswith("<!DOCTYPE html>")
    assert "| ---" in paths["md"].read_text()


def test_trials_are_processes_whose_order_is_shuffled(measured: Path) -> None:
    """No two trials overlap, each round has each case once, and cases take turns in being first."""
    report = read_report(measured)
    assert all(x.nodes.keys() == {"CPUExecutionProvider"} for x in report.cases)
    trials = sorted((t.begin_s, t.end_s, x.case.graph) for x in report.cases for t in x.trials)
    assert all(a[1] <= b[0] for a, b in pairwise(trials))
    rounds = [{x[2] for x in trials[i : i + 2]} for i in range(0, len(trials), 2)]
    assert rounds == [{"encoder", "tokenizer"}] * 3


def test_old_options_still_work(w2v_edge: Verb, folder: Path, tmp_path: Path) -> None:
    """Deprecated options work for one release, with a warning that names the new ones."""
    base = ("bench", "--rounds", "3", "--seconds", "0.3", "--graph", "tokenizer")
    outcome = w2v_edge(*base, "--steady", "0.02", "--precision", "0.5", "--json", folder,
                       "--html", tmp_path / "a.html", "--json", tmp_path / "a.json")  # fmt: skip
    assert outcome.code == 0, outcome
    jsonschema.validate(outcome.json, json.loads(shipped()))
    assert read_report(tmp_path / "a.json").settings.precision == 0.5
    assert (tmp_path / "a.html").exists()
    for new in ("--min-steady-seconds", "--interval", "--report"):
        assert f"deprecated; use {new}" in outcome.err


def test_several_bundles_side_by_side(
    w2v_edge: Verb, folder: Path, copied_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """Each bundle has its own cases, also if two folders have the same name; then a comparison."""
    other = copied_bundle("tiny")
    outcome = w2v_edge("bench", folder, other, *QUICK, "--seconds", "0.3", "--graph", "encoder",
                       "--report", tmp_path / "report.json")  # fmt: skip
    assert outcome.code == 0, outcome
    report = json.loads((tmp_path / "report.json").read_text())
    names = [x["name"] for x in report["bundles"]]
    assert len(set(names)) == 2
    assert [x["case"]["bundle"] for x in report["cases"]] == names
    size = sum(x.stat().st_size for x in folder.iterdir()) / 1e6
    assert report["bundles"][0]["size_mb"] == pytest.approx(size, abs=1e-3)
    (compared,) = re.findall(r"Comparison\n *(.*)\n", outcome.out)
    assert all(name in compared for name in names)


@pytest.mark.parametrize("scenario", ["multi", "offline", "streaming"])
def test_scenarios(w2v_edge: Verb, folder: Path, scenario: str) -> None:
    """Each scenario has its own queries: of eight, all at once, or blocks in real time."""
    outcome = w2v_edge("bench", folder, *QUICK, "--scenario", scenario, "--seconds", "1",
                       "--block-ms", "250", "--graph", "tokenizer", "--json")  # fmt: skip
    assert outcome.code == 0, outcome
    (case,) = outcome.json["cases"]
    trial, found = case["trials"][0], case["summary"]
    if scenario == "multi":
        assert trial["audio_s"] == pytest.approx(8 * len(trial["latencies_ms"]))
    elif scenario == "offline":
        assert len(trial["latencies_ms"]) == 1
        assert trial["audio_s"] >= 24
    else:
        assert len(trial["latencies_ms"]) == 4
        assert trial["steady_s"] >= 0.95
        assert 0 <= found["miss_rate"] <= 1
        assert found["behind_ms"] >= 0


@pytest.mark.parametrize("scenario", ["single", "multi", "offline"])
def test_loadgen_issues_the_queries(w2v_edge: Verb, folder: Path, scenario: str) -> None:
    """MLPerf LoadGen's results are in the report and agree with our timing."""
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen has no wheel here")
    outcome = w2v_edge("bench", folder, *QUICK, "--loadgen", "--scenario", scenario, "--seconds",
                       "0.5", "--graph", "tokenizer", "--json")  # fmt: skip
    assert outcome.code == 0, outcome
    (case,) = outcome.json["cases"]
    for trial in case["trials"]:
        said, timed = trial["loadgen"], trial["latencies_ms"]
        assert case["case"]["driver"] == "loadgen"
        per_query = int(said["samples_per_query"])
        assert trial["audio_s"] == pytest.approx(0.5 * per_query * len(timed))
        if scenario == "offline":
            timed = [x * per_query / 24 for x in timed]
        # It looks at the clock before us, and again after us.
        assert float(said["Max latency (ns)"]) / 1e6 >= max(timed) * 0.999


def test_budgets(w2v_edge: Verb, folder: Path) -> None:
    """A missed budget is exit code 5 and one line; met budgets are exit code 0."""
    base = ("bench", folder, *QUICK, "--seconds", "0.3", "--graph", "tokenizer")
    assert w2v_edge(*base, "--budget", "p99<60s@0.3s", "--budget", "rss<20GB").code == 0
    missed = w2v_edge(*base, "--budget", "p50<1us", "--budget", "rss<20GB")
    assert missed.code == 5
    assert "error: budget p50<1us missed by" in missed.err


def test_memory_and_storage(w2v_edge: Verb, folder: Path, refused: Verb) -> None:
    """A case above the limit fails; within it, stages and a minimal installation are reported."""
    base = ("bench", folder, *QUICK, "--seconds", "0.3", "--graph", "tokenizer")
    refused(w2v_edge(*base, "--memory-limit", "10MB"), 1, "10 MB")
    assert w2v_edge(*base, "--memory-limit", "10").code == 2
    found = w2v_edge(*base, "--memory-limit", "20GB", "--budget", "install<1GB", "--json")
    assert found.code == 0, found
    settings, (case,) = found.json["settings"], found.json["cases"]
    assert settings["memory_limit_mb"] == 20_000
    assert settings["memory_limit_by"] in {"control group", "peak"}
    peaks = case["summary"]["stage_peaks_mb"]
    assert list(peaks) == ["import", "load", "first", "steady"]
    assert max(peaks.values()) == case["summary"]["peak_mb"]
    needed = {x["name"] for x in case["install"] if x["needed"]}
    assert {"numpy", "onnxruntime", "w2v-edge", "tokenizer.onnx", "frontend.bin"} <= needed
    assert "encoder.onnx" not in needed


def test_compare(w2v_edge: Verb, measured: Path, tmp_path: Path, refused: Verb) -> None:
    """Equal reports are no regression; samples twice as long are one, with exit code 4."""
    data = json.loads(measured.read_text())
    # What the machine did meanwhile is not what is asked about.
    for case in data["cases"]:
        for number, trial in enumerate(case["trials"]):
            trial["reference_ms"] = [1.0 for _ in trial["reference_ms"]]
            trial["latencies_ms"] = [5.0 + 0.01 * number for _ in trial["latencies_ms"]]
    measured.write_text(json.dumps(data))
    same = w2v_edge("compare", measured, measured)
    assert same.code == 0, same
    for case in data["cases"]:
        for trial in case["trials"]:
            trial["latencies_ms"] = [2 * x for x in trial["latencies_ms"]]
    slow = tmp_path / "slow.json"
    slow.write_text(json.dumps(data))
    outcome = w2v_edge("compare", measured, slow)
    refused(outcome, 4, "regression in 2 of 2 comparisons", "takes 2.0")
    assert "slower" in outcome.out
    assert "geometric means over undisturbed processes" in outcome.out
    assert w2v_edge("compare", slow, measured).code == 0
    assert w2v_edge("compare", measured, slow, "--threshold", "150%").code == 0
    told = w2v_edge("compare", measured, slow, "--json")
    assert told.code == 4
    assert json.loads(told.out)["regressions"] == 2
    old = w2v_edge("compare", measured, slow, "--markdown")
    assert "| 2.00 \\[" in old.out
    assert "warning: --markdown is deprecated" in old.err
    data["device"]["cpu"]["model"] = "another processor"
    slow.write_text(json.dumps(data))
    refused(w2v_edge("compare", measured, slow), 1, "different devices", "--across-devices")
    forced = w2v_edge("compare", measured, slow, "--across-devices", "--report", tmp_path / "c.md")
    assert forced.code == 4
    assert "note: different devices" in (tmp_path / "c.md").read_text("utf-8")
    assert w2v_edge("compare", measured, slow, measured).code == 2
    third = tmp_path / "third.json"
    third.write_bytes(measured.read_bytes())
    table = w2v_edge("compare", measured, slow, third)
    assert table.code == 0, table
    assert "(2.00x)" in table.out
    outcome = w2v_edge("compare", measured, slow, third, "--across-devices")
    assert outcome.code == 2
    assert "two reports only" in outcome.err


def test_other_files_are_refused(
    w2v_edge: Verb, measured: Path, tmp_path: Path, refused: Verb
) -> None:
    """A file that is no report is refused in one line that names it and the reason."""
    cases: list[tuple[str, str]] = [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"format": "w2v-edge-latency", "version": 1, "x": NaN}', "not JSON"),
        ("[]", "not a latency report"),
        ('{"format": "other"}', "not a latency report"),
        ('{"format": "w2v-edge-latency", "version": 3}', "format version 3, expected 2 or 1"),
        ('{"format": "w2v-edge-latency", "version": 1}', "missing key"),
    ]
    for text, word in cases:
        path = tmp_path / "other.json"
        path.write_text(text)
        refused(w2v_edge("compare", measured, path), 1, str(path), word)
        refused(w2v_edge("compare", path, measured), 1, str(path), word)


def test_reports_with_impossible_figures_are_refused(
    w2v_edge: Verb, measured: Path, tmp_path: Path, refused: Verb
) -> None:
    """Reports with missing, negative or non-finite times are refused."""
    for values in ([], [-1.0], [0.0], ["fast"], [1e999]):
        data = json.loads(measured.read_text())
        data["cases"][0]["trials"][0]["latencies_ms"] = values
        path = tmp_path / "other.json"
        path.write_text(json.dumps(data))
        refused(w2v_edge("compare", measured, path), 1, str(path))


def test_the_schema_is_printed(w2v_edge: Verb) -> None:
    """`--schema` prints a JSON Schema with a version in its name."""
    outcome = w2v_edge("bench", "--schema")
    assert outcome.code == 0, outcome
    jsonschema.Draft202012Validator.check_schema(outcome.json)
    assert outcome.json["$id"].endswith(":2")


def _spoil(data: Any, what: str) -> None:
    first = data["cases"][0]
    if what == "no bundles":
        data["bundles"] = []
    elif what == "no trials":
        first["trials"] = []
    elif what == "reference":
        first["trials"][0]["reference_ms"] = [-1.0]
    elif what == "huge":
        first["trials"][0]["latencies_ms"] = [1e300]
    elif what == "infinite":
        first["trials"][0]["reference_ms"] = [1e400]


def test_impossible_reports_are_refused(
    w2v_edge: Verb, measured: Path, tmp_path: Path, refused: Verb
) -> None:
    """A report with missing or impossible figures is refused in one line, without a verdict."""
    cases: list[str] = ["no bundles", "no trials", "reference", "huge", "infinite"]
    for what in cases:
        data = json.loads(measured.read_text())
        _spoil(data, what)
        path = tmp_path / "other.json"
        path.write_text(json.dumps(data).replace("Infinity", "1e400"))
        refused(w2v_edge("compare", path, measured, "--across-devices"), 1, str(path))
        refused(w2v_edge("compare", measured, path, "--across-devices"), 1, str(path))


def test_a_report_steers_no_terminal(w2v_edge: Verb, measured: Path, tmp_path: Path) -> None:
    """Names from a report are shown without their control characters."""
    data = json.loads(measured.read_text())
    data["device"]["cpu"]["model"] = data["device"]["identity"] = "\x1b[31mred"
    path = tmp_path / "other.json"
    path.write_text(json.dumps(data))
    for options in (("--across-devices",), ()):
        outcome = w2v_edge("compare", measured, path, *options)
        assert "red" in outcome.out + outcome.err
        assert "\x1b[31m" not in outcome.out + outcome.err


def test_cases_without_figures_are_no_success(
    w2v_edge: Verb, measured: Path, tmp_path: Path, refused: Verb
) -> None:
    """A baseline without figures is an error; figures that disappear are a regression."""
    data = json.loads(measured.read_text())
    for case in data["cases"]:
        case |= {"trials": [], "summary": None, "failure": "it failed"}
    path = tmp_path / "failed.json"
    path.write_text(json.dumps(data))
    refused(w2v_edge("compare", path, measured), 1, "no case has figures")
    refused(w2v_edge("compare", measured, path), 4, "fails now")


def test_compare_wants_two(w2v_edge: Verb, measured: Path, tmp_path: Path, refused: Verb) -> None:
    """Comparing needs two reports; a missing file is named."""
    assert w2v_edge("compare", measured).code == 2
    refused(w2v_edge("compare", measured, tmp_path / "none.json"), 1, "none.json", "no file")
    refused(w2v_edge("compare", measured, tmp_path), 1, str(tmp_path))


def _silent(path: Path) -> Path:
    soundfile.write(path, np.zeros(0, dtype=np.float32), 16_000)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--threads", "4096"), ("4096 threads", "cores")),
        (("--provider", "cuda"), ("'cuda'",)),
        (("--provider", "cpu,cuda"), ("'cuda'",)),
        (("--seconds", "0.001"), ("0.001 s", "expected")),
        (("--seconds", "100000"), ("expected",)),
        (("--audio", "EMPTY"), ("holds no samples",)),
        (("--audio", "MISSING"), ("missing.wav",)),
        (("--audio", "FOLDER"), ("no audio found",)),
        (("--report", "NOWHERE"), ("cannot be written",)),
        (("--report", "FOLDER.md"), ("is a folder",)),
        (("--scenario", "streaming", "--graph", "quantizer"), ("expected encoder",)),
        (("--scenario", "streaming", "--seconds", "0.1"), ("a block of 320 ms",)),
        (("--scenario", "streaming", "--batch", "4"), ("no batches",)),
        (("--scenario", "streaming", "--loadgen"), ("LoadGen has no scenario",)),
        (("--scenario", "multi", "--batch", "3"), ("1, 2, 4 or 8",)),
        (("--loadgen", "--batch", "2"), ("single utterances",)),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    w2v_edge: Verb,
    folder: Path,
    tmp_path: Path,
    refused: Verb,
    options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    """Invalid input is refused in one line before any measurement, and leaves no file."""
    places = {
        "EMPTY": _silent(tmp_path / "empty.wav"),
        "MISSING": tmp_path / "missing.wav",
        "FOLDER": tmp_path,
        "NOWHERE": tmp_path / "none" / "a.json",
        "FOLDER.md": tmp_path / "folder.md",
    }
    places["FOLDER.md"].mkdir()
    before = sorted(tmp_path.iterdir())
    if options == ("--audio", "FOLDER"):
        (tmp_path / "empty.wav").unlink()
        before = [places["FOLDER.md"]]
    outcome = w2v_edge("bench", folder, *(places.get(x, x) for x in options))
    refused(outcome, 1, *words)
    assert sorted(tmp_path.iterdir()) == before


def test_unwritable_outputs_are_refused_first(w2v_edge: Verb, folder: Path, refused: Verb) -> None:
    """An output that cannot be written is refused before the measurement."""
    refused(w2v_edge("bench", folder, "--report", "/proc/none.json"), 1, "/proc")


def test_no_bundle(w2v_edge: Verb, tmp_path: Path, refused: Verb) -> None:
    """A folder that is not a bundle is refused in one line."""
    (tmp_path / "file").touch()
    refused(w2v_edge("bench", tmp_path), 1, str(tmp_path), "has no manifest.json")
    refused(w2v_edge("bench", tmp_path / "file"), 1, "is not a folder")
    refused(w2v_edge("bench", tmp_path / "none"), 1, "none", "does not exist")


def test_a_damaged_bundle_fails_with_its_reason(
    w2v_edge: Verb, folder: Path, copied_bundle: Callable[..., Path], refused: Verb
) -> None:
    """A damaged bundle fails in the process that loads it; other bundles are measured."""
    damaged = copied_bundle("tiny")
    data = bytearray((damaged / "frontend.bin").read_bytes())
    data[100] ^= 1
    (damaged / "frontend.bin").write_bytes(bytes(data))
    base = ("--seconds", "0.3", "--graph", "encoder", *QUICK)
    refused(w2v_edge("bench", damaged, *base), 1, "frontend.bin")
    outcome = w2v_edge("bench", folder, damaged, *base, "--json")
    refused(outcome, 1, "1 of 2 cases failed", "frontend.bin")
    good, bad = json.loads(outcome.out)["cases"]
    assert good["summary"]
    assert not good["failure"]
    assert "frontend.bin" in bad["failure"]


def test_a_trial_imports_what_an_app_imports(folder: Path) -> None:
    """A trial imports neither click, rich nor soundfile, like an app."""
    code = (
        "import sys\n"
        "import w2v_edge\n"
        "from w2v_edge.latency.measure import energy, inputs, plan, scenarios, trial\n"
        "heavy = {'click', 'rich', 'soundfile', 'soxr', 'psutil', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
