"""Published figures have one format, and the tables are made from them."""

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

from bench import report as published
from w2v_edge.cli.group import run
from w2v_edge.latency.report import schema
from w2v_edge.latency.report.files import read_report
from w2v_edge.latency.report.records import FORMAT
from w2v_edge.latency.statistics import summarise

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
FILES = sorted(RESULTS.rglob("*.json"))
REPORTS = [path for path in FILES if json.loads(path.read_text()).get("format") == FORMAT]


FILLED = {
    "README.md": ("| 0.9993", "| 0.9994"),
    "docs/results.md": ("| 0.8096", "| 0.9096"),
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
    """All files of latencies, and no others, have the format of reports."""
    claim = {
        path
        for path in FILES
        if path.match("latency-*") or (path.match("peers-*") and "-more" not in path.name)
    }
    assert claim
    assert set(REPORTS) == claim


@pytest.mark.parametrize("path", REPORTS, ids=_names)
def test_reports_are_valid(path: Path) -> None:
    """Each report fits the shipped schema, and its summaries are those of its samples."""
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


def test_a_report_compared_with_itself_is_the_same() -> None:
    """`w2v-edge compare` reads every published report."""
    for path in REPORTS:
        assert run(["compare", str(path), str(path)]) == 0, path


def test_published_tables_are_those_of_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    """README.md, docs/ and the tables beside the results hold the figures that were measured."""
    assert published.check() == 0, capsys.readouterr().out


def test_figures_that_were_not_measured_are_found_and_replaced(tmp_path: Path) -> None:
    """Each text with a changed figure fails the check in one line, and a rebuild corrects it."""
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    card = Path("w2v_edge/data/tiny/README.md")
    (tmp_path / card).parent.mkdir(parents=True)
    shutil.copy(ROOT / card, tmp_path / card)
    right = {name: (tmp_path / name).read_text() for name in FILLED}
    for name, change in FILLED.items():
        (tmp_path / name).write_text(right[name].replace(*change))
        assert (tmp_path / name).read_text() != right[name]
    found = _bench_report(tmp_path, "--check")
    assert found.returncode == 1
    assert sorted(found.stdout.splitlines()) == sorted(
        f"{name}: not what the results give; run make bench-report" for name in FILLED
    )
    made = _bench_report(tmp_path)
    assert made.returncode == 0, made.stderr
    for name, text in right.items():
        assert (tmp_path / name).read_text() == text
