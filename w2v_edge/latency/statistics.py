"""Statistics of trials: percentiles with intervals, summaries, and tests between two groups.

A trial is a process. Queries of one process are more alike than queries of different processes
(memory layout, background activity), and neighbouring trials are correlated too: a slowdown often
outlasts a trial. Therefore whole trials are resampled, not queries, and the resulting standard
error is widened for a small number of trials (Student's t) and for the correlation of neighbours.

Kalibera and Jones, "Rigorous benchmarking in reasonable time" (ISMM 2013), resample by levels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from w2v_edge.latency.report.records import (
    OFFLINE_UTTERANCES,
    BenchmarkCase,
    Estimate,
    Summary,
    Trial,
)

CONFIDENCE = 0.95
RESAMPLES = 1000
CORRELATION = 0.5
"""Assumed correlation between the medians of neighbouring trials. Measured over ten minutes on an
otherwise idle virtual machine: 0.2 to 0.7 (`bench/latency`). A few trials cannot estimate it."""

CORRELATION_FACTOR = math.sqrt((1 + CORRELATION) / (1 - CORRELATION))
"""Factor by which this correlation increases a standard error."""

MAX_RESAMPLED = 2_000
"""Queries of a trial that are resampled; of more, evenly spaced order statistics are used."""

SIGNIFICANCE = 0.05
MAX_PERMUTATIONS = 20_000
"""Up to this many permutations are enumerated; beyond, this many are drawn at random."""

MAX_RATIO = 1e9
"""Bound of intervals that have no finite end: JSON has no infinity."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond, a series expansion.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL = 1.959964


