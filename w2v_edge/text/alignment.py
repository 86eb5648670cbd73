"""Forced alignment: the frames that emit each label of a known text, on the likeliest CTC path.

The dynamic programme is that of CTC segmentation (arXiv 2007.09127, section 2) without its
approximations: the result is the best path over all frames and labels, that of
`torchaudio.functional.forced_align`. Scores are kept at the start of each block
of frames, and those between are computed again on the way back, for the labels that the path can
reach there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.spelling import log_softmax

BLOCK = 1024
"""Frames in a block."""

WILDCARD = -1
"""In place of a label: in each frame the best one other than the blank."""

FAINT = -100.0
"""Log-probability below which a blank is added to paths, so that it costs others no precision."""

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]


@dataclass(frozen=True)
class LabelPath:
    """The frames of each label on the best path; the blank has all others.

    Attributes:
        first: (labels,) first frame of each label.
        end: (labels,) the frame after its last.
        scores: (labels,) sum of the log-probabilities over its frames.
        total: sum of the log-probabilities of the path, blanks included.
    """

    first: Labels
    end: Labels
    scores: Floats
    total: float


def align_labels(logits: npt.NDArray[Any], labels: npt.ArrayLike, blank: int) -> LabelPath:
    """Align labels to the frames of logits by the best CTC path.

    Equal labels in a row have a blank between them; wildcards need none. Among equally likely paths
    the choice is made from the end: staying at a label or blank, then coming from a blank, then
    from another label.

    Args:
        logits: (frames, size) logits or log-probabilities.
        labels: (length,) labels in order, `WILDCARD` among them.
        blank: index of the CTC blank.

    Raises:
        InputError: fewer frames than the labels take, or no path that the logits make possible.
    """
    wanted = np.asarray(labels, np.intp)
    needed = frames_needed(wanted)
    if len(logits) < needed:
        raise InputError(
            f"found {len(logits)} frames of audio for {len(wanted)} labels, which take at least "
            f"{needed}; check that the text belongs to this audio"
        )
    emissions = _Emissions(logits, wanted, blank)
    path = np.empty(emissions.frames, np.intp)
    scores, total = np.zeros(len(wanted)), 0.0
    at: _Position | None = None
    for first, kept in reversed(_forward(emissions)):
        scored = emissions.scores(first)
        block, at = _walk_back(emissions, kept, scored, first, at)
        path[first : first + len(block)] = block
        emitted = np.flatnonzero(block >= 0)
        columns = emissions.columns[block[emitted]]
        found = scored.over[emitted, columns] + scored.offset[emitted]
        np.add.at(scores, block[emitted], found)
        total += float(found.sum() + scored.blank[block < 0].sum())
    frames = np.flatnonzero(path >= 0)
    starts = frames[np.searchsorted(path[frames], np.arange(len(wanted)))]
    ends = frames[np.searchsorted(path[frames], np.arange(len(wanted)), side="right") - 1] + 1
    return LabelPath(starts, ends, scores, total)


@dataclass(frozen=True)
class PrefixPath:
    """The frames of the beginning of a text.

    Attributes:
        labels: (frames,) index of the label of each frame; -1 for the blank.
        scores: (frames,) log-probabilities.
    """

    labels: Labels
    scores: Floats


def align_prefix(
    logits: npt.NDArray[Any],
    labels: npt.ArrayLike,
    blank: int,
    *,
    begun: bool = False,
    complete: bool = False,
) -> PrefixPath:
    """Align frames to the beginning of labels: the best CTC path that ends anywhere among them.

    All frames are one block: memory grows with their square.

    Args:
        logits: (frames, size) logits or log-probabilities.
        labels: (length,) labels in order, `WILDCARD` among them.
        blank: index of the CTC blank.
        begun: a frame before these emitted the first label, which may go on.
        complete: the path ends with the last label or the blank after it, as for `align_labels`.

    Raises:
        InputError: no path that the logits make possible.
    """
    if not len(logits):
        return PrefixPath(np.zeros(0, np.intp), np.zeros(0))
    emissions = _Emissions(logits, np.asarray(labels, np.intp), blank)
    # The label that has begun takes the frame before the first.
    first = int(begun)
    emissions.frames += first if complete else emissions.length
    scored = emissions.scores(0, len(logits))
    start = _State.before(emissions.length)
    if begun:
        start.blanks[0], start.emits[0] = -np.inf, 0.0
    last = None if complete else _best_end(emissions, start, scored, first)
    path, _ = _walk_back(emissions, start, scored, first, last)
    emitted = np.flatnonzero(path >= 0)
    scores = scored.blank.copy()
    scores[emitted] = scored.over[emitted, emissions.columns[path[emitted]]]
    scores[emitted] += scored.offset[emitted]
    return PrefixPath(path, scores)


def _best_end(emissions: _Emissions, start: _State, scored: _Scored, first: int) -> _Position:
    """Return where the best path is after some frames; among equal ones the least advanced."""
    state = start.cut(0, emissions.length)
    for i, (emitted, blank) in enumerate(scored):
        state.advance(emissions, emitted, blank, first + i)
    at_blank, at_label = int(np.argmax(state.blanks)), -1
    best = state.blanks[at_blank]
    if emissions.length:
        at_label = int(np.argmax(state.emits))
    if at_label >= 0 and state.emits[at_label] > best:
        return _Position(at_label, is_blank=False)
    if best == -np.inf:
        raise InputError(
            "found logits of -infinity that leave the text no path, expected some probability for "
            "each label; check that the text belongs to this audio"
        )
    return _Position(at_blank, is_blank=True)


def frames_needed(labels: Labels) -> int:
    """Return the fewest frames that emit labels: equal ones in a row need a blank between."""
    return len(labels) + int(_repeats(labels).sum())


def _repeats(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return whether each label (length,) equals the one before it and is no wildcard."""
    found = np.zeros(len(labels), bool)
    found[1:] = (labels[1:] == labels[:-1]) & (labels[1:] != WILDCARD)
    return found


