"""Forced alignment: the frames that emit each label of a known text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

STEPS = 3
"""Transitions between frames: stay, advance by one state, or skip a blank."""


def emission_score(
    scores: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.intp], blank: int
) -> tuple[float, int]:
    """Align labels to frames by the most likely CTC path.

    Args:
        scores: (frames, labels) log-probabilities.
        labels: (length,) the labels that the path emits, in order.
        blank: index of the CTC blank.

    Returns:
        The sum of the path's log-probabilities over the frames that emit one of `labels`, and
        the number of those frames; minus infinity if there are too few frames.
    """
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    emitted = scores[:, states].astype(np.float64)
    came_from, total = _forward(emitted, states)
    # A path ends in the last label or in the blank after it.
    state = len(states) - 1 - int(total[-2] > total[-1])
    if np.isneginf(total[state]):
        return -np.inf, 1
    path = np.empty(len(emitted), np.intp)
    for frame in range(len(emitted) - 1, -1, -1):
        path[frame] = state
        state -= int(came_from[frame, state])
    frames = np.flatnonzero(path % 2)
    return float(emitted[frames, path[frames]].sum()), len(frames)


def _forward(
    emitted: npt.NDArray[np.float64], states: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Return the distance to each state's best predecessor, by frame, and the final totals."""
    skips = np.zeros(len(states), bool)
    # The blank between two equal labels may not be skipped.
    skips[3::2] = states[3::2] != states[1:-2:2]
    came_from = np.zeros(emitted.shape, np.int8)
    total = np.full(len(states), -np.inf)
    total[:2] = emitted[0, :2]
    choices = np.full((STEPS, len(states)), -np.inf)
    for frame in range(1, len(emitted)):
        choices[0] = total
        choices[1, 1:] = total[:-1]
        choices[2, 2:] = np.where(skips[2:], total[:-2], -np.inf)
        came_from[frame] = choices.argmax(axis=0)
        total = choices.max(axis=0) + emitted[frame]
    return came_from, total
