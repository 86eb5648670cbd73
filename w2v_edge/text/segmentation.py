"""The labels that a word is most likely made of, where labels have several characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def likeliest_labels(
    scores: npt.NDArray[np.floating[Any]],
    word: str,
    first: Mapping[str, int],
    inner: Mapping[str, int],
    blank: int,
) -> list[int]:
    """Return the labels of the likeliest CTC path that spells a word.

    Args:
        scores: (frames, labels) log-probabilities.
        word: a text of labels.
        first: labels that begin a word, by their text without its space.
        inner: labels by their text, anywhere in a word.
        blank: index of the CTC blank.

    Returns:
        The labels; none if no path spells the word in so many frames.
    """
    pieces = _pieces(word, first, inner)
    # A state is a blank after that many characters, or a piece.
    blanks = len(word) + 1
    emits = np.array([blank] * blanks + [label for _, _, label in pieces])
    before = _predecessors(blanks, pieces)
    total = np.full(len(emits) + 1, -np.inf)
    starts = [0, *(blanks + i for i, piece in enumerate(pieces) if piece[0] == 0)]
    total[starts] = scores[0, emits[starts]]
    came_from = np.zeros((len(scores), len(emits)), np.intp)
    for frame in range(1, len(scores)):
        choice = total[before].argmax(axis=1)
        came_from[frame] = before[np.arange(len(emits)), choice]
        total[:-1] = total[came_from[frame]] + scores[frame, emits]
    ends = [len(word), *(blanks + i for i, piece in enumerate(pieces) if piece[1] == len(word))]
    state = max(ends, key=lambda x: float(total[x]))
    if np.isneginf(total[state]):
        return []
    path = [state]
    for frame in range(len(scores) - 1, 0, -1):
        path.append(int(came_from[frame, path[-1]]))
    runs = [x for x, previous in zip(path[::-1], [-1, *path[:0:-1]], strict=True) if x != previous]
    return [int(emits[x]) for x in runs if x >= blanks]


def _pieces(
    word: str, first: Mapping[str, int], inner: Mapping[str, int]
) -> list[tuple[int, int, int]]:
    """Return the labels in a word, as first character, end and label."""
    longest = max(map(len, (*first, *inner)), default=0)
    found = []
    for i in range(len(word)):
        for end in range(i + 1, min(len(word), i + longest) + 1):
            text = word[i:end]
            tables = (first, inner) if i == 0 else (inner,)
            found += [(i, end, table[text]) for table in tables if text in table]
    return found


def _predecessors(blanks: int, pieces: list[tuple[int, int, int]]) -> npt.NDArray[np.intp]:
    """Return the states that each state follows, itself first; padded with an impossible state."""
    ending: dict[int, list[int]] = {}
    for i, (_, end, _) in enumerate(pieces):
        ending.setdefault(end, []).append(i)
    rows = [[j, *(blanks + i for i in ending.get(j, ()))] for j in range(blanks)]
    for i, (start, _, label) in enumerate(pieces):
        # A blank parts two equal labels.
        other = (blanks + k for k in ending.get(start, ()) if pieces[k][2] != label)
        rows.append([blanks + i, start, *other])
    widest = max(map(len, rows))
    return np.array([row + [len(rows)] * (widest - len(row)) for row in rows], np.intp)
