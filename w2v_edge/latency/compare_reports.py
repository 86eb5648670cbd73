"""Comparison of reports, case by case: ratio, interval, p-value, verdict.

A process is one observation: its percentile is compared with those of the other report's processes.
A regression is a ratio beyond the threshold that is significant, by a permutation test over
processes and by an interval widened for the correlation of neighbouring trials. P-values are
corrected for the number of comparisons (Holm 1979).

The speed of a machine varies over time. A fixed reference around each trial measures it: as far as
the reference explains the variation within the reports, its difference between the reports is
removed (analysis of covariance). Disturbed trials are left out if enough others remain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.latency.device.disturbances import undisturbed
from w2v_edge.latency.report.machine_records import Conditions, Device
from w2v_edge.latency.report.records import (
    BenchmarkCase,
    BenchmarkReport,
    CaseResult,
    Estimate,
    Trial,
)
from w2v_edge.latency.statistics import (
    PERCENTILES,
    SIGNIFICANCE,
    difference,
    percentile,
)

MIN_UNDISTURBED = 5
"""Number of undisturbed trials that makes disturbed ones unnecessary."""

MIN_FOR_SLOPE = 8
"""Number of trials of both reports required to estimate a slope."""

UNTIMED = ("rss", "missed", "behind")
"""Metrics that are not proportional to the machine's speed."""

STREAMING = ("missed", "behind")
"""Metrics of the scenario streaming only."""

Verdict = Literal["same", "slower", "faster", "unclear", "failed"]

MetricValue = Callable[[Trial], float | None]


def _latency(share: float) -> MetricValue:
    return lambda trial: float(percentile(share)(np.array(trial.latencies_ms)))


METRICS: dict[str, MetricValue] = {
    **{name: _latency(share) for name, share in PERCENTILES.items()},
    "import": lambda trial: trial.import_ms,
    "load": lambda trial: trial.load_ms,
    "first": lambda trial: trial.first_ms,
    "rss": lambda trial: trial.peak_mb,
    "cold": lambda trial: trial.start_ms + trial.import_ms + trial.load_ms + trial.first_ms,
    "throughput": lambda trial: trial.steady_s / trial.audio_s,
    "energy": lambda trial: None if trial.energy_j is None else trial.energy_j / trial.audio_s,
    # Offsets of half a block and of 1 ms: ratios of values near 0 are meaningless.
    "missed": lambda trial: (trial.late + 0.5) / (len(trial.latencies_ms) + 1),
    "behind": lambda trial: trial.behind_ms + 1.0,
}
"""Metrics of a trial; less is better: `throughput` is the time per second of audio."""


@dataclass(frozen=True)
class CaseComparison:
    """One metric of a case in two reports.

    Attributes:
        case: the case in the first report.
        metric: one of `METRICS`.
        before: figure of the first report, a geometric mean over processes.
        after: figure of the second report, a geometric mean over processes.
        machine: the part of the ratio explained by the speed of the machine.
        ratio: the remaining ratio of second to first: above 1 is slower or larger.
        p: p-value, corrected for the number of comparisons.
        verdict: `slower` and `failed` are regressions; `unclear` is beyond the threshold but not
            significant.
        unstable: whether disturbed trials had to be included.
        failure: why there is no figure to compare.
    """

    case: BenchmarkCase
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
class ReportComparison:
    """Comparison of two reports.

    Attributes:
        pairs: comparisons of the common cases, in the first report's order.
        differences: differences of device, bundles, audio, versions and settings; empty if they
            are equal.
        only_before: cases of the first report only.
        only_after: cases of the second report only.
    """

    pairs: tuple[CaseComparison, ...]
    differences: tuple[str, ...]
    only_before: tuple[BenchmarkCase, ...]
    only_after: tuple[BenchmarkCase, ...]

    @property
    def regressions(self) -> tuple[CaseComparison, ...]:
        """Comparisons with the verdict slower or failed."""
        return tuple(pair for pair in self.pairs if pair.verdict in {"slower", "failed"})


