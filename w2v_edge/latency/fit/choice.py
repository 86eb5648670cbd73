"""Points of a fit, and the choice among them. Only measured points count: nothing is interpolated.

A budget is met where the whole interval of its figure is within the limit, and missed where the
whole interval is beyond it; in between it is unclear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from w2v_edge.latency.budget import Budget, Check, estimate_of
from w2v_edge.latency.report.records import BenchmarkReport, CaseResult, Estimate

FORMAT: Final = "w2v-edge-fit"
VERSION: Final = 1

Verdict = Literal["met", "unclear", "missed", "failed"]
WORST: tuple[Verdict, ...] = ("failed", "missed", "unclear", "met")

FAR = 1e9
"""Excess over a limit of zero, and of points without figures."""


@dataclass(frozen=True)
class FitCheck:
    """A budget and the case of a point that is worst for it.

    Attributes:
        budget: the budget as written.
        seconds: length of audio of the case.
        figure: its figure in the unit of the metric; null if it failed.
        verdict: `met`, `missed`, `unclear` where the limit is within the interval, or `failed`.
        excess: the figure over the limit, or the reverse where the limit is the least; above 1 the
            figure misses.
    """

    budget: str
    seconds: float
    figure: Estimate | None
    verdict: Verdict
    excess: float


@dataclass(frozen=True)
class FitPoint:
    """A bundle with its settings, as measured.

    Attributes:
        bundle: name of the bundle.
        precision: precision of its weights.
        layers: transformer layers that it kept.
        provider: execution provider.
        threads: threads.
        window: window of streams in seconds, as step, left and right; empty for the default.
        similarity: to the outputs of the reference; see `Fit.similarity`.
        reference: the bundle it was compared with: the most exact one of the same layers.
        latency: the latency of the picture, in ms; null if it failed.
        checks: the budgets.
        verdict: the worst one of the checks.
        pareto: whether no other point has as many layers, is as similar, and is faster.
        failure: reason why there are no figures; empty otherwise.
    """

    bundle: str
    precision: str
    layers: int
    provider: str
    threads: int
    window: tuple[float, ...]
    similarity: float
    reference: str
    latency: Estimate | None
    checks: tuple[FitCheck, ...]
    verdict: Verdict
    pareto: bool = False
    failure: str = ""

    @property
    def rank(self) -> tuple[int, float]:
        """Layers and similarity: more is better, layers first."""
        return self.layers, self.similarity

    @property
    def excess(self) -> float:
        """The largest excess over a budget."""
        return max((x.excess for x in self.checks), default=0.0)


@dataclass(frozen=True)
class Fit:
    """The points of a fit and the choice.

    Attributes:
        format: always `w2v-edge-fit`.
        version: version of the format; it changes when a key changes its meaning or goes away.
        budgets: the budgets as written.
        similarity: what the similarity of a point is.
        latency: what the latency of a point is, such as `p99 at 0.5 s`.
        limit_ms: limit of this latency, in ms; null without one.
        points: the points, the most layers and the greatest similarity first.
        choice: index of the chosen point; null if none surely meets all budgets.
        nearest: index of the point that exceeds its budgets least.
        remarks: doubts about the choice.
        report: the measurements.
    """

    format: Literal["w2v-edge-fit"]
    version: Literal[1]
    budgets: tuple[str, ...]
    similarity: str
    latency: str
    limit_ms: float | None
    points: tuple[FitPoint, ...]
    choice: int | None
    nearest: int | None
    remarks: tuple[str, ...]
    report: BenchmarkReport


def check(budget: Budget, results: Sequence[CaseResult]) -> FitCheck | None:
    """Check a budget on the cases of a point; None if it applies to none of them."""
    checks = [_check(budget, budget.check(x), x) for x in results if budget.applies_to(x.case)]
    return tightest(checks)


def _check(budget: Budget, checked: Check, result: CaseResult) -> FitCheck:
    figure = estimate_of(budget.metric, result)
    if figure is None:
        return FitCheck(budget.text, result.case.seconds, None, "failed", FAR)
    verdict: Verdict = ("met" if checked.met else "missed") if checked.sure else "unclear"
    high, low = (
        (figure.value, budget.limit)
        if budget.sign.startswith("<")
        else (budget.limit, figure.value)
    )
    excess = min(FAR, high / low) if low > 0 else (FAR if high > 0 else 1.0)
    return FitCheck(budget.text, result.case.seconds, figure, verdict, excess)


def tightest(checks: Sequence[FitCheck]) -> FitCheck | None:
    """Return the check with the worst verdict and, of several, the largest excess."""
    return min(checks, key=lambda x: (WORST.index(x.verdict), -x.excess), default=None)


def worst(checks: Sequence[FitCheck]) -> Verdict:
    """Return the verdict on a point."""
    found = tightest(checks)
    return "met" if found is None else found.verdict


def choose(points: Sequence[FitPoint]) -> int | None:
    """Return the point with the highest rank among those that meet all budgets.

    Of points of one rank, the one with the largest room within its budgets.
    """
    met = [i for i, point in enumerate(points) if point.verdict == "met"]
    return max(met, key=lambda i: (*points[i].rank, -points[i].excess), default=None)


def nearest(points: Sequence[FitPoint]) -> int | None:
    """Return the point with the best verdict and, of several, the least excess."""
    measured = [i for i, point in enumerate(points) if not point.failure]
    return max(
        measured,
        key=lambda i: (WORST.index(points[i].verdict), -points[i].excess, *points[i].rank),
        default=None,
    )


def wanted(points: Sequence[FitPoint]) -> list[int]:
    """Return the points that are unclear, and would be better than the choice if they met."""
    chosen = choose(points)
    least = None if chosen is None else points[chosen].rank
    return [
        i
        for i, point in enumerate(points)
        if point.verdict == "unclear" and (least is None or point.rank > least)
    ]


def on_front(point: FitPoint, points: Sequence[FitPoint]) -> bool:
    """Return whether no other point is better in one respect and not worse in the others."""
    if point.latency is None:
        return False
    mine = (point.layers, point.similarity, -point.latency.value)
    others = [(x.layers, x.similarity, -x.latency.value) for x in points if x.latency is not None]
    return not any(x != mine and all(a >= b for a, b in zip(x, mine, strict=True)) for x in others)
