"""Online alignment of a known text: where is the reader, and when were the words before read?

The forward pass is that of `w2v_edge.text.alignment`, over frames that are not decided yet. Once
there are `delay` seconds of them, the likeliest path that ends anywhere in the text decides the
older half, and the pass begins anew from the state in which that half ends (fixed-lag Viterbi
decoding). A decision sees at least half of `delay` of later audio. A path goes on by one label a
frame at most, so that neither work nor memory depend on the text's length.

As long as all decisions are on the path of `align` for the same logits, all times are equal to its
times. With a `delay` as long as the recording, nothing is decided before the end and they always
are.

The text is read in order. Pauses may be of any length. Words that are left out are passed at up to
one label a frame, and have low scores. Words that are said twice, or are not in the text, and more
left out than `delay` has frames, are not supported: the position's score is low while the reader
and the text differ.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.aligner import AlignedWord, Aligner, Unknown
from w2v_edge.text.alignment import LabelPath, PrefixPath, align_prefix, frames_needed
from w2v_edge.text.decoding import mean_probability

LONGEST_DELAY = 30.0
"""Seconds. Work and memory grow with the square of the delay."""


@dataclass(frozen=True)
class KnownText:
    """A text that is read aloud, for `Model.stream`.

    Attributes:
        text: what is read.
        delay: seconds of audio after which words are final at the latest; at most `LONGEST_DELAY`.
        unknown: what characters without a label do; see `Model.align`.
        romanize: applied to each word first; see `Model.align`.
        strict: raise an error for words that get no time.
    """

    text: str
    delay: float = 3.0
    unknown: Unknown = "star"
    romanize: Callable[[str], str] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check the delay.

        Raises:
            InputError: it is not seconds above 0, or longer than `LONGEST_DELAY`.
        """
        delay: Any = self.delay
        number = isinstance(delay, Real) and not isinstance(delay, bool)
        if not (number and 0 < delay <= LONGEST_DELAY):
            raise InputError(
                f"found a delay of {self.delay!r:.40}, expected seconds above 0, at most "
                f"{LONGEST_DELAY:g}"
            )


@dataclass(frozen=True)
class ReadingPosition:
    """Where the reader is, as far as the audio so far tells.

    Attributes:
        word: place in the text of the last word that has begun, from 0; None before the first.
        label: place among the text's labels of the last one that has begun, from 0; None before the
            first.
        seconds: end of the last frame so far.
        score: in [0, 1], the geometric mean of the path's probabilities over the frames that are
            not decided yet, pauses included: low if something else is said.
    """

    word: int | None
    label: int | None
    seconds: float
    score: float


@dataclass(frozen=True)
class AlignmentUpdate:
    """What a block of audio adds to an online alignment.

    Attributes:
        words: words that are final since the last update.
        provisional: later words that have begun, whose times may change; the last one may go on.
        position: where the reader is.
        remarks: doubts about the result, at the end.
    """

    words: tuple[AlignedWord, ...]
    provisional: tuple[AlignedWord, ...]
    position: ReadingPosition
    remarks: tuple[str, ...] = ()


