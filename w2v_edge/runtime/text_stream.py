"""Text of a stream: words as soon as no later frame can change them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.runtime.spelling import Spelling
from w2v_edge.runtime.text import GreedyDecoder, Word

LONGEST_WORD = 30.0
"""Seconds after which a word is given as it is: labels need not know of an end of words."""


class TextStream:
    """Decodes logits greedily as they come; words are those that the whole would give.

    But for one of `LONGEST_WORD`, which is given in parts.
    """

    def __init__(self, spelling: Spelling, frame_seconds: float) -> None:
        """Begin with nothing; a frame of logits comes every `frame_seconds`."""
        self._decoder = GreedyDecoder(spelling)
        self._texts = spelling.texts
        self._seconds = frame_seconds
        self._logits = np.zeros((0, len(spelling.texts)), dtype=np.float32)
        self._first = 0

    def push(self, logits: npt.NDArray[Any]) -> list[Word]:
        """Take in logits (frames, labels) and return the words that are complete now.

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
        # The last run of one label may go on.
        kept = int(starts[-1])
        if words and self._is_open(words[-1], best[starts], len(best)):
            open_from = self._frame(words[-1].start)
            if (len(best) - open_from) * self._seconds >= LONGEST_WORD:
                return self._give(words, len(best))
            kept = open_from
            # A label may hold the end of one word and the beginning of the next.
            while words and self._frame(words[-1].end) > kept:
                kept = self._frame(words.pop().start)
        return self._give(words, kept)

    def flush(self) -> list[Word]:
        """Return the words that were still waiting, and begin anew."""
        if not len(self._logits):
            return []
        words = list(self._decoder.decode(self._logits, self._seconds).words)
        return self._give(words, len(self._logits))

    def _is_open(self, word: Word, runs: npt.NDArray[np.intp], frames: int) -> bool:
        """Tell whether the last word may go on: nothing parts it from what comes, or it just ends.

        Args:
            word: the last of the frames held.
            runs: their labels, repetitions left out.
            frames: how many they are.
        """
        text = "".join(self._texts[label] for label in runs)
        return not text[-1:].isspace() or self._frame(word.end) == frames

    def _frame(self, seconds: float) -> int:
        return round(seconds / self._seconds)

    def _give(self, words: list[Word], kept: int) -> list[Word]:
        """Return words with their times in the stream, and let go of the frames before `kept`."""
        offset = self._first * self._seconds
        self._first += kept
        self._logits = self._logits[kept:].copy()
        return [replace(word, start=offset + word.start, end=offset + word.end) for word in words]
