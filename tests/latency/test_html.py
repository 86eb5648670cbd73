"""The HTML page of a report is self-contained, complete and safe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.latency import reports
from tests.latency.chromium import CHROMIUM, Browser, browser
from w2v_edge import strict
from w2v_edge.latency.report.charts import distributions
from w2v_edge.latency.report.html import page
from w2v_edge.latency.report.records import BenchmarkReport, Estimate
from w2v_edge.latency.report.tables import tables
from w2v_edge.latency.report.wording import speedups

KINDS = pytest.mark.parametrize("kind", reports.KINDS)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Structure(HTMLParser):
    """Checks that tags are balanced; keeps elements, attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


@KINDS
def test_a_page_is_closed_and_complete(kind: str) -> None:
    """Whatever names hold: balanced tags, no foreign element, no address, every figure, the data.

    The page embeds the whole report or offers nothing to save; its policy forbids other scripts.
    """
    report = reports.KINDS[kind]()
    text, without = page(report), page(report, raw=False)
    structure = Structure(text)
    tags = [tag for tag, _ in structure.tags]
    assert tags.count("script") == 2
    assert not set(tags) & {"img", "link", "iframe", "object", "a", "base"}
    assert set(tags) & {"h1", "h2", "h3", "h4"} == {"h1", "h2"}, "a level of headings is left out"
    names = {name for _, attributes in structure.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in {"style", "src", "href"}}
    style = text.split("<style>")[1].split("</style>")[0]
    assert not re.search(r"@import|url\(|https?:", style)
    policy = next(a["content"] or "" for _, a in structure.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "<" not in structure.scripts[0]
    assert strict.from_plain(BenchmarkReport, json.loads(structure.scripts[0])) == report
    assert not Structure(without).scripts
    assert "<button" not in without
    plain = unescape(without)
    for table in tables(report, intervals=True):
        assert all(cell.text in plain for row in table.rows for cell in row)


def test_cases_without_figures_are_shown() -> None:
    """Failed cases have their reason; empty reports say so."""
    assert "no CUDA device was found" in page(reports.usual(), raw=False)
    assert "time was up" in page(reports.no_trials(), raw=False)
    assert "Nothing was measured" in page(reports.empty(), raw=False)
    assert "Not available" in page(reports.nothing_known(), raw=False)
    assert "quiet machine" not in page(reports.nothing_known(), raw=False)


def test_bundles_are_compared() -> None:
    """A page of several bundles says how they compare."""
    report = reports.usual()
    text = unescape(page(report, raw=False))
    assert speedups(report)
    assert all(line in text for line in speedups(report))
    assert "<h2>Comparison</h2>" not in page(reports.single_sample(), raw=False)


def test_a_percentile_within_the_interval_has_no_label() -> None:
    """The label of p99 would overlap the interval of the median."""
    result = reports.result()
    for low, high, labels in ((0.98, 1.02, 1), (0.5, 2.0, 0)):
        assert result.summary is not None
        p50, p99 = Estimate(4.0, 4.0 * low, 4.0 * high), Estimate(7.0, 6.9, 7.1)
        summary = replace(result.summary, p50_ms=p50, p99_ms=p99)
        drawn = distributions(reports.report(replace(result, summary=summary)), 1000)
        assert drawn.count(">p99</text>") == labels


def test_a_report_has_one_page() -> None:
    """Pages of one report are equal, byte for byte."""
    assert page(reports.usual()) == page(reports.usual())


def test_long_benchmarks_make_pages_that_can_be_sent() -> None:
    """The size is bounded: dots are thinned, and many raw samples are not embedded."""
    report = reports.large()
    text = page(report)
    assert "too large to be embedded" in text
    assert len(text) < 3_000_000
    assert "dots per trial are drawn" in text


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not Path(CHROMIUM).is_file():
        pytest.skip("needs Chromium, at /usr/bin/chromium or as CHROMIUM says")
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


SHOWN = """[...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect())
    .filter(box => box.width > 100 && box.height > 20).length"""
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [400, 1200])
@KINDS
def test_the_page_in_chromium(kind: str, width: int, tab: Browser, tmp_path: Path) -> None:
    """In Chromium each chart is shown, nothing overflows, and there is no error or request."""
    path = tmp_path / "report.html"
    path.write_text(page(reports.KINDS[kind]()), "utf-8")
    tab.window(width, 900)
    tab.open(path)
    charts = tab.evaluate('document.querySelectorAll("svg").length')
    assert tab.evaluate(SHOWN) == charts / 2
    assert not tab.evaluate(WIDER)
    assert not tab.evaluate("'alert' in globalThis && document.title.includes('alert')")
    assert tab.requests() == [path.as_uri()]
    assert tab.troubles() == []


def test_a_scrolled_table_keeps_its_labels(tab: Browser, tmp_path: Path) -> None:
    """On a phone, title and labels stay in view, and no label is broken before a unit."""
    path = tmp_path / "report.html"
    path.write_text(page(reports.usual()), "utf-8")
    tab.window(390, 844)
    tab.open(path)
    tab.evaluate('document.querySelectorAll(".scroll").forEach(e => { e.scrollLeft = 90; })')
    assert tab.evaluate('document.querySelector(".scroll").scrollLeft') == 90
    for selector in ("caption span", "thead th", "tbody th"):
        left = f'document.querySelector(".scroll {selector}").getBoundingClientRect().left'
        assert tab.evaluate(f'{left} - document.querySelector(".scroll").offsetLeft') == 0
    labels = tab.evaluate('[...document.querySelectorAll("tbody th")].map(e => e.textContent)')
    assert any("1\N{NO-BREAK SPACE}s" in label for label in labels)
    assert not any("1 s" in label for label in labels)


def test_saving_gives_the_report(tab: Browser, tmp_path: Path) -> None:
    """The button makes a file of the JSON that is in the page."""
    path = tmp_path / "report.html"
    report = reports.hostile()
    path.write_text(page(report), "utf-8")
    tab.open(path)
    tab.evaluate("URL.createObjectURL = blob => { globalThis.saved = blob; return '#'; }")
    tab.evaluate('document.getElementById("save").click()')
    text = tab.send(
        "Runtime.evaluate", expression="saved.text()", awaitPromise=True, returnByValue=True
    )["result"]["value"]
    assert strict.from_plain(BenchmarkReport, json.loads(text)) == report