def compare(
    before: BenchmarkReport,
    after: BenchmarkReport,
    *,
    metrics: Sequence[str] = ("p50",),
    threshold: float = 0.05,
    across_devices: bool = False,
) -> ReportComparison:
    """Compare the common cases of two reports.

    Args:
        before: the baseline.
        after: the report to judge.
        metrics: names of `METRICS`.
        threshold: accepted relative increase of a figure.
        across_devices: allow reports of different devices or bundles.

    Raises:
        InputError: devices or bundles differ, or there is no common case.
    """
    grave, light = differences(before, after)
    if grave and not across_devices:
        raise InputError(
            f"{grave[0]}; expected reports of one device and one bundle; measure again, or add "
            "--across-devices"
        )
    matched, only_before, only_after = match(before, after)
    if not matched:
        raise InputError("the reports share no case; measure the same lengths, graphs and threads")
    # The time of the reference depends on numpy.
    same_speed = same_device(before.device, after.device) and (
        before.device.packages.get("numpy") == after.device.packages.get("numpy")
    )
    pairs = [
        _pair(
            _Side(a, before.conditions, metric),
            _Side(b, after.conditions, metric),
            same_speed=same_speed,
        )
        for a, b in matched
        for metric in metrics
        if a.trials and not a.failure
    ]
    if all(pair.failure and pair.verdict != "failed" for pair in pairs):
        raise InputError("no case has figures in both reports; measure again")
    return ReportComparison(corrected(pairs, threshold), (*grave, *light), only_before, only_after)


def compare_cases(
    before: CaseResult, after: CaseResult, conditions: Conditions, metric: str = "p50"
) -> CaseComparison:
    """Compare two cases of one report, without a verdict."""
    sides = (_Side(result, conditions, metric) for result in (before, after))
    return _pair(*sides, same_speed=True)


