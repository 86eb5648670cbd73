"""Published figures are those that were measured: one format, and tables made from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest

from w2v_edge.latency.report import schema
from w2v_edge.latency.report.files import read_report
from w2v_edge.latency.report.records import FORMAT
from w2v_edge.latency.statistics import summarise

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
FILES = sorted(RESULTS.rglob("*.json"))
REPORTS = [path for path in FILES if json.loads(path.read_text()).get("format") == FORMAT]


FILLED = {
    "README.md": ("| 0.8096", "| 0.9096"),
    "w2v_edge/data/tiny/README.md": ("| crop seconds | 10.0", "| crop seconds | 20.0"),
    "bench/results/peers-base.md": ("0.809641", "0.909641"),
}
"""Texts with tables, and a figure of each beside another one."""


def _names(path: Path) -> str:
    return str(path.relative_to(RESULTS))


def _bench_report(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.report", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_latencies_are_kept_in_the_format_of_reports() -> None:
    """All files of latencies claim the format; what it has no place for does not."""
    claim = {
        path
        for path in FILES
        if path.match("latency-*") or (path.match("peers-*") and "-more" not in path.name)
    }
    assert claim
    assert set(REPORTS) == claim


@pytest.mark.parametrize("path", REPORTS, ids=_names)
def test_reports_are_valid_and_say_what_their_samples_say(path: Path) -> None:
    """They fit the schema that is shipped, are read, and their summaries are of their samples."""
    jsonschema.validate(json.loads(path.read_text()), json.loads(schema.shipped()))
    report = read_report(path)
    bundles = {bundle.name for bundle in report.bundles}
    for result in report.cases:
        assert result.case.bundle in bundles
        seed = report.settings.seed
        assert bool(result.failure) == (not result.trials) == (result.summary is None)
        if result.summary:
            # Processors differ in the last bit of a logarithm.
            made = asdict(summarise(result.case, result.trials, seed=seed))
            for name, figure in asdict(result.summary).items():
                assert figure == pytest.approx(made[name]), name


@pytest.mark.parametrize("path", REPORTS, ids=_names)
def test_a_report_compared_with_itself_is_the_same(path: Path) -> None:
    """`w2v-edge compare` reads what is published."""
    cli = [sys.executable, "-c", "from w2v_edge.cli import main; main()"]
    done = subprocess.run([*cli, "compare", path, path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_published_tables_are_those_of_the_results() -> None:
    """README.md and the tables beside the results hold the figures that were measured."""
    done = _bench_report(ROOT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FILLED)
def test_a_figure_that_was_not_measured_is_found_and_replaced(name: str, tmp_path: Path) -> None:
    """A changed figure fails the check in one line, and is put right by making tables anew."""
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    shutil.copy(ROOT / "README.md", tmp_path)
    card = Path("w2v_edge/data/tiny/README.md")
    (tmp_path / card).parent.mkdir(parents=True)
    shutil.copy(ROOT / card, tmp_path / card)
    file = tmp_path / name
    right = file.read_text()
    file.write_text(right.replace(*FILLED[name]))
    assert file.read_text() != right
    found = _bench_report(tmp_path, "--check")
    assert found.returncode == 1
    assert found.stdout.splitlines() == [
        f"{name}: not what the results give; run make bench-report"
    ]
    made = _bench_report(tmp_path)
    assert made.returncode == 0, made.stderr
    assert file.read_text() == right