def student(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def student_p(t: float, freedom: int) -> float:
    """Return the two-sided p-value of Student's t."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    within = math.sin(angle) * total
    return 1.0 - (2 / math.pi * (angle + within) if odd else within)


def percentile(share: float) -> Statistic:
    """Return a function that computes the nearest-rank percentile along the last axis."""

    def nearest_rank(values: Array) -> Array:
        rank = max(0, math.ceil(share * values.shape[-1] - 1e-9) - 1)
        found: Array = np.partition(values, rank, axis=-1)[..., rank]
        return found

    return nearest_rank


def estimate(trials: Sequence[Array], statistic: Statistic, *, seed: int = 0) -> Estimate:
    """Return a statistic of positive values with its 95 % interval.

    Args:
        trials: the values of each trial, (values,).
        statistic: function of values along the last axis, such as `percentile(0.5)`.
        seed: of the resampling.
    """
    value = float(statistic(np.concatenate(list(trials))))
    # The bound keeps the interval finite for trials that differ by orders of magnitude.
    half = min(_half_width(trials, statistic, seed), math.log(MAX_RATIO))
    low = value * math.exp(-half)
    if min(map(len, trials)) > 1:
        # With few, very different trials the interval would extend below the fastest query.
        low = min(value, max(low, min(float(x.min()) for x in trials)))
    return Estimate(value, low, value * math.exp(half))


def estimate_median(values: Sequence[float]) -> Estimate:
    """Return the median of one positive value per trial with its 95 % interval."""
    return estimate([np.array([x]) for x in values], percentile(0.5))


def widening(trials: int) -> float:
    """Return the factor from a resampled standard error to half of a 95 % interval.

    Resampling underestimates the standard error by sqrt((n - 1) / n); few independent trials
    require Student's t; correlated neighbours carry less information.
    """
    if trials < 2:  # noqa: PLR2004 - one trial has no spread
        return NORMAL
    return student(trials - 1) * math.sqrt(trials / (trials - 1)) * CORRELATION_FACTOR


def _half_width(trials: Sequence[Array], statistic: Statistic, seed: int) -> float:
    """Return half of the interval of the statistic's logarithm."""
    random = np.random.default_rng(seed)
    if len(trials) == 1:
        # Without a second process, the interval covers the variation within this one.
        trials = np.array_split(trials[0], min(len(trials[0]), 10))
    size = min(MAX_RESAMPLED, *(len(x) for x in trials)) if len(trials) > 1 else len(trials[0])
    table = np.stack([_thinned(x, size) for x in trials])
    chosen = random.integers(len(table), size=(RESAMPLES, len(table)))
    found = np.concatenate(
        [
            statistic(table[rows].reshape(len(rows), -1))
            for rows in np.array_split(chosen, max(1, RESAMPLES * table.size // 2**22))
        ]
    )
    positive = np.log(np.maximum(found, 1e-12))
    return float(positive.std()) * widening(len(table))


def _thinned(values: Array, size: int) -> Array:
    """Return `size` evenly spaced order statistics, including the maximum."""
    ranks = np.round(np.linspace(len(values) - 1, 0, size)).astype(int)
    thinned: Array = np.sort(values)[ranks]
    return thinned


def summarise(case: BenchmarkCase, trials: Sequence[Trial], *, seed: int = 0) -> Summary:
    """Compute all statistics of a case from its raw samples."""
    latencies = [np.array(trial.latencies_ms) for trial in trials]
    found = {
        name: estimate(latencies, percentile(share), seed=seed)
        for name, share in PERCENTILES.items()
    }
    p50, audio_ms = found["p50"], 1e3 * query_audio_s(case, trials)
    factor = Estimate(p50.value / audio_ms, p50.low / audio_ms, p50.high / audio_ms)
    energies = [t.energy_j / t.audio_s for t in trials if t.energy_j is not None]
    powers = [t.energy_j / t.steady_s for t in trials if t.energy_j is not None]
    streaming = case.scenario == "streaming"
    queries = sum(map(len, latencies))
    return Summary(
        queries=queries,
        p50_ms=p50,
        p90_ms=found["p90"],
        p95_ms=found["p95"],
        p99_ms=found["p99"],
        max_ms=found["max"],
        real_time_factor=factor,
        speed=Estimate(1 / factor.value, 1 / factor.high, 1 / factor.low),
        throughput=estimate_median([t.audio_s / t.steady_s for t in trials]),
        start_ms=estimate_median([t.start_ms for t in trials]),
        import_ms=estimate_median([t.import_ms for t in trials]),
        load_ms=estimate_median([t.load_ms for t in trials]),
        first_ms=estimate_median([t.first_ms for t in trials]),
        warm_up_ms=estimate_median([sum(t.warm_up_ms) for t in trials]),
        loaded_mb=_maximum([t.loaded_mb for t in trials]),
        peak_mb=_maximum([t.peak_mb for t in trials]),
        energy_j=estimate_median(energies) if len(energies) == len(trials) else None,
        energy_source=trials[0].energy_source,
        miss_rate=sum(t.late for t in trials) / queries if streaming else None,
        behind_ms=max(t.behind_ms for t in trials) if streaming else None,
        read_mb=_maximum([t.read_mb for t in trials]),
        storage_mb=_maximum([t.storage_mb for t in trials]),
        stage_peaks_mb={
            stage: max(t.stage_peaks_mb.get(stage, 0.0) for t in trials)
            for stage in trials[0].stage_peaks_mb
        },
        power_w=estimate_median(powers) if len(powers) == len(trials) else None,
    )


def query_audio_s(case: BenchmarkCase, trials: Sequence[Trial]) -> float:
    """Return the seconds of audio in a query; in the scenario streaming, in a block."""
    if case.scenario == "streaming":
        return case.block_ms / 1e3
    if case.scenario == "offline":
        return OFFLINE_UTTERANCES * case.seconds
    return sum(t.audio_s for t in trials) / sum(len(t.latencies_ms) for t in trials)


def _maximum(values: Sequence[float | None]) -> float | None:
    return max((x for x in values if x is not None), default=None)


def difference(before: Array, after: Array, slope_error: float = 0.0) -> tuple[Estimate, float]:
    """Return the ratio of two groups of processes and its p-value.

    Args:
        before: logarithms of the first group's figures, (processes,).
        after: logarithms of the second group's figures, (processes,).
        slope_error: additional standard error.
    """
    ratio = ratio_interval(before, after, slope_error)
    # A permutation test of very few processes cannot reach a small p; then the interval decides.
    attainable = max(SIGNIFICANCE, _smallest_p(len(before), len(after)))
    p = interval_p(ratio, len(before) + len(after) - 2)
    permuted = permutation_p(before, after)
    return ratio, p if permuted <= attainable else max(p, permuted)


def ratio_interval(before: Array, after: Array, slope_error: float = 0.0) -> Estimate:
    """Return the ratio of two groups of processes with its 95 % interval.

    Args:
        before: logarithms of the first group's figures, (processes,).
        after: logarithms of the second group's figures, (processes,).
        slope_error: additional standard error.
    """
    shift = float(after.mean() - before.mean())
    freedom = len(before) + len(after) - 2
    if freedom < 1:
        return Estimate(math.exp(shift), 0.0, MAX_RATIO)
    squares = sum(float(((x - x.mean()) ** 2).sum()) for x in (before, after))
    variance = squares / freedom * (1 / len(before) + 1 / len(after)) * CORRELATION_FACTOR**2
    half = math.sqrt(variance + slope_error**2) * student(freedom)
    # The bound keeps the interval finite for figures that differ by orders of magnitude.
    half = min(half, math.log(MAX_RATIO))
    return Estimate(math.exp(shift), math.exp(shift - half), math.exp(shift + half))


def interval_p(ratio: Estimate, freedom: int) -> float:
    """Return the p-value of a ratio, from the width of its interval."""
    if freedom < 1:
        return 1.0
    shift, half = math.log(ratio.value), math.log(ratio.high / ratio.value)
    if not half:
        return float(not shift)
    return student_p(shift / half * student(freedom), freedom)


def permutation_p(before: Array, after: Array) -> float:
    """Return the two-sided p-value of a permutation test for the difference of means.

    Args:
        before: (processes,).
        after: (processes,).
    """
    values = np.concatenate([before, after])
    values = values - values.mean()
    size = len(before)
    found = abs(float(values[:size].sum()))
    if math.comb(len(values), size) <= MAX_PERMUTATIONS:
        chosen = np.array(list(itertools.combinations(range(len(values)), size)))
        sums = values[chosen].sum(axis=1)
        return float(np.mean(np.abs(sums) >= found - 1e-12))
    keys = np.random.default_rng(0).random((MAX_PERMUTATIONS, len(values)))
    sums = values[keys.argpartition(size, axis=1)[:, :size]].sum(axis=1)
    # The observed arrangement counts as one of them.
    return (1 + int(np.sum(np.abs(sums) >= found - 1e-12))) / (1 + MAX_PERMUTATIONS)


def _smallest_p(before: int, after: int) -> float:
    """Return the smallest p-value a permutation test of groups of these sizes can give."""
    ways = math.comb(before + after, before)
    return 2 / ways if before == after else 1 / ways
