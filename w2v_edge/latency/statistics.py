"""Percentiles of trials, and how sure they are.

A trial is a process. Queries of one process resemble each other more than those of another (memory
lies elsewhere, the machine does other things), and neighbouring trials resemble each other too:
what slows one lasts into the next. So whole trials are resampled, not queries, and the spread that
comes out is widened for few trials (Student's t) and for what carries over between them.

Kalibera and Jones, "Rigorous benchmarking in reasonable time" (ISMM 2013), do so by levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from w2v_edge.latency.report import Estimate

CONFIDENCE = 0.95
RESAMPLES = 1000
CARRY_OVER = 0.5
"""Correlation of the medians of neighbouring trials: 0.2 to 0.7 was found over ten minutes on a
virtual machine that did nothing else (`bench/latency`). From a few trials it cannot be told."""

CARRIED = math.sqrt((1 + CARRY_OVER) / (1 - CARRY_OVER))
"""What a standard error is multiplied by for it: neighbours that are alike count as fewer."""

MOST_RESAMPLED = 2_000
"""Queries of a trial that are resampled: of more, as many that lie evenly among the sorted ones."""

Trials = Sequence[npt.NDArray[np.float64]]
Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

# Two-sided 95 % points of Student's t, by degrees of freedom; beyond, there is an expansion.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL = 1.959964


def student(freedom: int) -> float:
    """Return the two-sided 95 % point of Student's t."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = NORMAL
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def student_p(t: float, freedom: int) -> float:
    """Return the chance of Student's t so far from 0, or further, on either side."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    within = math.sin(angle) * total
    return 1.0 - (2 / math.pi * (angle + within) if odd else within)


def percentile(share: float) -> Statistic:
    """Return the statistic of the nearest rank: so large a share of values is no larger.

    It works on the last axis.
    """

    def of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rank = max(0, math.ceil(share * values.shape[-1] - 1e-9) - 1)
        found: npt.NDArray[np.float64] = np.partition(values, rank, axis=-1)[..., rank]
        return found

    return of


def estimate(trials: Trials, statistic: Statistic, *, seed: int = 0) -> Estimate:
    """Return a statistic of positive values with its 95 % interval.

    Args:
        trials: the values of each.
        statistic: of values along the last axis, such as `percentile(0.5)`.
        seed: of the resampling.
    """
    value = float(statistic(np.concatenate(list(trials))))
    spread = _spread(trials, statistic, seed)
    low = value * math.exp(-spread)
    if min(map(len, trials)) > 1:
        # Few trials that differ much would allow for what no query ever showed.
        low = min(value, max(low, min(float(x.min()) for x in trials)))
    return Estimate(value, low, value * math.exp(spread))


def estimate_median(values: Sequence[float]) -> Estimate:
    """Return the median of one positive value a trial, with the interval of it."""
    return estimate([np.array([x]) for x in values], percentile(0.5))


def widening(trials: int) -> float:
    """Return what the standard error over so many trials is multiplied by, for 95 %.

    That of resampling is too small by the root of (n - 1) / n; a few independent trials take
    Student's t; and neighbours that resemble each other count as fewer.
    """
    if trials < 2:  # noqa: PLR2004 - of one trial there is no spread
        return NORMAL
    return student(trials - 1) * math.sqrt(trials / (trials - 1)) * CARRIED


def _spread(trials: Trials, statistic: Statistic, seed: int) -> float:
    """Return half of the interval of the statistic's logarithm."""
    random = np.random.default_rng(seed)
    if len(trials) == 1:
        # No other process to compare with: at least what its own queries say.
        trials = np.array_split(trials[0], min(len(trials[0]), 10))
    size = min(MOST_RESAMPLED, *(len(x) for x in trials)) if len(trials) > 1 else len(trials[0])
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


def _thinned(values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Return `size` of the values, evenly among the sorted ones, the largest with them."""
    ranks = np.round(np.linspace(len(values) - 1, 0, size)).astype(int)
    thinned: npt.NDArray[np.float64] = np.sort(values)[ranks]
    return thinned
