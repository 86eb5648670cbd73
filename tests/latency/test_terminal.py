"""Reports on a terminal are complete at any width, and text is not taken for markup."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from tests.latency import reports
from w2v_edge.latency.report.main_tables import main_tables
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.latency.report.tables import tables
from w2v_edge.latency.report.terminal import print_report
from w2v_edge.latency.report.wording import failures, speedups, unstable


def printed(
    report: BenchmarkReport, width: int = 80, encoding: str = "utf-8", *, details: bool = True
) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, markup=False, highlight=False)
    print_report(report, console, details=details)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_every_figure_is_whole_at_any_width() -> None:
    """No line exceeds the terminal's width, and each figure is on one line."""
    for make in reports.KINDS.values():
        for width in (60, 200):
            report = make()
            text = printed(report, width)
            lines = text.splitlines()
            assert max(map(len, lines)) <= width
            for table in tables(report):
                for index, column in enumerate(table.columns):
                    if column.right:
                        assert all(
                            any(row[index].text in line for line in lines) for row in table.rows
                        )


def test_without_details_the_main_figures_are_whole() -> None:
    """Latency, start and memory are whole at 80 columns; the comparison is last."""
    for make in reports.KINDS.values():
        report = make()
        text = printed(report, details=False)
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        for table in main_tables(report):
            figures = [i for i, column in enumerate(table.columns) if column.right]
            cells = (row[i].text for row in table.rows for i in figures)
            assert all(any(cell in line for line in lines) for cell in cells)
    text = printed(reports.usual(), details=False)
    assert "Storage" not in text
    assert "Cortex-A76" not in text
    short = reports.report(*(reports.result(dataclasses.replace(reports.CASE, graph=x))
                             for x in ("encoder", "tokenizer")))  # fmt: skip
    assert "continued" not in printed(short, details=False)
    assert len(text.splitlines()) < len(printed(reports.usual()).splitlines()) / 2
    closing = text[text.index("Comparison") :]
    assert all(line in " ".join(closing.split()) for line in speedups(reports.usual()))


def test_numbers_stay_with_their_units() -> None:
    """A label that is too long for 80 columns breaks between its parts, not before a unit."""
    for length in range(8, 24):
        cases = [
            dataclasses.replace(reports.CASE, bundle=name + "x" * length, seconds=x, threads=n)
            for name in "ab"
            for x in (1.0, 10.0)
            for n in (1, 2)
        ]
        text = printed(reports.report(*map(reports.result, cases)), details=False)
        begins = [line.split()[0] for line in text.splitlines() if line.strip()]
        assert not {"s", "s,", "thread", "threads"} & set(begins)


def test_a_disturbance_of_all_cases_is_said_once() -> None:
    """One line for all cases, and not one for each."""
    why = ("at 1 to 3 s other processes kept 1.0 of 2 cores busy",)
    results = (reports.change(x, unstable=why) for x in reports.usual().cases if x.trials)
    report = reports.report(*results)
    for details in (True, False):
        text = printed(report, details=details)
        assert text.count("kept 1.0 of 2 cores") == 1
        assert text.lower().count("unstable") == 1
    assert f"all {len(report.cases)} cases: {why[0]}" in printed(report)


def test_text_is_not_markup_and_steers_nothing() -> None:
    """Brackets are shown, and control characters are written as Python does."""
    text = printed(reports.hostile(), 400)
    assert "[bold]x[/bold]" in text
    assert "\\x1b[31m" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_what_failed_and_what_was_disturbed_is_said() -> None:
    """Each failure and each disturbance has its reason; unstable cases are marked."""
    report = reports.usual()
    text = printed(report, 300)
    for label, why in (*failures(report), *unstable(report)):
        assert f"{label}: {why}" in text
    assert "~ tiny-fp32 1 s" in text


def test_cases_without_a_trial_are_shown() -> None:
    """Cases without trials are shown; an empty report says so."""
    assert "time was up" in printed(reports.no_trials())
    assert "no figures" in printed(reports.no_trials())
    assert "Nothing was measured" in printed(reports.empty())


def test_what_the_system_does_not_say_is_said_to_be_missing() -> None:
    """Memory and energy that were not measured are not zero."""
    text = printed(reports.nothing_known(), 200)
    assert text.count("not available") >= 3
    assert "Stable" not in text
    assert "Unknown whether" in text
    assert "Python" not in text


def test_ascii_terminals_get_ascii() -> None:
    """A terminal that cannot show block elements gets other ones, and no error."""
    assert printed(reports.usual(), encoding="ascii").isascii()
