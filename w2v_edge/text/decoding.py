"""Greedy CTC decoding, of recordings and of streams, with word times, confidences and scores."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from w2v_edge.text.confidence import label_probability
from w2v_edge.text.spelling import Spelling, log_softmax

LONGEST_WORD = 30.0
"""Seconds. A stream gives a longer word in parts, since labels may never mark the end of a word."""


Span = tuple[str, tuple[int, int]]
"""A word with its first frame and its end."""


@dataclass(frozen=True)
class Word:
    """One word of a transcription.

    Attributes:
        text: the word.
        start: seconds; the beginning of the first frame that emits the word.
        end: seconds; the end of the last frame that emits the word.
        confidence: in [0, 1], the probability that these frames hold the word's labels and nothing
            else; see `w2v_edge.text.confidence`.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcription:
    """The text of one recording.

    Attributes:
        text: the words, joined by single spaces.
        words: in order of time. Labels that are separate units, such as phonemes, are one word
            each. In a model without a word delimiter all other labels form one word, split only
            at spaces inside labels.
        score: in [0, 1], the geometric mean of the probabilities of all words' labels over the
            frames that emit them, as of `Alignment.score`. Without words, of silence over all
            frames; 0 without frames. It is not comparable with a word's `confidence`.
        alternatives: other texts in order of likelihood, if a beam search was asked for them.
    """

    text: str
    words: tuple[Word, ...]
    score: float
    alternatives: tuple[Transcription, ...] = ()

    @property
    def confidence(self) -> float:
        """The old name of `score`, which works for one release, with a `DeprecationWarning`."""
        message = "Transcription.confidence is now Transcription.score; words keep `confidence`"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.score


class Decoder(Protocol):
    """Turns the logits of one waveform into text."""

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels) with `frame_seconds` between frames."""
        ...


@dataclass(frozen=True)
class GreedyDecoder:
    """Takes the best label of each frame, and collapses repetitions."""

    spelling: Spelling

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels) with `frame_seconds` between frames.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self.spelling.check(logits)
        reading = _Reading(logits, self.spelling)
        words = tuple(reading.word(span, frame_seconds) for span in reading.spans)
        return Transcription(" ".join(word.text for word in words), words, reading.score())


class TextStream(Protocol):
    """Turns the logits of a stream into words."""

    def push(self, logits: npt.NDArray[Any]) -> list[Word]:
        """Add logits (frames, labels) and return the words that are final now."""
        ...

    def flush(self) -> list[Word]:
        """Return the remaining words, and start anew."""
        ...

    @property
    def partial(self) -> list[Word]:
        """Words that are likely so far, and may still change."""
        ...


class StreamDecoder:
    """Decodes the logits of a stream greedily: a word is given once no later frame can change it.

    It gives the same words as decoding the whole recording, except that a word longer than
    `LONGEST_WORD` is given in parts. Frames of silence are not kept.
    """

    def __init__(self, spelling: Spelling, frame_seconds: float) -> None:
        """Start an empty stream.

        Args:
            spelling: the model's, such as `Model.spelling`.
            frame_seconds: seconds between frames of logits.
        """
        self._spelling = spelling
        self._texts = spelling.texts
        self._seconds = frame_seconds
        self._logits = np.zeros((0, len(spelling.texts)), dtype=np.float32)
        self._first = 0

    def push(self, logits: npt.NDArray[Any]) -> list[Word]:
        """Add logits (frames, labels) and return the words that are complete now.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self._spelling.check(logits)
        self._logits = np.concatenate([self._logits, logits])
        if not len(self._logits):
            return []
        reading = _Reading(self._logits, self._spelling)
        frames = len(self._logits)
        # The last run of equal labels may go on. Of silence, one frame says as much as an hour.
        silent = not self._texts[reading.best[-1]].strip()
        kept = frames - 1 if silent else int(reading.starts[-1])
        spans = reading.spans
        if spans and self._is_open(spans[-1], reading):
            _, (open_from, _) = spans[-1]
            if (frames - open_from) * self._seconds >= LONGEST_WORD:
                return self._take(reading, spans, kept if silent else frames)
            kept = open_from
            # One label may hold the end of one word and the beginning of the next.
            while spans and spans[-1][1][1] > kept:
                _, (kept, _) = spans.pop()
        return self._take(reading, spans, kept)

    def flush(self) -> list[Word]:
        """Return the remaining words, and start anew."""
        if not len(self._logits):
            return []
        reading = _Reading(self._logits, self._spelling)
        return self._take(reading, reading.spans, len(self._logits))

    @property
    def partial(self) -> list[Word]:
        """The words that are not complete."""
        if not len(self._logits):
            return []
        reading = _Reading(self._logits, self._spelling)
        return self._words(reading, reading.spans)

    def _is_open(self, span: Span, reading: _Reading) -> bool:
        """Whether the last word may go on: no separator follows it, or its last frame is the last.

        Args:
            span: the last word of the frames held.
            reading: of them.
        """
        text = "".join(self._texts[label] for label in reading.best[reading.starts])
        return not text[-1:].isspace() or span[1][1] == len(reading.best)

    def _take(self, reading: _Reading, spans: list[Span], kept: int) -> list[Word]:
        """Return words, and drop the frames before `kept`."""
        words = self._words(reading, spans)
        self._first += kept
        self._logits = self._logits[kept:].copy()
        return words

    def _words(self, reading: _Reading, spans: list[Span]) -> list[Word]:
        """Return words with their times in the stream."""
        offset = self._first * self._seconds
        words = (reading.word(span, self._seconds) for span in spans)
        return [replace(word, start=offset + word.start, end=offset + word.end) for word in words]


