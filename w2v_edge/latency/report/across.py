"""Cases of several reports side by side, such as those of several devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from w2v_edge.latency.report.records import BenchmarkCase, BenchmarkReport, Estimate
from w2v_edge.latency.report.wording import interval
from w2v_edge.latency.statistics import summarise


@dataclass(frozen=True)
class CaseAcrossReports:
    """A case in several reports.

    Attributes:
        case: the case.
        p50_ms: median latency in each report; None if a report lacks it.
    """

    case: BenchmarkCase
    p50_ms: tuple[Estimate | None, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """The formatted figures, with ratios to the first report."""
        first = self.p50_ms[0]
        return tuple(
            ""
            if x is None
            else interval(x, "ms") + (f" ({x.value / first.value:.2f}x)" if i and first else "")
            for i, x in enumerate(self.p50_ms)
        )


def across(reports: Sequence[BenchmarkReport]) -> list[CaseAcrossReports]:
    """Return a row for each case of any report, for instance of several devices.

    Bundles are matched by name. If each report has one number of threads, threads are ignored.
    """
    single = all(len({x.case.threads for x in report.cases}) <= 1 for report in reports)

    def key(case: BenchmarkCase) -> str:
        return repr(replace(case, threads=0) if single else case)

    cases: dict[str, BenchmarkCase] = {}
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
    return [
        CaseAcrossReports(case, tuple(column.get(k) for column in columns))
        for k, case in cases.items()
    ]