class OnlineAligner:
    """Aligns a known text to logits that arrive in blocks; see the module.

    The final words do not depend on the blocks. For one thread at a time.
    """

    def __init__(self, aligner: Aligner, known: KnownText, frame_seconds: float) -> None:
        """Start before the first frame.

        Args:
            aligner: of the model's labels.
            known: the text, and the delay.
            frame_seconds: seconds between frames of logits.

        Raises:
            InputError: the text is refused as by `Aligner.align`.
        """
        self._aligner, self._seconds = aligner, frame_seconds
        self._targets = aligner.targets(known.text)
        self._labels = np.asarray(self._targets.labels, np.intp)
        # For each word that is aligned the label it begins with, and the label after its last.
        self._starts = [start for _, start, _, _ in self._targets.words]
        self._ends = [end for _, _, end, _ in self._targets.words]
        self._delay = max(2, round(known.delay / frame_seconds))
        self.reset()

    def reset(self) -> None:
        """Begin the text anew."""
        self._times = _empty_path(len(self._labels))
        self._held: npt.NDArray[Any] = np.zeros((0, len(self._aligner.names)), np.float32)
        self._frames = 0
        """Frames that are decided."""
        self._at, self._begun = 0, False
        """The first label that may still emit frames, and whether it has emitted some."""
        self._given = 0
        """Words that were given as final."""

    def push(self, logits: npt.NDArray[Any]) -> AlignmentUpdate:
        """Add logits (frames, labels) and return what they tell.

        Raises:
            InputError: logits of another shape, or not finite, or that leave the text no path.
        """
        self._aligner.spelling.check(logits)
        self._held = np.concatenate([self._held, logits])
        while len(self._held) >= self._delay:
            self._decide(self._path(self._held[: self._delay]), self._delay // 2)
        words = self._final()
        path = self._path(self._held)
        end = self._end_of(path)
        base = min([*self._starts[self._given : self._given + 1], self._at])
        times = _part(self._times, base, end)
        times = LabelPath(times.first.copy(), times.end.copy(), times.scores.copy(), 0.0)
        _add(times, path, self._at - base, self._frames)
        begun = bisect_left(self._starts, end)
        provisional = self._words(self._given, begun, times, base, end)
        return AlignmentUpdate(words, provisional, self._position(path, end))

    def flush(self, *, read_all: bool = True) -> AlignmentUpdate:
        """Return the remaining words, and begin the text anew.

        Args:
            read_all: the text was read to its end: the rest of it takes frames that are not decided
                yet, as in `align`, if they suffice. Otherwise, and without `read_all`, the result
                ends where the reader is, and words that were not read to their end are left out.

        Raises:
            InputError: as for `push`.
        """
        rest = frames_needed(self._labels[self._at :]) - self._begun
        path = self._path(self._held, complete=read_all and rest <= len(self._held))
        end = self._end_of(path)
        position = self._position(path, end)
        self._decide(path, len(self._held))
        self._at = end
        words = self._final()
        remarks = self._remarks()
        self.reset()
        return AlignmentUpdate(words, (), position, remarks)

    def _path(self, logits: npt.NDArray[Any], *, complete: bool = False) -> PrefixPath:
        """Return the likeliest path from where the decided one ends."""
        end = None if complete else self._at + len(logits) + 1
        labels, blank = self._labels[self._at : end], self._aligner.spelling.blank
        return align_prefix(logits, labels, blank, begun=self._begun, complete=complete)

    def _end_of(self, path: PrefixPath) -> int:
        """Return the number of labels that have begun at the end of a path."""
        return self._at + max(int(path.labels.max(initial=-1)) + 1, int(self._begun))

    def _decide(self, path: PrefixPath, frames: int) -> None:
        """Make the path over some frames final."""
        path = PrefixPath(path.labels[:frames], path.scores[:frames])
        _add(self._times, path, self._at, self._frames)
        end = self._end_of(path)
        if frames:
            self._begun = bool(path.labels[-1] >= 0)
        self._at = end - self._begun
        self._frames += frames
        self._held = self._held[frames:]

    def _final(self) -> tuple[AlignedWord, ...]:
        """Return the words that have become final: no later frame is theirs."""
        first, self._given = self._given, bisect_right(self._ends, self._at)
        return self._words(first, self._given, self._times, 0, self._at)

    def _words(
        self, first: int, end: int, times: LabelPath, base: int, stop: int
    ) -> tuple[AlignedWord, ...]:
        """Return words with their times.

        Args:
            first: the first word.
            end: the word after the last.
            times: of labels.
            base: the first of these labels.
            stop: the label after the last that has begun, which may be within a word.
        """
        words: list[AlignedWord] = []
        for i in range(first, end):
            # One at a time, so that rounding does not depend on the blocks.
            part, start = self._targets.part(i, i + 1, stop), self._starts[i] - base
            found = _part(times, start, start + len(part.labels))
            words += self._aligner.collect(part, found, self._seconds).words
        return tuple(words)

    def _position(self, path: PrefixPath, end: int) -> ReadingPosition:
        """Return where a path ends, with `end` labels begun."""
        frames = len(path.labels)
        begun = bisect_left(self._starts, end)
        return ReadingPosition(
            self._targets.words[begun - 1][3] if begun else None,
            end - 1 if end else None,
            (self._frames + frames) * self._seconds,
            mean_probability(float(path.scores.sum()), frames),
        )

    def _remarks(self) -> tuple[str, ...]:
        """Return doubts about the result, whose labels up to `_at` are final."""
        words = self._targets.words
        found = []
        if self._given < len(words):
            found.append(
                f"the audio ends before word {self._given + 1} of {len(words)} was read to its end"
            )
        if self._given:
            part = self._targets.part(0, self._given, self._at)
            part.unaligned = self._targets.unaligned
            times = _part(self._times, self._starts[0], self._starts[0] + len(part.labels))
            found += self._aligner.collect(part, times, self._seconds).remarks
        return tuple(found)


def _empty_path(length: int) -> LabelPath:
    """Return a path that no frame has been added to."""
    first = np.full(length, np.iinfo(np.intp).max)
    return LabelPath(first, np.zeros(length, np.intp), np.zeros(length), 0.0)


def _part(path: LabelPath, first: int, end: int) -> LabelPath:
    return LabelPath(path.first[first:end], path.end[first:end], path.scores[first:end], 0.0)


def _add(times: LabelPath, path: PrefixPath, base: int, first: int) -> None:
    """Add frames to the times of labels.

    Args:
        times: changed in place.
        path: of the frames.
        base: the label of `times` that the path's label 0 is.
        first: the first frame.
    """
    emitted = np.flatnonzero(path.labels >= 0)
    labels = base + path.labels[emitted]
    np.minimum.at(times.first, labels, first + emitted)
    np.maximum.at(times.end, labels, first + emitted + 1)
    np.add.at(times.scores, labels, path.scores[emitted])
