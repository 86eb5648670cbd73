"""Logits to text: greedy CTC decoding, with the times of words and how sure they are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from w2v_edge.runtime.spelling import Spelling, log_softmax


@dataclass(frozen=True)
class Word:
    """One word of a transcription.

    Attributes:
        text: the word.
        start: seconds; where the first frame that emits the word begins.
        end: seconds; where the last frame that emits it ends.
        confidence: in [0, 1], the geometric mean of the probabilities of the word's labels over
            the frames that emit them.
    """

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcription:
    """What was said.

    Attributes:
        text: the words, with single spaces between them.
        words: in order of time. Labels that stand apart, as phonemes do, are one word each;
            others, in a model without a word delimiter, are all one word, parted at most where
            labels hold spaces themselves.
        confidence: as a word's, over the frames of all words. Where there are none, how sure the
            model is of each frame that it leaves empty; 0 where there are no frames.
    """

    text: str
    words: tuple[Word, ...]
    confidence: float


class Decoder(Protocol):
    """Makes text of the logits of one waveform."""

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels), a frame coming every `frame_seconds`."""
        ...


@dataclass(frozen=True)
class GreedyDecoder:
    """Takes the best label of each frame, once where it repeats."""

    spelling: Spelling

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels), a frame coming every `frame_seconds`.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self.spelling.check(logits)
        best = logits.argmax(axis=1)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        ends = np.append(starts[1:], len(best))
        texts = [self.spelling.texts[label] for label in best[starts]]
        # Which run of equal labels each character of the text is from.
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


class _Scores:
    """Sums of the log-probabilities of chosen labels up to each frame, those of words only."""

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
        """Return the confidence of the frames from `first` up to `last`."""
        frames = int(self._counts[last] - self._counts[first])
        return mean_probability(float(self._sums[last] - self._sums[first]), frames)


def mean_probability(log_probability: float, frames: int) -> float:
    """Return the geometric mean of probabilities whose logs sum up to this; 0 for no frames."""
    return min(1.0, math.exp(log_probability / frames)) if frames else 0.0