def differences(
    before: BenchmarkReport, after: BenchmarkReport
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the differences that prevent a comparison, and those that are only noted."""
    grave, light = [], []
    if not same_device(before.device, after.device):
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
        ("Python", before.device.python or "none", after.device.python or "none"),
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


def same_device(before: Device, after: Device) -> bool:
    """Return whether two reports were made on the same device, by what they record of it.

    The identities are not compared: earlier releases hashed other fields.
    """
    return _device_key(before) == _device_key(after)


def _device_key(device: Device) -> tuple[object, ...]:
    """Return the fields that make a different device; a new driver or kernel does not."""
    cpu, memory = device.cpu, device.memory_mb
    return (
        cpu.model,
        cpu.architecture,
        sorted(cpu.features),
        cpu.usable_cores,
        # In GiB, rounded up: the kernel reserves a varying part.
        None if memory is None else math.ceil(memory * 1e6 / 2**30),
        device.memory_limit_mb,
        sorted(gpu.name for gpu in device.gpus),
        device.system.partition(" ")[0],
    )


def match(
    before: BenchmarkReport, after: BenchmarkReport
) -> tuple[
    list[tuple[CaseResult, CaseResult]], tuple[BenchmarkCase, ...], tuple[BenchmarkCase, ...]
]:
    """Return the common cases, and the cases of one report only.

    Bundles are matched by hash; bundles in one report only are matched by name, and two single
    bundles with each other.
    """
    shared = {x.sha256 for x in before.bundles} & {x.sha256 for x in after.bundles}
    alone = len(before.bundles) == len(after.bundles) == 1

    def keys(report: BenchmarkReport) -> dict[str, CaseResult]:
        hashes = [x.sha256 for x in report.bundles]
        names = {
            # Copies of one bundle are matched by their order.
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
    """One metric of a case in one report, with the reference of its processes."""

    def __init__(self, result: CaseResult, conditions: Conditions, metric: str) -> None:
        self.result = result
        self.metric = metric
        quiet = undisturbed(result.trials, conditions)
        self.unstable = len(quiet) < min(MIN_UNDISTURBED, len(result.trials))
        applies = metric not in STREAMING or result.case.scenario == "streaming"
        trials = [
            trial
            for trial in (result.trials if self.unstable else quiet)
            if applies and (METRICS[metric](trial) or 0) > 0
        ]
        self.values = np.log([METRICS[metric](trial) or 1.0 for trial in trials])
        speeds = [np.mean(trial.reference_ms or (0.0,)) for trial in trials]
        self.reference = np.log(speeds) if all(x > 0 for x in speeds) else np.zeros(len(trials))


def _pair(before: _Side, after: _Side, *, same_speed: bool) -> CaseComparison:
    """Compare a case without correction for the number of comparisons."""
    case, metric = before.result.case, before.metric
    disturbed = before.unstable or after.unstable
    if after.result.failure or not len(after.values) or not len(before.values):
        nothing = Estimate(0.0, 0.0, 0.0)
        why = after.result.failure or f"no figure for {metric}"
        lost = len(before.values) and not len(after.values)
        verdict: Verdict = "failed" if after.result.failure or lost else "unclear"
        return CaseComparison(case, metric, 0.0, 0.0, 1.0, nothing, 1.0, verdict, disturbed, why)
    known = before.reference.any() and after.reference.any()
    timed = same_speed and known and metric not in UNTIMED
    slope = _common_slope(before, after) if timed else 0.0
    machine = slope * float(after.reference.mean() - before.reference.mean())
    old, new = (side.values - slope * side.reference for side in (before, after))
    slope_error = _slope_error(before, after, slope) if slope else 0.0
    ratio, p = difference(old, new, slope_error)
    first, second = (float(np.exp(side.values.mean())) for side in (before, after))
    return CaseComparison(
        case, metric, first, second, math.exp(machine), ratio, p, "unclear", disturbed
    )


def corrected(pairs: Sequence[CaseComparison], threshold: float) -> tuple[CaseComparison, ...]:
    """Correct each p-value for the number of comparisons, and set the verdicts.

    Args:
        pairs: comparisons with the p-value of a single one.
        threshold: accepted relative increase of a figure.
    """
    compared = sorted((i for i, x in enumerate(pairs) if not x.failure), key=lambda i: pairs[i].p)
    judged, least = list(pairs), 0.0
    for rank, i in enumerate(compared):
        least = max(least, min(1.0, (len(compared) - rank) * pairs[i].p))
        verdict = verdict_of(pairs[i].ratio.value, least, threshold)
        judged[i] = replace(pairs[i], p=least, verdict=verdict)
    return tuple(judged)


def verdict_of(ratio: float, p: float, threshold: float) -> Verdict:
    """Return the verdict on a ratio with a p-value."""
    if 1 / (1 + threshold) <= ratio <= 1 + threshold:
        return "same"
    if p > SIGNIFICANCE:
        return "unclear"
    return "slower" if ratio > 1 else "faster"


def _common_slope(before: _Side, after: _Side) -> float:
    """Return the slope of figures over the machine's speed within each report.

    From 0 (independent) to 1 (proportional); 0 if there are too few trials to estimate it.
    """
    x, y = _within(before, after)
    if len(x) < MIN_FOR_SLOPE or not (x**2).sum():
        return 0.0
    return float(np.clip((x * y).sum() / (x**2).sum(), 0.0, 1.0))


def _slope_error(before: _Side, after: _Side, slope: float) -> float:
    """Return the standard error due to the uncertainty of the slope."""
    x, y = _within(before, after)
    residual = float(((y - slope * x) ** 2).sum()) / max(1, len(x) - 3)
    apart = float(after.reference.mean() - before.reference.mean())
    return math.sqrt(residual / float((x**2).sum())) * abs(apart)


def _within(before: _Side, after: _Side) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the deviations of reference and figures from the means of their report."""
    sides = (before, after)
    return (
        np.concatenate([side.reference - side.reference.mean() for side in sides]),
        np.concatenate([side.values - side.values.mean() for side in sides]),
    )
