"""Two reports, case by case: how many times slower, how sure, and is that a regression?

A process is one observation, whatever it ran: its percentile is compared with those of the other
report's processes. A regression is a ratio beyond the threshold that is no chance, by a permutation
test over processes and by an interval that is widened for what neighbouring trials share. Of many
comparisons some would be beyond chance by chance: p is corrected for their number (Holm 1979).

Machines are a little faster or slower at another time. How fast each was is known of a fixed piece
of work around each trial: as far as it explains the trials of one report, what it says of two is
taken off (analysis of covariance). Disturbed trials are left out if enough others are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.latency.conditions import Conditions
from w2v_edge.latency.disturbances import quiet
from w2v_edge.latency.report import Case, CaseResult, Estimate, Report, Trial
from w2v_edge.latency.significance import Verdict, difference, judge
from w2v_edge.latency.statistics import percentile
from w2v_edge.latency.summary import PERCENTILES

ENOUGH = 5
"""Undisturbed trials that are taken alone."""

ENOUGH_TO_TELL = 8
"""Trials of both reports from which a slope is estimated."""

UNTIMED = ("rss", "missed", "behind")
"""Metrics that do not follow the machine's speed in proportion."""

STREAMING = ("missed", "behind")
"""Metrics of the scenario streaming alone."""

Value = Callable[[Trial], float | None]


def _latency(share: float) -> Value:
    return lambda trial: float(percentile(share)(np.array(trial.latencies_ms)))