@dataclass(frozen=True)
class _Scored:
    """Log-probabilities of one block of frames.

    Attributes:
        blank: (frames,) of the blank.
        offset: (frames,) left out of all paths: the blank's, or 0 where that is `FAINT`.
        over: (frames, distinct) of the distinct labels of the text, less the offset.
    """

    blank: Floats
    offset: Floats
    over: Floats

    def __iter__(self) -> Iterator[tuple[Floats, float]]:
        """Yield what each frame adds to paths: (distinct,) for labels, and for the blank."""
        yield from zip(self.over, (self.blank - self.offset).tolist(), strict=True)


class _Emissions:
    """What the frames emit, for the labels of one text.

    Attributes:
        frames: number of frames.
        length: number of labels.
        columns: (length,) column of each label among the distinct ones.
        repeats: indices of labels that equal the one before.
    """

    def __init__(self, logits: npt.NDArray[Any], labels: Labels, blank: int) -> None:
        self.frames, self.length = len(logits), len(labels)
        self.repeats = np.flatnonzero(_repeats(labels))
        self._logits, self._blank = logits, blank
        self._distinct, self.columns = np.unique(labels, return_inverse=True)

    def scores(self, first: int, frames: int = 0) -> _Scored:
        """Return the scores of the block that begins at a frame, of `BLOCK` frames by default."""
        scores = log_softmax(self._logits[first : first + (frames or BLOCK)])
        blank = scores[:, self._blank].astype(np.float64)
        distinct = scores[:, self._distinct].astype(np.float64)
        if len(self._distinct) and self._distinct[0] == WILDCARD:
            scores[:, self._blank] = -np.inf
            distinct[:, 0] = scores.max(axis=1)
        offset = np.where(blank > FAINT, blank, 0.0)
        return _Scored(blank, offset, distinct - offset[:, np.newaxis])

    def reach(self, frame: int) -> tuple[int, int]:
        """Return the labels, first and end, at which a path can be in a frame."""
        return max(0, self.length - self.frames + frame), min(self.length, frame + 1)


