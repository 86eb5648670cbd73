"""How many times slower is one group of processes than another, and could it be chance?"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from w2v_edge.latency.report import Estimate
from w2v_edge.latency.statistics import CARRIED, student, student_p

SIGNIFICANT = 0.05
EXACT = 20_000
"""Permutations that are all gone through; of more, so many are drawn."""

ANYTHING = 1e9
"""A ratio that one process on each side cannot rule out; JSON has no infinity."""

Verdict = Literal["same", "slower", "faster", "unclear", "failed"]
Figures = npt.NDArray[np.float64]


def difference(before: Figures, after: Figures, doubt: float = 0.0) -> tuple[Estimate, float]:
    """Return the ratio of two groups of processes, and the chance of it if they were the same.

    Args:
        before: logarithms of the first group's figures, (processes,).
        after: of the second's.
        doubt: a further standard error.
    """
    ratio = ratio_of(before, after, doubt)
    # So few processes may not be able to give a small p; the interval decides there.
    enough = max(SIGNIFICANT, least_p(len(before), len(after)))
    p = interval_p(ratio, len(before) + len(after) - 2)
    rearranged = permutation_p(before, after)
    return ratio, p if rearranged <= enough else max(p, rearranged)


def judge(ratio: float, p: float, threshold: float) -> Verdict:
    """Say what a ratio means that is there by chance with probability p."""
    if 1 / (1 + threshold) <= ratio <= 1 + threshold:
        return "same"
    if p > SIGNIFICANT:
        return "unclear"
    return "slower" if ratio > 1 else "faster"


def least_p(before: int, after: int) -> float:
    """Return the smallest p that a permutation test of such groups can give."""
    ways = math.comb(before + after, before)
    return 2 / ways if before == after else 1 / ways


def ratio_of(before: Figures, after: Figures, doubt: float = 0.0) -> Estimate:
    """Return the ratio of two groups of processes with its 95 % interval.

    Args:
        before: logarithms of the first group's figures, (processes,).
        after: of the second's.
        doubt: a further standard error.
    """
    shift = float(after.mean() - before.mean())
    freedom = len(before) + len(after) - 2
    if freedom < 1:
        return Estimate(math.exp(shift), 0.0, ANYTHING)
    squares = sum(float(((x - x.mean()) ** 2).sum()) for x in (before, after))
    error = squares / freedom * (1 / len(before) + 1 / len(after)) * CARRIED**2
    half = math.sqrt(error + doubt**2) * student(freedom)
    return Estimate(math.exp(shift), math.exp(shift - half), math.exp(shift + half))


def interval_p(ratio: Estimate, freedom: int) -> float:
    """Return the chance of a ratio so far from 1, or further, by the width of its interval."""
    if freedom < 1:
        return 1.0
    shift, half = math.log(ratio.value), math.log(ratio.high / ratio.value)
    if not half:
        return float(not shift)
    return student_p(shift / half * student(freedom), freedom)


def permutation_p(before: Figures, after: Figures) -> float:
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
    # The arrangement that was found is one of them.
    beyond = 1
    for _ in range(EXACT):
        beyond += abs(float(random.permutation(values)[:size].sum())) >= found - 1e-12
    return beyond / (1 + EXACT)