METRICS: dict[str, Value] = {
    **{name: _latency(share) for name, share in PERCENTILES.items()},
    "import": lambda trial: trial.import_ms,
    "load": lambda trial: trial.load_ms,
    "first": lambda trial: trial.first_ms,
    "rss": lambda trial: trial.peak_mb,
    "cold": lambda trial: trial.start_ms + trial.import_ms + trial.load_ms + trial.first_ms,
    "throughput": lambda trial: trial.steady_s / trial.audio_s,
    "energy": lambda trial: None if trial.energy_j is None else trial.energy_j / trial.audio_s,
    # Of shares near 0 the ratio means nothing without half a block, and of waits without 1 ms.
    "missed": lambda trial: (trial.late + 0.5) / (len(trial.latencies_ms) + 1),
    "behind": lambda trial: trial.behind_ms + 1.0,
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
        machine: what of it the machine itself is the cause of, by its reference work.
        ratio: the rest of second by first: above 1 it became slower, or larger.
        p: chance that any comparison of so many shows as much, if nothing had changed.
        verdict: `same` and `unclear` are no cause for alarm, the latter is only not sure enough.
        unstable: whether disturbed trials had to be counted.
        failure: why the second has no figures.
    """

    case: Case
    metric: str
    before: float
    after: float
    machine: float
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
    # Another numpy may take another time for the reference.
    same_device = before.device.identity == after.device.identity and (
        before.device.packages.get("numpy") == after.device.packages.get("numpy")
    )
    pairs = [
        _pair(
            _Side(a, before.conditions, metric),
            _Side(b, after.conditions, metric),
            same_device=same_device,
        )
        for a, b in matched
        for metric in metrics
        if a.trials and not a.failure
    ]
    if all(pair.failure and pair.verdict != "failed" for pair in pairs):
        raise InputError("no case has figures in both reports; measure again")
    return Comparison(corrected(pairs, threshold), (*grave, *light), only_before, only_after)


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
    new = {bundle.sha256 for bundle in after.bundles}
    gone = [bundle for bundle in before.bundles if bundle.sha256 not in new]
    if others and gone:
        one = gone[0]
        grave.append(
            f"different bundles: {one.name} ({one.sha256[:12]}) and "
            f"{others[0].name} ({others[0].sha256[:12]})"
        )
    for what, a, b in (
        ("onnxruntime", before.device.onnxruntime, after.device.onnxruntime),
        ("Python", before.device.python, after.device.python),
        ("system", before.device.system, after.device.system),
        ("audio", before.audio.sha256[:12], after.audio.sha256[:12]),
        (
            "steady state",
            f"{before.settings.steady_s:g} s",
            f"{after.settings.steady_s:g} s",
        ),
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
        hashes = [x.sha256 for x in report.bundles]
        names = {
            # Copies of one bundle are told apart by their order.
            x.name: f"{x.sha256} {hashes[:i].count(x.sha256)}"
            if x.sha256 in shared
            else ("" if alone else x.name)
            for i, x in enumerate(report.bundles)
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


class _Side:
    """A case of one report: what its processes took, and what their machine did."""

    def __init__(self, result: CaseResult, conditions: Conditions, metric: str) -> None:
        self.result = result
        self.metric = metric
        calm = quiet(result.trials, conditions)
        self.unstable = len(calm) < min(ENOUGH, len(result.trials))
        there = metric not in STREAMING or result.case.scenario == "streaming"
        trials = [
            trial
            for trial in (result.trials if self.unstable else calm)
            if there and (METRICS[metric](trial) or 0) > 0
        ]
        self.values = np.log([METRICS[metric](trial) or 1.0 for trial in trials])
        speeds = [np.mean(trial.reference_ms or (0.0,)) for trial in trials]
        self.reference = np.log(speeds) if all(x > 0 for x in speeds) else np.zeros(len(trials))


def _pair(before: _Side, after: _Side, *, same_device: bool) -> Pair:
    """Compare a case, as if it were the only one."""
    case, metric = before.result.case, before.metric
    disturbed = before.unstable or after.unstable
    if after.result.failure or not len(after.values) or not len(before.values):
        nothing = Estimate(0.0, 0.0, 0.0)
        why = after.result.failure or f"no figure for {metric}"
        lost = len(before.values) and not len(after.values)
        verdict: Verdict = "failed" if after.result.failure or lost else "unclear"
        return Pair(case, metric, 0.0, 0.0, 1.0, nothing, 1.0, verdict, disturbed, why)
    known = before.reference.any() and after.reference.any()
    timed = same_device and known and metric not in UNTIMED
    slope = common_slope(before, after) if timed else 0.0
    machine = slope * float(after.reference.mean() - before.reference.mean())
    old, new = (side.values - slope * side.reference for side in (before, after))
    doubt = slope_doubt(before, after, slope) if slope else 0.0
    ratio, p = difference(old, new, doubt)
    first, second = (float(np.exp(side.values.mean())) for side in (before, after))
    return Pair(case, metric, first, second, math.exp(machine), ratio, p, "unclear", disturbed)


def corrected(pairs: Sequence[Pair], threshold: float) -> tuple[Pair, ...]:
    """Correct each p for the number of comparisons, and judge by it.

    Args:
        pairs: each with the p of a single comparison.
        threshold: share by which a figure may grow.
    """
    compared = sorted((i for i, x in enumerate(pairs) if not x.failure), key=lambda i: pairs[i].p)
    judged, least = list(pairs), 0.0
    for rank, i in enumerate(compared):
        least = max(least, min(1.0, (len(compared) - rank) * pairs[i].p))
        verdict = judge(pairs[i].ratio.value, least, threshold)
        judged[i] = replace(pairs[i], p=least, verdict=verdict)
    return tuple(judged)


def common_slope(before: _Side, after: _Side) -> float:
    """Return by how much figures follow the machine's speed, trial by trial within each report.

    From 0, not at all, to 1, in proportion; 0 where there are too few trials to tell.
    """
    x, y = _within(before, after)
    if len(x) < ENOUGH_TO_TELL or not (x**2).sum():
        return 0.0
    return float(np.clip((x * y).sum() / (x**2).sum(), 0.0, 1.0))


def slope_doubt(before: _Side, after: _Side, slope: float) -> float:
    """Return the standard error that comes of not knowing the slope for sure."""
    x, y = _within(before, after)
    residual = float(((y - slope * x) ** 2).sum()) / max(1, len(x) - 3)
    apart = float(after.reference.mean() - before.reference.mean())
    return math.sqrt(residual / float((x**2).sum())) * abs(apart)


def _within(before: _Side, after: _Side) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how reference and figures differ from their means of the same report."""
    sides = (before, after)
    return (
        np.concatenate([side.reference - side.reference.mean() for side in sides]),
        np.concatenate([side.values - side.values.mean() for side in sides]),
    )
