"""The comparison of two reports as tables with notes, for terminals and Markdown."""

from __future__ import annotations

from w2v_edge.latency.budget import METRICS
from w2v_edge.latency.compare_reports import CaseComparison, ReportComparison
from w2v_edge.latency.report.records import BenchmarkCase
from w2v_edge.latency.report.tables import UNSTABLE, Cell, Column, Table
from w2v_edge.latency.report.wording import clean, figure, interval, labels_of

OWN_UNITS = {"throughput": "s", "missed": "", "behind": ""}
"""Units of metrics that are compared in another unit than they are reported in."""

COLUMNS = (
    Column("case", right=False),
    *map(Column, ("before", "after", "after / before")),
    Column("verdict", right=False),
    *map(Column, ("machine", "p")),
)


def comparison_tables(found: ReportComparison, threshold: float) -> tuple[Table, ...]:
    """Return a table for each metric, with a row for each case.

    Args:
        found: the comparison.
        threshold: accepted relative increase of a figure, for the titles.
    """
    names = labels_of([pair.case for pair in found.pairs])
    rows: dict[str, list[tuple[Cell, ...]]] = {}
    for name, pair in zip(names, found.pairs, strict=True):
        rows.setdefault(pair.metric, []).append(_cells(name, pair))
    return tuple(
        Table(f"{metric}, threshold {100 * threshold:.3g} %", COLUMNS, tuple(cells))
        for metric, cells in rows.items()
    )


def _cells(name: str, pair: CaseComparison) -> tuple[Cell, ...]:
    label = Cell((UNSTABLE if pair.unstable else "") + name)
    if pair.failure:
        nothing = Cell("")
        why = Cell(clean(f"{pair.verdict}: {pair.failure}"), strong=True)
        return label, nothing, nothing, nothing, why, nothing, nothing
    unit = OWN_UNITS.get(pair.metric, METRICS[pair.metric][0])
    return (
        label,
        Cell(figure(pair.before, unit)),
        Cell(figure(pair.after, unit)),
        Cell(interval(pair.ratio)),
        Cell(pair.verdict, strong=pair.verdict != "same"),
        Cell(f"{pair.machine:.3f}"),
        Cell(f"{pair.p:.2g}"),
    )


def comparison_notes(found: ReportComparison) -> list[str]:
    """Return how to read the tables, and remarks on differences between the reports."""
    notes = [
        "before, after: geometric means over undisturbed processes; reports pool their queries"
    ]
    notes += [f"note: {difference}" for difference in found.differences]
    for which, cases in (("first", found.only_before), ("second", found.only_after)):
        if cases:
            such = full_label(cases[0])
            notes.append(f"only in the {which} report: {len(cases)} cases, such as {such}")
    if any(pair.unstable for pair in found.pairs):
        notes.append(
            f"{UNSTABLE}too few undisturbed processes, so that all count; the reports show what "
            "disturbed them"
        )
    return [clean(note) for note in notes]


def full_label(case: BenchmarkCase) -> str:
    """Return the full name of a case."""
    return labels_of([case], everything=True)[0]
