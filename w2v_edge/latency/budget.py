"""Latency budgets such as `p99<50ms@1s`: limits on metrics of the selected cases."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from w2v_edge.errors import InputError
from w2v_edge.latency.report.records import (
    BenchmarkCase,
    BenchmarkReport,
    CaseResult,
    Estimate,
    Summary,
)

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "kb": 1e-3, "mb": 1.0, "gb": 1e3, "%": 0.01, "x": 1.0}
TIME, SIZE, SHARE, TIMES, PLAIN = ("us", "ms", "s"), ("kb", "mb", "gb"), ("%",), ("x",), ("",)

Figure = Estimate | float | None
"""A figure with or without an interval; None if it was not measured."""

METRICS: dict[str, tuple[str, Callable[[CaseResult, Summary], Figure], tuple[str, ...]]] = {
    "p50": ("ms", lambda _, s: s.p50_ms, TIME),
    "p90": ("ms", lambda _, s: s.p90_ms, TIME),
    "p95": ("ms", lambda _, s: s.p95_ms, TIME),
    "p99": ("ms", lambda _, s: s.p99_ms, TIME),
    "max": ("ms", lambda _, s: s.max_ms, TIME),
    "import": ("ms", lambda _, s: s.import_ms, TIME),
    "load": ("ms", lambda _, s: s.load_ms, TIME),
    "first": ("ms", lambda _, s: s.first_ms, TIME),
    "cold": ("ms", lambda _, s: _sum(s.start_ms, s.import_ms, s.load_ms, s.first_ms), TIME),
    "rss": ("MB", lambda _, s: s.peak_mb, SIZE),
    "read": ("MB", lambda _, s: s.read_mb, SIZE),
    "install": ("MB", lambda r, _: r.install_mb, SIZE),
    "rtf": ("", lambda _, s: s.real_time_factor, PLAIN),
    "speed": ("x", lambda _, s: s.speed, (*TIMES, *PLAIN)),
    "throughput": ("x", lambda _, s: s.throughput, (*TIMES, *PLAIN)),
    "energy": ("J", lambda _, s: s.energy_j, ("j", *PLAIN)),
    "power": ("W", lambda _, s: s.power_w, ("w", *PLAIN)),
    "missed": ("%", lambda _, s: s.miss_rate, (*SHARE, *PLAIN)),
    "behind": ("ms", lambda _, s: s.behind_ms, TIME),
}
"""Unit, figure of a case, and units of a limit, by the name of a metric."""
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
PATTERN = re.compile(
    r"\s*(?P<metric>[a-z0-9]+)\s*(?P<sign><=?|>=?)\s*(?P<number>\d+\.?\d*|\.\d+)\s*"
    r"(?P<unit>[a-zA-Z%]*)\s*(?P<where>(@.+)?)",
    re.ASCII,
)
SECONDS = re.compile(r"(\d+\.?\d*|\.\d+)s")


@dataclass(frozen=True)
class Budget:
    """A limit on a metric.

    Attributes:
        text: the budget as written.
        metric: one of `METRICS`.
        sign: `<`, `<=`, `>` or `>=`.
        limit: in the metric's unit.
        where: conditions on the case: `1s`, a graph, a provider, a bundle, a scenario,
            `threads=2` or `batch=4`.
    """

    text: str
    metric: str
    sign: str
    limit: float
    where: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Parse a budget.

        Raises:
            InputError: the text is not a valid budget.
        """
        found = PATTERN.fullmatch(text)
        example = "expected METRIC<LIMIT[@CASE], such as p99<50ms@1s or rss<200MB"
        if found is None:
            raise InputError(f"found budget {text!r:.60}, {example}")
        metric, unit = found["metric"], found["unit"].lower()
        if metric not in METRICS:
            raise InputError(
                f"found budget {text!r:.60} on {metric!r}; choose one of: {', '.join(METRICS)}"
            )
        allowed = METRICS[metric][2]
        if unit not in allowed:
            wanted = " or ".join(x or "no unit" for x in allowed)
            raise InputError(f"found budget {text!r:.60}, expected {metric} in {wanted}")
        where = tuple(x.strip() for x in re.split(r"[@,]", found["where"]) if x.strip())
        limit = float(found["number"]) * UNITS.get(unit, 1.0)
        return cls(text.strip(), metric, found["sign"], limit, where)

    def applies_to(self, case: BenchmarkCase) -> bool:
        """Return whether the budget applies to a case."""
        return all(_matches(case, word) for word in self.where)

    def check(self, result: CaseResult) -> Check:
        """Compare a case with the limit; a case without the figure misses it."""
        estimate = estimate_of(self.metric, result)
        if estimate is None:
            return Check(self, result.case, None, met=False)
        ends = (estimate.value, estimate.low, estimate.high)
        met, *others = (SIGNS[self.sign](end, self.limit) for end in ends)
        return Check(self, result.case, ends[0], met, sure=all(x == met for x in others))


@dataclass(frozen=True)
class Check:
    """A case checked against a budget.

    Attributes:
        budget: the limit.
        case: the case.
        figure: the measured figure; None if there is none.
        met: whether the figure is within the limit.
        sure: whether the whole interval of the figure is on the same side of the limit.
    """

    budget: Budget
    case: BenchmarkCase
    figure: float | None
    met: bool
    sure: bool = True

    @property
    def found(self) -> str:
        """The figure with its unit."""
        if self.figure is None:
            return "no figure"
        return written(self.budget.metric, self.figure)


def estimate_of(metric: str, result: CaseResult) -> Estimate | None:
    """Return a metric of a case; the ends of a figure without an interval are equal to it."""
    figure = METRICS[metric][1](result, result.summary) if result.summary else None
    return Estimate(*[figure] * 3) if isinstance(figure, float | int) else figure


def written(metric: str, figure: float) -> str:
    """Return the figure of a metric with its unit."""
    unit = METRICS[metric][0]
    return f"{figure * (100 if unit == '%' else 1):.4g} {unit}".strip()


def check_used(budgets: list[Budget], cases: list[BenchmarkCase]) -> None:
    """Check that each budget applies to a case: otherwise it would always be met.

    Raises:
        InputError: a budget applies to no case.
    """
    for budget in budgets:
        if not any(budget.applies_to(case) for case in cases):
            raise InputError(
                f"budget {budget.text!r}: none of the {len(cases)} cases matches "
                f"{'@'.join(('', *budget.where))!r}; add it with --seconds, --graph or the like"
            )


def check_budgets(report: BenchmarkReport, budgets: list[Budget]) -> list[Check]:
    """Check each budget against each case it applies to."""
    return [
        budget.check(result)
        for budget in budgets
        for result in report.cases
        if budget.applies_to(result.case)
    ]


def _sum(*parts: Estimate) -> Estimate:
    """Add figures; adding the ends of their intervals is conservative."""
    return Estimate(*(sum(getattr(x, end) for x in parts) for end in ("value", "low", "high")))


def _matches(case: BenchmarkCase, word: str) -> bool:
    seconds = SECONDS.fullmatch(word)
    if seconds and float(seconds[1]) == case.seconds:
        return True
    key, equals, value = word.partition("=")
    if equals:
        return str(getattr(case, key.strip(), None)) == value.strip()
    return word in {case.graph, case.bundle, case.provider, case.scenario}
