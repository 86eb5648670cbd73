"""Scores with bootstrap intervals: functions of the weight of each unit, a recording.

Intervals are of the percentile bootstrap: recordings are resampled with replacement, so that
correlated frames or characters of one recording do not count as independent. Models are not
refitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """A figure over recordings.

    Attributes:
        units: number of recordings.
        statistic: returns the figure for weights (units,); NaN if undefined.
    """

    units: int
    statistic: Callable[[Floats], float]

    @property
    def value(self) -> float:
        """The figure itself."""
        return self.statistic(np.ones(self.units))

    def __sub__(self, other: Score) -> Score:
        """Return the paired difference of two figures over the same recordings."""
        assert self.units == other.units
        return Score(self.units, lambda weights: self.statistic(weights) - other.statistic(weights))


def interval(score: Score, seed: int = 0) -> dict[str, float | None]:
    """Return `value` and the bounds `low` and `high`, each None if undefined."""
    rng = np.random.default_rng(seed)
    uniform = np.full(score.units, 1 / score.units)
    drawn = rng.multinomial(score.units, uniform, RESAMPLES).astype(np.float64)
    values = np.array([score.statistic(weights) for weights in drawn])
    values = values[~np.isnan(values)]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail]) if len(values) else (np.nan, np.nan)
    return {"value": _plain(score.value), "low": _plain(low), "high": _plain(high)}


def compared(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return the intervals of all scores, and of the differences of the first to each other one."""
    first, *others = scores
    return {
        "scores": {name: interval(score) for name, score in scores.items()},
        "difference": {name: interval(scores[first] - scores[name]) for name in others},
    }


def ratio(over: npt.ArrayLike, under: npt.ArrayLike) -> Score:
    """Return the score sum(over) / sum(under) of two figures (units,) of each recording."""
    top, bottom = np.asarray(over, np.float64), np.asarray(under, np.float64)
    return Score(len(top), lambda weights: _divided(float(weights @ top), float(weights @ bottom)))


def balanced_accuracy(right: Floats, count: Floats) -> Score:
    """Return the mean accuracy over classes.

    Args:
        right: (classes, units) number of correct predictions per recording.
        count: (classes, units) number of predictions per recording.
    """

    def statistic(weights: Floats) -> float:
        shares = [
            _divided(float(r @ weights), float(n @ weights))
            for r, n in zip(right, count, strict=True)
        ]
        return float(np.mean(shares))

    return Score(right.shape[1], statistic)


def mean_auc(scores: Floats, labels: npt.NDArray[np.bool_]) -> Score:
    """Return the area under the ROC curve, mean over the words for which it is defined.

    Args:
        scores: (words, units), higher where a word is predicted.
        labels: (words, units), whether the word occurs.
    """
    # Contribution of each pair (present, absent): 1 in the right order, 1/2 for a tie.
    differences = scores[:, :, None] - scores[:, None, :]
    wins = ((differences > 0) + 0.5 * (differences == 0)) * labels[:, :, None]
    wins *= ~labels[:, None, :]

    def statistic(weights: Floats) -> float:
        won = np.einsum("wij,i,j->w", wins, weights, weights, optimize=True)
        pairs = (labels @ weights) * (~labels @ weights)
        defined = pairs > 0
        return float(np.mean(won[defined] / pairs[defined])) if defined.any() else np.nan

    return Score(scores.shape[1], statistic)


def _divided(over: float, under: float) -> float:
    return over / under if under else np.nan


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)
