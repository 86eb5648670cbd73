"""fit: a real fit of the shipped bundle, its reports, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Runner
from w2v_edge import data


def test_a_fit(w2v_edge: Runner, tmp_path: Path) -> None:
    """A point is chosen, and reports are written."""
    page, report = tmp_path / "fit.html", tmp_path / "fit.json"
    outcome = w2v_edge(
        "fit", data.TINY_INT8, "--budget", "p50<60s@0.3s", "--budget", "rss<20GB", "--threads", "1",
        "--time", "0", "--report", page, "--report", report,
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert "chosen: tiny-int8, 1 thread meets all budgets" in outcome.out
    assert "no fp32 bundle of 4 layers was given" in outcome.out
    assert page.read_text().startswith("<!DOCTYPE html>")
    found = json.loads(report.read_text())
    assert (found["format"], found["choice"]) == ("w2v-edge-fit", 0)
    assert [x["verdict"] for x in found["points"][0]["checks"]] == ["met", "met"]
    assert found["report"]["format"] == "w2v-edge-latency"


def test_no_point_meets_the_budgets(w2v_edge: Runner, refused: Any) -> None:
    """Exit code 5, with the nearest point."""
    outcome = w2v_edge(
        "fit", data.TINY_INT8, "--budget", "p50<1us@0.3s", "--threads", "1", "--time", "0", "--json"
    )
    refused(outcome, 5, "the nearest is tiny-int8, 1 thread", "p50<1us@0.3s is missed")
    assert outcome.json["choice"] is None


def test_bad_budgets_are_refused(w2v_edge: Runner, refused: Any) -> None:
    """A budget that cannot be read is a usage error; none at all, too."""
    assert w2v_edge("fit", data.TINY_INT8).code == 2
    assert w2v_edge("fit", data.TINY_INT8, "--budget", "p98<1s").code == 2
    outcome = w2v_edge("fit", data.TINY_INT8, "--budget", "p50<1s", "--threads", "999")
    refused(outcome, 1, "999 threads")
