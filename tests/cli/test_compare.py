"""compare: fleets of reports in all forms. test_bench.py has comparisons of two reports."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from tests.cli.conftest import Runner
from tests.latency.test_fleet import FLEET, ONE, check_openmetrics, slower
from w2v_edge.latency.report.files import write_report
from w2v_edge.latency.report.schema import fleet_schema


def test_compare_shows_a_fleet(w2v_edge: Runner, tmp_path: Path) -> None:
    """Three reports and more, or --fleet: tables, JSON, Markdown, a page and OpenMetrics."""
    paths = [tmp_path / f"{name}.json" for name in ("pi5", "pi4", "pi3")]
    for path, report in zip(paths, (*FLEET.values(), slower(ONE, 9.0)), strict=True):
        write_report(report, path)
    written = [tmp_path / f"fleet.{suffix}" for suffix in ("json", "md", "html", "prom")]
    outcome = w2v_edge(
        "compare", *paths, "--metric", "p50,install", "--price", "pi4=55",
        *(x for path in written for x in ("--report", path)),
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert "(9.00x)" in outcome.out
    assert "92.0 MB (1.00x)" in outcome.out
    jsonschema.validate(json.loads(written[0].read_text()), fleet_schema())
    assert "(9.00x)" in written[1].read_text()
    assert "Latency by price" in written[2].read_text()
    check_openmetrics(written[3].read_text())
    assert w2v_edge("compare", "--schema").json == fleet_schema()
    one = w2v_edge("compare", "--fleet", paths[0], "--json")
    assert one.json["format"] == "w2v-edge-fleet"
    for options in (
        ("--price", "pi4=55"),
        ("--metric", "install"),
        ("--report", tmp_path / "x.html"),
    ):
        refused = w2v_edge("compare", *paths[:2], *options)
        assert refused.code == 2
        assert "add --fleet" in refused.err
    assert w2v_edge("compare", *paths, "--price", "pi9=55").code == 2
    assert w2v_edge("compare", *paths, "--price", "pi4=free").code == 2
