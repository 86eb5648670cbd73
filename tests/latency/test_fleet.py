"""Reports of several devices: one document, its tables, its page, and OpenMetrics."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import jsonschema
import pytest

from tests.latency import reports
from tests.latency.test_html import Structure
from w2v_edge import strict
from w2v_edge.latency.report.files import render_report
from w2v_edge.latency.report.fleet import Fleet, make_fleet
from w2v_edge.latency.report.fleet_page import fleet_page, fleet_tables
from w2v_edge.latency.report.openmetrics import openmetrics
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.latency.report.schema import fleet_schema

SAMPLE = re.compile(r'([a-z0-9_]+)\{((?:[a-z0-9_]+="(?:[^"\\\n]|\\[\\n"])*",?)+)\} (\S+)')


def slower(report: BenchmarkReport, times: float) -> BenchmarkReport:
    """Return a report whose queries take longer, with other threads."""
    cases = []
    for result in report.cases:
        trials = tuple(
            replace(x, latencies_ms=tuple(times * ms for ms in x.latencies_ms))
            for x in result.trials
        )
        case = replace(result.case, threads=result.case.threads + 1)
        cases.append(replace(result, case=case, trials=trials))
    return replace(report, cases=tuple(cases))


ONE = reports.report(reports.result(), reports.result(replace(reports.CASE, seconds=5.0)))
FLEET = {"pi5": ONE, "pi4": slower(ONE, 3.0)}


def test_devices_are_rows_and_cases_are_columns() -> None:
    """Cases are matched whatever the number of threads; ratios are to the first device."""
    fleet = make_fleet(FLEET, {"pi4": 55.0})
    assert [x.name for x in fleet.devices] == ["pi5", "pi4"]
    assert [x.price for x in fleet.devices] == [None, 55.0]
    assert [(x.device, x.case, x.threads) for x in fleet.results] == [
        ("pi5", 0, 1), ("pi5", 1, 1), ("pi4", 0, 2), ("pi4", 1, 2),
    ]  # fmt: skip
    p50, devices = fleet_tables(fleet, ("p50",))
    assert [x.name for x in p50.columns] == ["device", "1 s", "5 s"]
    assert [row[0].text for row in p50.rows] == ["pi5", "pi4"]
    assert all("(3.00x)" in cell.text for cell in p50.rows[1][1:])
    assert "price" in [x.name for x in devices.columns]


def test_a_case_that_one_device_lacks_stays_empty() -> None:
    """Neither a missing case nor a failed one has a figure, and a failure is said."""
    fleet = make_fleet({"a": ONE, "b": replace(ONE, cases=ONE.cases[:1]), "c": reports.no_trials()})
    table, _ = fleet_tables(fleet, ("p50",))
    assert table.rows[1][2].text == ""
    assert table.rows[2][1].text == "failed"
    assert "time was up" in fleet_page(fleet)


@pytest.mark.parametrize("kind", reports.KINDS)
def test_the_document_has_a_schema(kind: str) -> None:
    """The JSON of any fleet is valid, and read back unchanged."""
    fleet = make_fleet({"a": reports.KINDS[kind](), "b": ONE})
    plain = json.loads(json.dumps(strict.to_plain(fleet), allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(fleet_schema())
    jsonschema.validate(plain, fleet_schema())
    assert strict.from_plain(Fleet, plain) == fleet


@pytest.mark.parametrize("kind", reports.KINDS)
def test_a_page_loads_nothing_and_is_closed(kind: str) -> None:
    """Whatever names hold: balanced tags, no script, no address."""
    text = fleet_page(make_fleet({reports.HOSTILE: reports.KINDS[kind](), "b": ONE}))
    tags = [tag for tag, _ in Structure(text).tags]
    assert not set(tags) & {"script", "img", "link", "iframe", "object", "a", "base"}
    assert "default-src 'none'" in text


def test_charts_are_drawn_where_prices_and_power_are_known() -> None:
    """Without a price there is no chart of prices."""
    assert "Latency by price" not in fleet_page(make_fleet(FLEET))
    page = fleet_page(make_fleet(FLEET, {"pi4": 55.0, "pi5": 80.0}))
    assert "Latency by price" in page
    assert "Latency by power" in page


def check_openmetrics(text: str) -> set[str]:
    """Check a text against the rules of OpenMetrics 1.0; return the families with samples."""
    *lines, end, empty = text.split("\n")
    assert (end, empty) == ("# EOF", "")
    types: dict[str, str] = {}
    seen: set[str] = set()
    current, found = "", set()
    for line in lines:
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            if what == "TYPE":
                assert name not in types, "families are not interleaved"
                types[name], current = rest, name
            assert name == current
            if what == "UNIT":
                assert name.endswith(f"_{rest}")
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] == current + ("_info" if types[current] == "info" else "")
        assert line.rsplit(" ", 1)[0] not in seen, "each set of labels is there once"
        seen.add(line.rsplit(" ", 1)[0])
        float(match[3])
        found.add(current)
    return found


@pytest.mark.parametrize("kind", reports.KINDS)
def test_openmetrics_follows_its_rules(kind: str) -> None:
    """Types, units, escaped labels, no interleaved family, and an end, whatever names hold."""
    found = check_openmetrics(openmetrics({"a": reports.KINDS[kind](), reports.HOSTILE: ONE}))
    assert {"w2v_edge_latency_seconds", "w2v_edge_peak_memory_bytes", "w2v_edge_device"} <= found


def test_openmetrics_has_base_units() -> None:
    """Times are in seconds and memory is in bytes; the label of a device is in each sample."""
    text = render_report(ONE, ".prom")
    assert ONE.cases[0].summary is not None
    fleet = make_fleet({"x": ONE})
    p50 = fleet.results[0].figures["p50"].value
    assert f'percentile="p50",estimate="value"}} {1e-3 * p50!r}\n' in text
    assert re.search(r"\nw2v_edge_install_bytes\{.*\} 92000000\.0\n", text)
    assert text.count(f'device="{ONE.device.identity}"') == text.count("{")


def test_another_parser_reads_openmetrics() -> None:
    """The parser of prometheus_client reads the same families, with types and units."""
    parser = pytest.importorskip(
        "prometheus_client.openmetrics.parser", reason="prometheus-client is not installed"
    )
    text = openmetrics({"a": reports.usual(), reports.HOSTILE: reports.hostile()})
    families = {x.name: x for x in parser.text_string_to_metric_families(text)}
    assert families["w2v_edge_latency_seconds"].unit == "seconds"
    assert families["w2v_edge_device"].type == "info"
    assert {x.name for x in families.values() if x.samples} == check_openmetrics(text)
