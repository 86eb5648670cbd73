"""Report files: the suffix selects the format, and JSON is always valid."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.latency import reports
from w2v_edge import strict
from w2v_edge.errors import InferenceError, InputError
from w2v_edge.latency.measure.processes import Job, run_job
from w2v_edge.latency.report.files import read_report, to_json, write_report
from w2v_edge.latency.report.html import page
from w2v_edge.latency.statistics import summarise


def test_the_suffix_selects_the_format(tmp_path: Path) -> None:
    """A report is written as JSON, Markdown or HTML; JSON is read back unchanged."""
    report = reports.usual()
    for name in ("a.json", "a.md", "a.HTML"):
        write_report(report, tmp_path / name)
    assert read_report(tmp_path / "a.json") == report
    assert (tmp_path / "a.md").read_text().startswith("### w2v-edge bench")
    assert (tmp_path / "a.HTML").read_text().startswith("<!DOCTYPE html>")


def test_reports_of_version_1_are_read(tmp_path: Path) -> None:
    """They lack the keys of least times, and nothing else."""
    report = reports.usual()
    plain = json.loads(to_json(report)) | {"version": 1}
    del plain["peaks"]
    for case in plain["cases"]:
        del case["weights_mb"]
        for operator in case["operators"]:
            del operator["arithmetic"], operator["multiplications"]
    (tmp_path / "old.json").write_text(json.dumps(plain))
    assert read_report(tmp_path / "old.json") == report


def test_reports_of_raw_figures_are_completed(tmp_path: Path) -> None:
    """Trials and samples are enough: statistics and disturbances are computed when read."""
    report = reports.usual()
    busy = [dataclasses.replace(x, others=1.5) for x in report.conditions.samples[:4]]
    samples = (*busy, *report.conditions.samples[4:])
    plain = json.loads(to_json(report))
    plain["conditions"] = {"samples": strict.to_plain(samples), "disturbances": []}
    for case in plain["cases"]:
        case |= {"summary": None, "unstable": []}
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(plain))
    found = read_report(path)
    assert [x.kind for x in found.conditions.disturbances] == ["load"]
    for one in found.cases:
        assert one.summary == (summarise(one.case, one.trials) if one.trials else None)
    assert found.cases[0].unstable
    assert "other processes kept" in page(found)
    plain["cases"][0]["case"] |= {"scenario": "streaming", "block_ms": 0.0}
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError, match="queries without audio"):
        read_report(path)


@pytest.mark.parametrize("name", ["a.txt", "a", ".json", "a.json.gz"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    """One line names the suffixes, and nothing is written."""
    with pytest.raises(InputError, match=r"expected \.json or \.md"):
        write_report(reports.usual(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_figures_that_json_cannot_hold_are_refused(tmp_path: Path, figure: float) -> None:
    """NaN and Infinity in a report are a typed error."""
    report = reports.single_sample()
    trial = dataclasses.replace(report.cases[0].trials[0], energy_j=figure)
    spoilt = dataclasses.replace(report, cases=(reports.change(report.cases[0], trials=(trial,)),))
    for write in (to_json, page):
        with pytest.raises(InputError, match="non-finite figure"):
            write(spoilt)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dataclasses.asdict(spoilt)))
    with pytest.raises(InputError, match="not JSON"):
        read_report(path)


def infinite_answer(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Answer with a figure that JSON cannot hold."""
    return {"times_ms": [math.inf]}


def test_a_process_answers_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A non-finite figure in a process fails that process with its reason."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    job = Job("", reports.CASE, "", 0.0)
    with pytest.raises(InferenceError, match="JSON compliant"):
        run_job("tests.latency.test_files:infinite_answer", job, tmp_path)
