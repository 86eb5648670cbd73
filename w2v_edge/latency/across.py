"""Several reports in one table, for instance of several devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from w2v_edge.latency.report import Case, Estimate, Report
from w2v_edge.latency.summary import summarise
from w2v_edge.latency.wording import interval


@dataclass(frozen=True)
class Row:
    """A case over all reports; None where one has no figure.

    Attributes:
        case: what was measured.
        p50_ms: of each report.
    """

    case: Case
    p50_ms: tuple[Estimate | None, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures in words, with ratios to the first."""
        first = self.p50_ms[0]
        return tuple(
            "" if x is None else interval(x, "ms") + (_ratio(x, first) if i and first else "")
            for i, x in enumerate(self.p50_ms)
        )


def across(reports: Sequence[Report]) -> list[Row]:
    """Return a row for each case of any report; bundles are known by their names.

    Threads do not tell cases apart where each report has one count: cores are the device's.
    """
    single = all(len({x.case.threads for x in report.cases}) <= 1 for report in reports)

    def key(case: Case) -> str:
        return repr(replace(case, threads=0) if single else case)

    cases: dict[str, Case] = {}
    columns: list[dict[str, Estimate]] = []
    for report in reports:
        cases |= {k: x.case for x in report.cases if (k := key(x.case)) not in cases}
        columns.append(
            {
                key(x.case): summarise(x.case, x.trials, seed=report.settings.seed).p50_ms
                for x in report.cases
                if x.summary
            }
        )
    return [Row(case, tuple(column.get(k) for column in columns)) for k, case in cases.items()]


def _ratio(x: Estimate, first: Estimate) -> str:
    return f" ({x.value / first.value:.2f}x)"
