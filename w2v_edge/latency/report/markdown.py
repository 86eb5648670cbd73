"""A report as Markdown, for pasting into an issue."""

from __future__ import annotations

import re
from collections.abc import Iterable

from w2v_edge.latency.report import wording
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.latency.report.tables import Table, all_latencies, tables

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&@!$])")


def markdown(report: BenchmarkReport) -> str:
    """Return a report as GitHub-flavoured Markdown, ending with a newline."""
    queries = sum(len(all_latencies(result)) for result in report.cases)
    trials = sum(len(result.trials) for result in report.cases)
    parts = [f"### w2v-edge bench, {_escape(report.created)}", f"`{_code(report.command)}`"]
    if not report.cases:
        parts.append("Nothing was measured: the report has no cases.")
    elif same := wording.shared(report):
        parts.append(f"All cases: {_escape(same)}.")
    parts += [table_markdown(table) for table in tables(report)]
    parts += _list("Failed", (f"{label}: {why}" for label, why in wording.failures(report)))
    parts += _list("Unstable (~)", (f"{label}: {why}" for label, why in wording.unstable(report)))
    parts += _list("Comparison", wording.speedups(report))
    parts += _list("Conditions", wording.conditions(report))
    parts += _list("Device", (*wording.device(report), f"identity {report.device.identity}"))
    speech = (
        f"{wording.count(report.audio.recordings, 'recording')}, {report.audio.seconds:.1f} s, "
        f"of {report.audio.source} (sha256 {report.audio.sha256[:12]})"
    )
    made_from = f"{queries} queries in {wording.count(trials, 'trial')}"
    parts += _list("Speech and samples", (speech, made_from))
    parts.append(" ".join(map(_escape, wording.FACTS)))
    return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown."""
    lines = [
        _row(_escape(column.name) for column in table.columns),
        _row("---:" if column.right else ":---" for column in table.columns),
    ]
    lines += [
        _row(f"**{_escape(c.text)}**" if c.strong else _escape(c.text) for c in row)
        for row in table.rows
    ]
    return f"**{_escape(table.title)}**\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _list(title: str, lines: Iterable[str]) -> list[str]:
    items = [f"- {_escape(line)}" for line in lines]
    return [f"**{title}**\n\n" + "\n".join(items)] if items else []


def _escape(text: str) -> str:
    """Escape Markdown; links in names stay text."""
    return SPECIAL.sub(r"\\\1", wording.clean(text)).replace("://", ":\\//")


def _code(text: str) -> str:
    """Replace backticks, which cannot be escaped in a code span."""
    return wording.clean(text).replace("`", "'")
