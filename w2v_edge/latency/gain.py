"""Is a candidate faster, and how sure is that? Told from processes that took turns.

Times of one round make a pair: what slows a machine for a while slows both. Their order is drawn
anew in each round, so whatever changes within it falls on either side by chance: if a candidate
gains nothing, the logarithm of a pair's ratio is as likely to be so much above 0 as below it. That
is all that the signed-rank statistic asks for; neighbours on the machine, drift and outliers do not
make its intervals wrong.

Hodges and Lehmann, "Estimates of location based on rank tests" (1963).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from w2v_edge.latency.report import Estimate

LEAST = 1.01
"""What gains less is not worth a setting of its own."""

FEWEST = 6
"""Pairs that an interval of 95 % takes."""


def ratio(base: Sequence[float], candidate: Sequence[float]) -> float:
    """Return how many times as fast a candidate is, by times in the same rounds."""
    return math.exp(float(np.median(_means(base, candidate))))


def gain(base: Sequence[float], candidate: Sequence[float]) -> Estimate:
    """Return how many times as fast a candidate is, with the 95 % interval of it.

    Args:
        base: times by round, `FEWEST` at least.
        candidate: likewise, in the same rounds.
    """
    means = _means(base, candidate)
    cut = _cut(len(base))
    low, high = float(means[cut]), float(means[-1 - cut])
    return Estimate(ratio(base, candidate), math.exp(low), math.exp(high))


def promises(explored: float) -> bool:
    """Whether a candidate is worth fresh rounds."""
    return explored > LEAST


def is_better(confirmed: Estimate) -> bool:
    """Whether fresh rounds say beyond doubt that a candidate gains enough."""
    return confirmed.low > LEAST


def _means(base: Sequence[float], candidate: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the sorted means of all pairs of log ratios, each with itself too: Walsh averages."""
    logs = np.log(np.array(base)) - np.log(np.array(candidate))
    first, second = np.triu_indices(len(logs))
    return np.sort((logs[first] + logs[second]) / 2)


def _cut(pairs: int) -> int:
    """Return how many averages at either end lie outside of the interval of 95 %."""
    assert pairs >= FEWEST
    # In how many of the 2 ** pairs ways of signs do the positive ranks add up to so much?
    ways = np.ones(1)
    for rank in range(1, pairs + 1):
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways
        longer[rank:] += ways
        ways = longer
    below = np.cumsum(ways) / 2.0**pairs
    return int(np.searchsorted(below, 0.025, side="right")) - 1
