"""A report on a terminal: tables that are too wide continue below."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from w2v_edge.latency.report import wording
from w2v_edge.latency.report.main_tables import main_tables
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.latency.report.tables import BARS, UNSTABLE, Cell, Table, tables

ASCII = str.maketrans(
    {"µ": "u", wording.TIMES: "x", "°": " ", **dict(zip(BARS, ".:-=+*%@", strict=True))}
)
LABEL_SHARE = 0.28
"""Fraction of the width for the labels of rows."""

TEXT_SHARE = 0.5
"""Fraction of the width for a column of text that is no label."""

MAX_DOUBTS = 4
"""Disturbances that are printed without details."""


def print_report(report: BenchmarkReport, console: Console, *, details: bool = True) -> None:
    """Print a report; at 80 columns no figure is truncated or wrapped.

    Args:
        report: the report.
        console: destination; ASCII replaces block elements that it cannot show.
        details: print everything; else latency, start, memory, comparison of bundles and doubts.
    """
    if not report.cases:
        _line(console, "Nothing was measured: the report has no cases.", "bold")
    elif same := wording.shared(report):
        _line(console, f"All cases: {same}", "bold")
    for table in tables(report) if details else main_tables(report):
        show_table(console, table)
    _pairs(console, "Failed", wording.failures(report), "red")
    doubts = wording.unstable(report)
    shown = doubts if details else doubts[:MAX_DOUBTS]
    if left_out := len(doubts) - len(shown):
        shown += ((f"{left_out} more", "--details has all"),)
    _pairs(console, "Unstable (~)", shown, "yellow")
    if details:
        _lines(console, "Conditions", wording.conditions(report))
        _lines(console, "Device", (*wording.device(report), f"identity {report.device.identity}"))
        _lines(console, "How to read this", wording.FACTS)
    else:
        _lines(console, "Notes", _notes(report))
    _lines(console, "Comparison", wording.speedups(report))


def _notes(report: BenchmarkReport) -> tuple[str, ...]:
    """Return the notes of a report without details."""
    sizes = (f"{x.name} {wording.figure(x.size_mb, 'MB')}" for x in report.bundles)
    quiet, *others = wording.verdict(report)
    return (
        # The list of unstable cases has said it.
        *(() if wording.unstable(report) else (quiet,)),
        *others,
        f"Size of bundles: {', '.join(sizes)}.",
        wording.FACTS[0],
        "--details shows storage, operators, conditions and the device; --report FILE keeps all.",
    )


def show_table(console: Console, table: Table) -> None:
    """Print a table; columns that do not fit continue below, with the labels of the rows."""
    title = table.title
    for columns in _parts(console, table):
        console.print(_rich(console, table, columns, title))
        title = f"{table.title}, continued"


def _parts(console: Console, table: Table) -> Iterator[list[int]]:
    """Yield the columns of each part that fits; each part begins with the labels of the rows."""
    names = 2 if _needs_two(table) else 1
    part = list(range(names))
    for index in range(names, len(table.columns)):
        wider = _rich(console, table, [*part, index], "")
        width = Measurement.get(console, console.options.update(width=10_000), wider).maximum
        if len(part) > names and width > console.width:
            yield part
            part = list(range(names))
        part.append(index)
    yield part


def _needs_two(table: Table) -> bool:
    """Return whether the first column is not enough to distinguish the rows."""
    first = [row[0].text for row in table.rows]
    return len(set(first)) < len(first) and len(table.columns) > 1


def _rich(console: Console, table: Table, columns: list[int], title: str) -> RichTable:
    made = RichTable(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for index in columns:
        column = table.columns[index]
        longest = max((len(row[index].text) for row in table.rows), default=0)
        names = 1 + _needs_two(table)
        share = LABEL_SHARE / names if index < names else TEXT_SHARE
        most = max(8, int(console.width * share))
        # Labels may wrap; figures may not.
        folds = not column.right and column.name != "distribution"
        made.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not folds,
            min_width=min(longest, most) if folds else None,
            max_width=most if folds else None,
        )
    for row in table.rows:
        cells = zip(made.columns, (row[index] for index in columns), strict=True)
        made.add_row(*(_text(console, cell, column.max_width) for column, cell in cells))
    return made


def _text(console: Console, cell: Cell, width: int | None) -> Text:
    shown = _shown(console, cell.text)
    if width is not None:
        # rich would break at these spaces too.
        lines = wrap(wording.keep_units(shown), width, break_on_hyphens=False) or [""]
        shown = "\n".join(lines).replace(wording.NO_BREAK, " ")
    # Text, not a string: rich would interpret brackets in names as markup.
    text = Text(shown, "bold" if cell.strong else "")
    if cell.text.startswith(UNSTABLE):
        text.stylize("yellow", 0, 1)
    return text


def _pairs(console: Console, title: str, pairs: tuple[tuple[str, str], ...], style: str) -> None:
    if pairs:
        _line(console, title, f"bold {style}")
        for label, why in pairs:
            _line(console, f"  {label}: {why}")
        console.print()


def _lines(console: Console, title: str, lines: tuple[str, ...]) -> None:
    if lines:
        _line(console, title, "bold")
        for line in lines:
            _line(console, f"  {line}")
        console.print()


def _line(console: Console, text: str, style: str = "") -> None:
    """Print a line; what does not fit continues below, indented further."""
    begin = len(text) - len(text.lstrip())
    shown = Text(_shown(console, wording.clean(text.lstrip())), style, overflow="fold")
    first, *rest = shown.wrap(console, max(20, console.width - begin - 2)) or [Text()]
    console.print(Text(" " * begin) + first)
    for more in rest:
        console.print(Text(" " * (begin + 2)) + more)


def _shown(console: Console, text: str) -> str:
    if not console.options.ascii_only:
        return text
    return text.translate(ASCII).encode("ascii", "backslashreplace").decode()