class _Reading:
    """The best label of each frame, and the words that they spell.

    Attributes:
        best: (frames,) labels.
        starts: first frame of each run of equal labels.
        spans: words with their frames.
    """

    def __init__(self, logits: npt.NDArray[Any], spelling: Spelling) -> None:
        self.best = logits.argmax(axis=1)
        self.starts = np.flatnonzero(np.diff(self.best, prepend=-1))
        self._logits, self._spelling = logits, spelling
        ends = np.append(self.starts[1:], len(self.best))
        texts = [spelling.texts[label] for label in self.best[self.starts]]
        # The run of equal labels that each character of the text comes from.
        run = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        self.spans: list[Span] = [
            (found.group(), (int(self.starts[run[found.start()]]), int(ends[run[found.end() - 1]])))
            for found in re.finditer(r"\S+", "".join(texts))
        ]

    def word(self, span: Span, frame_seconds: float) -> Word:
        """Return a word with its confidence."""
        text, (first, end) = span
        blank = self._spelling.blank
        # Special labels between those of a word part them as the blank does.
        silent = np.array([not text for text in self._spelling.texts])
        scores, best = log_softmax(self._logits[first:end]), self.best[first:end]
        scores[:, blank] = np.logaddexp.reduce(scores[:, silent], axis=1)
        best = np.where(silent[best], blank, best)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        starts = starts[best[starts] != blank]
        found = label_probability(scores, best[starts], starts, blank)
        return Word(text, first * frame_seconds, end * frame_seconds, found)

    def score(self) -> float:
        """Return the geometric mean over frames that emit part of a word, or over all if none."""
        spelled = np.array([bool(text.strip()) for text in self._spelling.texts])
        counted = spelled[self.best]
        if not counted.any():
            counted[:] = True
        chosen = self.best[counted]
        scores = log_softmax(self._logits[counted])[np.arange(len(chosen)), chosen]
        return mean_probability(float(scores.sum(dtype=np.float64)), len(chosen))


def mean_probability(log_probability: float, frames: int) -> float:
    """Return the geometric mean of `frames` probabilities, given the sum of their logs."""
    return min(1.0, math.exp(log_probability / frames)) if frames else 0.0
