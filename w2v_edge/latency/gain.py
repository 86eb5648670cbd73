"""Is a candidate faster, and how sure is that? Told from processes that took turns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from w2v_edge.latency.report import Estimate
from w2v_edge.latency.statistics import student

LEAST = 1.01
"""What gains less is not worth a setting of its own."""


def gain(base: Sequence[float], candidate: Sequence[float]) -> Estimate:
    """Return how many times as fast a candidate is, with the 95 % interval of it.

    Times of one round make a pair: what slows a machine for a while slows both. Their order is
    drawn anew in each round, so what changes within one falls on either side by chance. The
    interval is Student's, of the logarithm of the ratio.

    Args:
        base: times by round, two at least.
        candidate: likewise, in the same rounds.
    """
    ratios = np.log(np.array(base)) - np.log(np.array(candidate))
    mean = float(ratios.mean())
    half = student(len(ratios) - 1) * float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def promises(explored: Estimate) -> bool:
    """Whether a candidate is worth fresh rounds."""
    return explored.value > LEAST


def is_better(confirmed: Estimate) -> bool:
    """Whether fresh rounds say beyond doubt that a candidate gains enough."""
    return confirmed.low > LEAST