class _State:
    """Scores of the best paths up to a frame, less the offset of every frame.

    Attributes:
        start: label of index 0.
        blanks: (n + 1,) of paths that end in the blank before each label, or after the last.
        emits: (n,) of paths that end in each label.
    """

    def __init__(self, start: int, blanks: Floats, emits: Floats) -> None:
        self.start, self.blanks, self.emits = start, blanks, emits

    @cached_property
    def _next(self) -> Floats:
        """Room for the next frame's `emits`, which a state that is only kept never needs."""
        return np.full(len(self.emits), -np.inf)

    @classmethod
    def before(cls, length: int) -> _State:
        """Return the state before the first frame."""
        blanks = np.full(length + 1, -np.inf)
        blanks[0] = 0.0
        return cls(0, blanks, np.full(length, -np.inf))

    def cut(self, first: int, end: int) -> _State:
        """Return a copy for the labels from `first` to `end`; unknown ones are unreachable."""
        blanks, emits = np.full(end - first + 1, -np.inf), np.full(end - first, -np.inf)
        low, high = max(first, self.start), min(end, self.start + len(self.emits))
        if low <= high:
            here, there = (
                slice(low - self.start, high - self.start),
                slice(low - first, high - first),
            )
            emits[there] = self.emits[here]
            blanks[there.start : there.stop + 1] = self.blanks[here.start : here.stop + 1]
        return _State(first, blanks, emits)

    def advance(self, emissions: _Emissions, emitted: Floats, blank: float, frame: int) -> None:
        """Go on by a frame that adds `emitted` (distinct,) to labels, and `blank` to the blank."""
        first, end = (x - self.start for x in emissions.reach(frame))
        first, end = max(first, 0), min(end, len(self.emits))
        if end <= first:
            return
        blanks, emits, new = (
            self.blanks[first : end + 1],
            self.emits[first:end],
            self._next[first:end],
        )
        np.maximum(emits, blanks[:-1], out=new)
        np.maximum(new[1:], emits[:-1], out=new[1:])
        if first:
            new[0] = max(new[0], self.emits[first - 1])
        low, high = np.searchsorted(emissions.repeats, (self.start + first, self.start + end))
        at = emissions.repeats[low:high] - self.start
        if len(at):
            self._next[at] = np.maximum(self.emits[at], self.blanks[at])
        np.maximum(blanks[1:], emits, out=blanks[1:])
        if first:
            blanks[0] = max(blanks[0], self.emits[first - 1])
        if blank:
            blanks += blank
        new += emitted.take(emissions.columns[self.start + first : self.start + end])
        self.emits, self._next = self._next, self.emits


def _forward(emissions: _Emissions) -> list[tuple[int, _State]]:
    """Return the first frame of each block, and the state before it."""
    kept, state = [], _State.before(emissions.length)
    for first in range(0, emissions.frames, BLOCK):
        low, high = emissions.reach(first)
        kept.append((first, state.cut(max(0, low - 1), high)))
        for i, (emitted, blank) in enumerate(emissions.scores(first)):
            state.advance(emissions, emitted, blank, first + i)
    return kept


@dataclass(frozen=True)
class _Position:
    """A state of a path: a label, or the blank before it."""

    label: int
    is_blank: bool


def _walk_back(
    emissions: _Emissions, kept: _State, scored: _Scored, first: int, last: _Position | None
) -> tuple[Labels, _Position]:
    """Return the path over one block, (frames,) with -1 for the blank, and where it comes from.

    Args:
        emissions: of the text.
        kept: the state before the block.
        scored: scores of the block's frames.
        first: its first frame.
        last: where the path is in the block's last frame; None at the end of the text.

    Raises:
        InputError: no path to the end of the text is possible.
    """
    frames = len(scored.blank)
    high = emissions.length if last is None else min(last.label + 1, emissions.length)
    # A path goes on by one label a frame at most.
    low = max(0, high - frames - 2)
    state = kept.cut(low, high)
    blanks, emits = [state.blanks.copy()], [state.emits.copy()]
    for i, (emitted, blank) in enumerate(scored):
        state.advance(emissions, emitted, blank, first + i)
        blanks.append(state.blanks.copy())
        emits.append(state.emits.copy())
    if last is None:
        at_blank, at_label = blanks[-1][-1], emits[-1][-1] if high else -np.inf
        if max(at_blank, at_label) == -np.inf:
            raise InputError(
                "found logits of -infinity that leave the text no path, expected some probability "
                "for each label; check that the text belongs to this audio"
            )
        last = _Position(high - (at_blank <= at_label), at_blank > at_label)
    repeats = set((emissions.repeats - low).tolist())
    path = np.empty(frames, np.intp)
    label, is_blank = last.label - low, last.is_blank
    for i in range(frames - 1, -1, -1):
        path[i] = -1 if is_blank else low + label
        before = emits[i][label - 1] if label else -np.inf
        if is_blank:
            is_blank = not before > blanks[i][label]
            label -= not is_blank
            continue
        skip = -np.inf if label in repeats else before
        if emits[i][label] >= max(blanks[i][label], skip):
            continue
        is_blank = blanks[i][label] >= skip
        label -= not is_blank
    return path, _Position(low + label, is_blank)
