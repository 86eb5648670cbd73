"""Segments: logits that arrive in blocks, cut at pauses.

A frame is silent if its best label has no text: the blank, or the delimiter of words. A pause is a
run of silent frames of at least `min_pause`, and segments lie between pauses, with half of a
`min_pause` of silence kept on both sides. One that would last longer than `max_seconds` is cut
within its last half, at the likeliest pause: the silent run with the greatest sum of probabilities
of labels without text, of those between words if there are any. The result does not depend on the
blocks, and what is held is no longer than a segment and a pause.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.decoding import Decoder, Transcription
from w2v_edge.text.spelling import Spelling, log_softmax

Logits = npt.NDArray[Any]


@dataclass(frozen=True)
class SegmentLimits:
    """Where recordings are cut, in seconds.

    Attributes:
        min_pause: shortest pause that ends a segment.
        max_seconds: longest segment, from its first label to its last.
    """

    min_pause: float = 0.5
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Check that both are seconds.

        Raises:
            InputError: they are not, or a segment would be shorter than a pause.
        """
        values: tuple[Any, ...] = (self.min_pause, self.max_seconds)
        numbers = all(isinstance(x, Real) and not isinstance(x, bool) for x in values)
        if not (numbers and 0 < self.min_pause <= self.max_seconds < math.inf):
            raise InputError(
                f"found {self}, expected seconds: a pause above 0, and a longest segment of at "
                "least the pause"
            )


@dataclass(frozen=True, kw_only=True)
class Segment(Transcription):
    """The text of a part of a recording; times of its words are those in the recording.

    Attributes:
        start: seconds, of the silence kept before the first word.
        end: seconds, of the silence kept after the last word.
    """

    start: float
    end: float


class Segmenter:
    """Cuts the logits of one recording at pauses; see the module."""

    def __init__(
        self, spelling: Spelling, frame_seconds: float, limits: SegmentLimits | None = None
    ) -> None:
        """Start before the first frame.

        Args:
            spelling: the model's, such as `Model.spelling`.
            frame_seconds: seconds between frames of logits.
            limits: by default `SegmentLimits()`.
        """
        limits = limits or SegmentLimits()
        self._spelling = spelling
        self._pause = max(1, round(limits.min_pause / frame_seconds))
        self._longest = max(2, round(limits.max_seconds / frame_seconds))
        self._textless = np.array([not text.strip() for text in spelling.texts])
        self._first = 0
        self._logits: Logits = np.zeros((0, len(spelling.texts)), np.float32)
        self._best = np.zeros(0, np.intp)

    def push(self, logits: Logits) -> Iterator[tuple[int, Logits]]:
        """Add logits (frames, labels), and yield the segments that are complete now.

        Yields:
            The first frame of a segment, and its logits (frames, labels).

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self._spelling.check(logits)
        self._logits = np.concatenate([self._logits, logits])
        self._best = np.concatenate([self._best, logits.argmax(axis=1)])
        yield from self._complete(ended=False)

    def flush(self) -> Iterator[tuple[int, Logits]]:
        """Yield the segments that only the end of the recording completes."""
        yield from self._complete(ended=True)

    def _complete(self, *, ended: bool) -> Iterator[tuple[int, Logits]]:
        margin = self._pause // 2
        while True:
            spoken = np.flatnonzero(~self._textless[self._best])
            if not len(spoken):
                self._drop(max(0, len(self._best) - margin))
                return
            lead = max(0, int(spoken[0]) - margin)
            self._drop(lead)
            spoken -= lead
            first = int(spoken[0])
            after = np.append(spoken[1:], len(self._best))
            pauses = np.flatnonzero(after - spoken > self._pause)
            end = int(spoken[pauses[0]] if len(pauses) else spoken[-1]) + 1
            if end - first > self._longest:
                yield self._take(self._likeliest_pause(first))
            elif len(pauses) or ended:
                yield self._take(min(end + margin, len(self._best)))
            else:
                return

    def _drop(self, frames: int) -> None:
        self._first += frames
        self._logits, self._best = self._logits[frames:], self._best[frames:]

    def _take(self, end: int) -> tuple[int, Logits]:
        taken = self._first, self._logits[:end]
        self._drop(end)
        return taken

    def _likeliest_pause(self, first: int) -> int:
        """Return the frame at which to cut speech that is too long, in its last half."""
        low, high = first + self._longest // 2, first + self._longest
        best = self._best[low:high]
        probabilities = np.exp(log_softmax(self._logits[low:high]))
        silence = probabilities[:, self._textless].sum(axis=1)
        edges = np.flatnonzero(np.diff(self._textless[best], prepend=False, append=False))
        runs = [(low + a, low + b) for a, b in edges.reshape(-1, 2).tolist()]
        if runs:
            begin, end = max(
                runs, key=lambda x: (self._parts_words(*x), silence[x[0] - low : x[1] - low].sum())
            )
            return int(begin + end + 1) // 2
        # No silent frame at all: between two labels, so that none is given twice.
        changes = low + 1 + np.flatnonzero(np.diff(best))
        return int(max(changes, key=lambda x: float(silence[x - low]), default=high))

    def _parts_words(self, begin: int, end: int) -> bool:
        """Whether a silent run is between words, as far as the labels tell."""
        texts = self._spelling.texts
        if not any(text[:1].isspace() or text[-1:].isspace() for text in texts):
            return True
        inside = any(texts[label] for label in self._best[begin:end])
        before, after = (texts[self._best[i]] for i in (begin - 1, end))
        return inside or before[-1:].isspace() or after[:1].isspace()


def decode_segments(
    blocks: Iterable[Logits], decoder: Decoder, segmenter: Segmenter, frame_seconds: float
) -> Iterator[Segment]:
    """Decode logits that arrive in blocks, segment by segment.

    Args:
        blocks: (frames, labels) each, of one recording.
        decoder: of each segment.
        segmenter: cuts them.
        frame_seconds: seconds between frames.
    """

    def decoded(first: int, logits: Logits) -> Segment:
        found = decoder.decode(logits, frame_seconds)
        start, end = (x * frame_seconds for x in (first, first + len(logits)))
        return Segment(**vars(_moved(found, start)), start=start, end=end)

    for block in blocks:
        for first, logits in segmenter.push(block):
            yield decoded(first, logits)
    for first, logits in segmenter.flush():
        yield decoded(first, logits)


def join_segments(segments: Iterable[Segment]) -> Transcription:
    """Return the transcription of a recording from its segments, without their alternatives.

    The score is the segments' geometric mean, weighted by the durations of their words; 0
    without words.
    """
    found = [x for x in segments if x.words]
    words = tuple(word for x in found for word in x.words)
    seconds = [sum(word.end - word.start for word in x.words) for x in found]
    score = 0.0
    if sum(seconds):
        logs = [math.log(max(x.score, 1e-300)) for x in found]
        score = math.exp(float(np.average(logs, weights=seconds)))
    return Transcription(" ".join(x.text for x in found), words, score)


def _moved(found: Transcription, seconds: float) -> Transcription:
    """Return a transcription and its alternatives, whose times begin at `seconds`."""
    words = tuple(replace(x, start=seconds + x.start, end=seconds + x.end) for x in found.words)
    alternatives = tuple(_moved(x, seconds) for x in found.alternatives)
    return replace(found, words=words, alternatives=alternatives)
