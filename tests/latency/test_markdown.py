"""Reports in Markdown: complete tables, all figures, and escaped text."""

from __future__ import annotations

import re

import pytest

from tests.latency import reports
from w2v_edge.latency.report.markdown import markdown
from w2v_edge.latency.report.tables import tables

KINDS = pytest.mark.parametrize("kind", reports.KINDS)


def plain(text: str) -> str:
    """Take the escapes away."""
    return re.sub(r"\\([^\w\s])", r"\1", text)


@KINDS
def test_rows_have_as_many_cells_as_their_head(kind: str) -> None:
    """No name adds a column or a row."""
    report = reports.KINDS[kind]()
    blocks = re.findall(r"(?m)(?:^\|.*\n)+", markdown(report))
    widths = [[len(re.findall(r"(?<!\\)\|", row)) for row in b.splitlines()] for b in blocks]
    assert all(len(set(each)) == 1 for each in widths)
    assert [len(each) - 2 for each in widths] == [len(table.rows) for table in tables(report)]


@KINDS
def test_every_figure_is_there(kind: str) -> None:
    """All cells of all tables, and how many samples they are made of."""
    report = reports.KINDS[kind]()
    text = plain(markdown(report))
    for table in tables(report):
        assert all(c.text in text for row in table.rows for c in row if "://" not in c.text)
    queries = sum(len(t.latencies_ms) for r in report.cases for t in r.trials)
    assert f"{queries} queries in" in text


def test_hostile_names_are_text() -> None:
    """Nothing is left that Markdown would make HTML, a link or a heading of."""
    lines = markdown(reports.hostile()).splitlines()
    # The command is code, in which a backtick alone could do harm.
    assert lines[2].count("`") == 2
    text = "\n".join([*lines[:2], *lines[3:]])
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "\x1b" not in text


def test_failures_and_conditions_are_shown() -> None:
    """Failures and measurement conditions are shown beside the figures."""
    text = plain(markdown(reports.usual()))
    for words in ("no CUDA device", "0.8 cores busy", "Cortex-A76", "onnxruntime 1.32.0"):
        assert words in text
    assert "time was up" in markdown(reports.no_trials())
    assert "Nothing was measured" in markdown(reports.empty())
