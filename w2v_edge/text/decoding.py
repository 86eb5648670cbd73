"""Greedy CTC decoding, of recordings and of streams, with word times and confidences."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from w2v_edge.text.spelling import Spelling, log_softmax

LONGEST_WORD = 30.0
"""Seconds. A stream gives a longer word in parts, since labels may never mark the end of a word."""


@dataclass(frozen=True)
class Word:
    """One word of a transcription.

    Attributes:
        text: the word.
        start: seconds; the beginning of the first frame that emits the word.
        end: seconds; the end of the last frame that emits the word.
        confidence: in [0, 1], the geometric mean of the probabilities of the word's labels over
            the frames that emit them.
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
        confidence: like a word's, over the frames of all words. Without words, over all frames; 0
            without frames.
        alternatives: other texts in order of likelihood, if a beam search was asked for them.
    """

    text: str
    words: tuple[Word, ...]
    confidence: float
    alternatives: tuple[Transcription, ...] = ()


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
        best = logits.argmax(axis=1)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        ends = np.append(starts[1:], len(best))
        texts = [self.spelling.texts[label] for label in best[starts]]
        # The run of equal labels that each character of the text comes from.
        run = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        scores = _Scores(logits, best, self.spelling)
        words = []
        for match in re.finditer(r"\S+", "".join(texts)):
            first, last = int(starts[run[match.start()]]), int(ends[run[match.end() - 1]])
            start, end = first * frame_seconds, last * frame_seconds
            words.append(Word(match.group(), start, end, scores.confidence(first, last)))
        return Transcription(
            " ".join(word.text for word in words), tuple(words), scores.confidence(0, len(best))
        )


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
        self._decoder = GreedyDecoder(spelling)
        self._texts = spelling.texts
        self._seconds = frame_seconds
        self._logits = np.zeros((0, len(spelling.texts)), dtype=np.float32)
        self._first = 0

    def push(self, logits: npt.NDArray[Any]) -> list[Word]:
        """Add logits (frames, labels) and return the words that are complete now.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self._decoder.spelling.check(logits)
        self._logits = np.concatenate([self._logits, logits])
        if not len(self._logits):
            return []
        words = list(self._decoder.decode(self._logits, self._seconds).words)
        best = self._logits.argmax(axis=1)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        # The last run of equal labels may go on. Of silence, one frame says as much as an hour.
        silent = not self._texts[best[-1]].strip()
        kept = len(best) - 1 if silent else int(starts[-1])
        if words and self._is_open(words[-1], best[starts], len(best)):
            open_from = self._frame(words[-1].start)
            if (len(best) - open_from) * self._seconds >= LONGEST_WORD:
                return self._take(words, kept if silent else len(best))
            kept = open_from
            # One label may hold the end of one word and the beginning of the next.
            while words and self._frame(words[-1].end) > kept:
                kept = self._frame(words.pop().start)
        return self._take(words, kept)

    def flush(self) -> list[Word]:
        """Return the remaining words, and start anew."""
        if not len(self._logits):
            return []
        words = list(self._decoder.decode(self._logits, self._seconds).words)
        return self._take(words, len(self._logits))

    @property
    def partial(self) -> list[Word]:
        """The words that are not complete."""
        if not len(self._logits):
            return []
        found = self._decoder.decode(self._logits, self._seconds)
        return [self._in_stream(word) for word in found.words]

    def _is_open(self, word: Word, runs: npt.NDArray[np.intp], frames: int) -> bool:
        """Whether the last word may go on: no separator follows it, or its last frame is the last.

        Args:
            word: the last word of the frames held.
            runs: their labels, without repetitions.
            frames: how many they are.
        """
        text = "".join(self._texts[label] for label in runs)
        return not text[-1:].isspace() or self._frame(word.end) == frames

    def _frame(self, seconds: float) -> int:
        return round(seconds / self._seconds)

    def _take(self, words: list[Word], kept: int) -> list[Word]:
        """Return words with their times in the stream, and drop the frames before `kept`."""
        taken = [self._in_stream(word) for word in words]
        self._first += kept
        self._logits = self._logits[kept:].copy()
        return taken

    def _in_stream(self, word: Word) -> Word:
        offset = self._first * self._seconds
        return replace(word, start=offset + word.start, end=offset + word.end)


class _Scores:
    """Cumulative log-probabilities of the best labels, over frames that emit part of a word."""

    def __init__(
        self, logits: npt.NDArray[Any], best: npt.NDArray[np.intp], spelling: Spelling
    ) -> None:
        counted = np.array([bool(text.strip()) for text in spelling.texts])[best]
        if not counted.any():
            counted[:] = True
        scores = np.zeros(len(best))
        scores[counted] = log_softmax(logits[counted])[np.arange(counted.sum()), best[counted]]
        self._sums = np.append(0.0, scores.cumsum())
        self._counts = np.append(0, counted.cumsum())

    def confidence(self, first: int, last: int) -> float:
        """Return the confidence over frames [first, last)."""
        frames = int(self._counts[last] - self._counts[first])
        return mean_probability(float(self._sums[last] - self._sums[first]), frames)


def mean_probability(log_probability: float, frames: int) -> float:
    """Return the geometric mean of `frames` probabilities, given the sum of their logs."""
    return min(1.0, math.exp(log_probability / frames)) if frames else 0.0
