"""Two reports, case by case: how many times slower, how sure, and is that a regression?

A process is one observation, whatever it ran: its percentile is compared with those of the other
report's processes. A regression is a ratio beyond the threshold that is no chance, by a permutation
test over processes and by an interval that is widened for what neighbouring trials share.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.latency.report import Case, CaseResult, Estimate, Report, Trial
from w2v_edge.latency.statistics import NORMAL, percentile, student, widening
from w2v_edge.latency.summary import PERCENTILES

SIGNIFICANT = 0.05
EXACT = 20_000
"""Permutations that are all gone through; of more, so many are drawn."""

Verdict = Literal["same", "slower", "faster", "unclear", "failed"]
Value = Callable[[Trial], float | None]


def _latency(share: float) -> Value:
    return lambda trial: float(percentile(share)(np.array(trial.latencies_ms)))


METRICS: dict[str, Value] = {
    **{name: _latency(share) for name, share in PERCENTILES.items()},
    "import": lambda trial: trial.import_ms,
    "load": lambda trial: trial.load_ms,
    "first": lambda trial: trial.first_ms,
    "rss": lambda trial: trial.peak_mb,
    "throughput": lambda trial: trial.steady_s / trial.audio_s,
}
"""Of a trial, less being better: `throughput` is compared as time for a second of audio."""


@dataclass(frozen=True)
class Pair:
    """A case in two reports.

    Attributes:
        case: as the first report has it.
        metric: what is compared.
        before: the first report's figure, a geometric mean over its processes.
        after: the second's.
        ratio: second by first: above 1 it became slower, or larger.
        p: chance of such a ratio, or one further from 1, if nothing had changed.
        verdict: `same` and `unclear` are no cause for alarm, the latter is only not sure enough.
        unstable: whether something disturbed either.
        failure: why the second has no figures.
    """

    case: Case
    metric: str
    before: float
    after: float
    ratio: Estimate
    p: float
    verdict: Verdict
    unstable: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Comparison:
    """What became of the cases that two reports share.

    Attributes:
        pairs: in the first report's order.
        differences: what makes the reports hard to compare, in words; empty for the same device,
            bundles, audio and versions.
        only_before: cases that the second report lacks.
        only_after: cases that the first one lacks.
    """

    pairs: tuple[Pair, ...]
    differences: tuple[str, ...]
    only_before: tuple[Case, ...]
    only_after: tuple[Case, ...]

    @property
    def regressions(self) -> tuple[Pair, ...]:
        """Cases that became slower, or fail now."""
        return tuple(pair for pair in self.pairs if pair.verdict in {"slower", "failed"})


def compare(
    before: Report,
    after: Report,
    *,
    metrics: Sequence[str] = ("p50",),
    threshold: float = 0.05,
    force: bool = False,
) -> Comparison:
    """Compare the cases that two reports share.

    Args:
        before: the baseline.
        after: what is judged.
        metrics: of `METRICS`.
        threshold: share by which a figure may grow.
        force: compare whatever they were measured on.

    Raises:
        InputError: the devices or the bundles differ, or no case is in both.
    """
    grave, light = differences(before, after)
    if grave and not force:
        raise InputError(
            f"{grave[0]}; a ratio would tell nothing of a change: measure on one device with one "
            "bundle, or add --force"
        )
    matched, only_before, only_after = match(before, after)
    if not matched:
        raise InputError("the reports share no case; measure the same lengths, graphs and threads")
    pairs = [_pair(a, b, metric, threshold) for a, b in matched for metric in metrics if a.summary]
    return Comparison(tuple(pairs), (*grave, *light), only_before, only_after)


def differences(before: Report, after: Report) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return in words what forbids a comparison, and what only has to be known."""
    grave, light = [], []
    if before.device.identity != after.device.identity:
        grave.append(
            f"different devices: {before.device.cpu.model}, {before.device.cpu.usable_cores} cores "
            f"({before.device.identity}), and {after.device.cpu.model}, "
            f"{after.device.cpu.usable_cores} cores ({after.device.identity})"
        )
    known = {bundle.sha256 for bundle in before.bundles}
    others = [bundle for bundle in after.bundles if bundle.sha256 not in known]
    if others and not known & {bundle.sha256 for bundle in after.bundles}:
        one = before.bundles[0]
        grave.append(
            f"different bundles: {one.name} ({one.sha256[:12]}) and "
            f"{others[0].name} ({others[0].sha256[:12]})"
        )
    for what, a, b in (
        ("onnxruntime", before.device.onnxruntime, after.device.onnxruntime),
        ("Python", before.device.python, after.device.python),
        ("system", before.device.system, after.device.system),
        ("audio", before.audio.sha256[:12], after.audio.sha256[:12]),
        *(
            (name, version, after.device.packages.get(name, "none"))
            for name, version in before.device.packages.items()
        ),
    ):
        if a != b:
            light.append(f"{what}: {a}, then {b}")
    return tuple(grave), tuple(dict.fromkeys(light))


