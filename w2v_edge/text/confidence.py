"""Confidence of a word: the probability that its frames hold its labels and nothing else.

It is the CTC probability of a labelling, summed over all paths by the forward recursion (Graves et
al., "Connectionist Temporal Classification", ICML 2006, equations 3 and 6), over the frames of the
word. Unlike a mean over frames it falls with each label that is in doubt, however long the word is.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.text.alignment import frames_needed

LONGEST = 512
"""Frames summed over at once. Longer words are cut where the likeliest path begins a label."""

Scores = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.intp]


def label_probability(scores: Scores, labels: Labels, starts: Labels, blank: int) -> float:
    """Return the probability that frames hold these labels; 0 if they do not fit.

    Args:
        scores: (frames, labels) log-probabilities.
        labels: (length,) the labels in order, at least one.
        starts: (length,) first frame of each on the likeliest path.
        blank: index of the CTC blank.
    """
    if len(scores) < frames_needed(labels):
        return 0.0
    if len(scores) <= LONGEST:
        return math.exp(_forward(scores, labels, blank))
    cuts = [*_cuts(starts), (len(labels), len(scores))]
    return math.exp(
        sum(
            _forward(scores[frame:end], labels[label:next_label], blank)
            for (label, frame), (next_label, end) in pairwise(cuts)
        )
    )


def _cuts(starts: Labels) -> list[tuple[int, int]]:
    """Return the first label and frame of each part, given the first frame of each label."""
    cuts = [(0, 0)]
    for label, frame in enumerate(starts.tolist()[1:], start=1):
        if frame - cuts[-1][1] >= LONGEST:
            cuts.append((label, frame))
    return cuts


def _forward(scores: Scores, labels: Labels, blank: int) -> float:
    """Return the logarithm of the probability, summed over all paths."""
    # A blank before, between and after the labels.
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    # A label may follow the one before without a blank, unless they are equal.
    skips = np.zeros(len(states))
    skips[3::2] = labels[1:] != labels[:-1]
    emitted = np.exp(scores[:, states].astype(np.float64))
    paths, log_scale = np.zeros(len(states)), 0.0
    paths[:2] = emitted[0, :2]
    for row in emitted[1:]:
        reached = paths.copy()
        reached[1:] += paths[:-1]
        reached[2:] += paths[:-2] * skips[2:]
        paths = reached * row
        scale = float(paths.sum())
        if scale == 0.0:
            return -math.inf
        paths, log_scale = paths / scale, log_scale + math.log(scale)
    ended = float(paths[-2:].sum())
    return min(0.0, log_scale + math.log(ended)) if ended else -math.inf