def match(
    before: Report, after: Report
) -> tuple[list[tuple[CaseResult, CaseResult]], tuple[Case, ...], tuple[Case, ...]]:
    """Return the cases that are in both, and those in one only.

    A bundle is known by its hash; bundles that are in one report only are matched by name, and
    two that are alone by being so.
    """
    shared = {x.sha256 for x in before.bundles} & {x.sha256 for x in after.bundles}
    alone = len(before.bundles) == len(after.bundles) == 1

    def keys(report: Report) -> dict[str, CaseResult]:
        names = {
            x.name: x.sha256 if x.sha256 in shared else "" if alone else x.name
            for x in report.bundles
        }
        return {
            repr(replace(x.case, bundle=names.get(x.case.bundle, x.case.bundle))): x
            for x in report.cases
        }

    old, new = keys(before), keys(after)
    both = [(old[key], new[key]) for key in old if key in new]
    return (
        both,
        tuple(old[key].case for key in old if key not in new),
        tuple(new[key].case for key in new if key not in old),
    )


def _pair(before: CaseResult, after: CaseResult, metric: str, threshold: float) -> Pair:
    disturbed = bool(before.unstable or after.unstable)
    old, new = (_logs(result.trials, metric) for result in (before, after))
    if after.failure or not len(new) or not len(old):
        nothing = Estimate(math.nan, math.nan, math.nan)
        why = after.failure or f"no figure for {metric}"
        verdict: Verdict = "failed" if after.failure else "unclear"
        return Pair(before.case, metric, 0.0, 0.0, nothing, 1.0, verdict, disturbed, why)
    ratio, p = ratio_of(old, new), permutation_p(old, new)
    verdict = judge(ratio, p, threshold)
    figures = (float(np.exp(x.mean())) for x in (old, new))
    return Pair(before.case, metric, *figures, ratio, p, verdict, disturbed)


def judge(ratio: Estimate, p: float, threshold: float) -> Verdict:
    """Say what a ratio means."""
    beyond = ratio.value > 1 + threshold or ratio.value < 1 / (1 + threshold)
    sure = p < SIGNIFICANT and not ratio.low <= 1 <= ratio.high
    if beyond and sure:
        return "slower" if ratio.value > 1 else "faster"
    return "unclear" if beyond else "same"


def ratio_of(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> Estimate:
    """Return the ratio of two groups of processes with its 95 % interval.

    Args:
        before: logarithms of the first group's figures, (processes,).
        after: of the second's.
    """
    shift = float(after.mean() - before.mean())
    freedom = len(before) + len(after) - 2
    if freedom < 1:
        return Estimate(math.exp(shift), 0.0, math.inf)
    squares = sum(float(((x - x.mean()) ** 2).sum()) for x in (before, after))
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    # What neighbouring processes share, as in the intervals of a report.
    many = 10**6
    half = error * student(freedom) * widening(many) / NORMAL
    return Estimate(math.exp(shift), math.exp(shift - half), math.exp(shift + half))


def permutation_p(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> float:
    """Return the two-sided p of a permutation test for the difference of means.

    Args:
        before: (processes,).
        after: (processes,).
    """
    values = np.concatenate([before, after])
    values = values - values.mean()
    size = len(before)
    found = abs(float(values[:size].sum()))
    ways = math.comb(len(values), size)
    if ways <= EXACT:
        chosen = np.array(list(itertools.combinations(range(len(values)), size)))
        sums = values[chosen].sum(axis=1)
        return float(np.mean(np.abs(sums) >= found - 1e-12))
    random = np.random.default_rng(0)
    sums = random.permuted(np.tile(values, (EXACT, 1)), axis=1)[:, :size].sum(axis=1)
    # The arrangement that was found is one of them.
    return float((1 + np.sum(np.abs(sums) >= found - 1e-12)) / (1 + EXACT))


def _logs(trials: Sequence[Trial], metric: str) -> npt.NDArray[np.float64]:
    values = [METRICS[metric](trial) for trial in trials]
    known = [x for x in values if x is not None and x > 0]
    return np.log(np.array(known)) if known else np.zeros(0)
