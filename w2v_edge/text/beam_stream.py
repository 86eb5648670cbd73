"""Beam search over the logits of a stream: partial words at once, final words after a delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.decoding import LONGEST_WORD, Word
from w2v_edge.text.label_columns import LabelColumns, WordReader
from w2v_edge.text.piece_search import PrefixSearch, Span

DELAY = 2.0
"""Seconds from the end of a word until it is final, at most."""


class BeamStream:
    """Decodes the logits of a stream by beam search; from `BeamSearch.stream`.

    A word is final as soon as all hypotheses begin with it, or `delay` seconds of logits after its
    end: then the likeliest hypothesis decides, and those with other words are dropped. A word that
    has no end counts as ended after `LONGEST_WORD`. Frames before the first word that is not final
    are not kept, so that memory stays flat. With an infinite delay nothing is decided before
    `flush`, and the words are those of a search over the whole recording; memory then grows with
    what is left open.

    How logits are divided into blocks changes no word.
    """

    def __init__(
        self,
        labels: LabelColumns,
        start: Callable[[int], PrefixSearch],
        frame_seconds: float,
        delay: float = DELAY,
    ) -> None:
        """Start an empty stream.

        Args:
            labels: of the model.
            start: starts a search, given the number of its first frame.
            frame_seconds: seconds between frames of logits.
            delay: see the class.

        Raises:
            InputError: a negative delay, or NaN.
        """
        if not delay >= 0:
            raise InputError(f"found a delay of {delay:g} s, expected 0 or more")
        self._labels, self._start = labels, start
        self._reader = WordReader(labels.texts, labels.texts)
        self._seconds, self._delay = frame_seconds, delay
        self._beam = start(0)
        self._frames = 0
        self._rest = np.zeros((0, len(labels.texts)), np.float32)
        self._ended = 0.0

    def push(self, logits: npt.NDArray[Any]) -> list[Word]:
        """Add logits (frames, labels) and return the words that are final now.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        scores = self._labels.scores(logits)
        self._rest = np.concatenate([self._rest, scores])
        spans: list[Span] = []
        for row in scores:
            self._beam.push(row)
            self._frames += 1
            spans += self._beam.take_due(self._is_due)
        spans += self._beam.take_agreed()
        words = self._words(spans)
        self._forget()
        return words

    def flush(self) -> list[Word]:
        """Return the remaining words, and start anew.

        Times go on after the frames so far.
        """
        (spans,) = self._beam.best()
        words = self._words(spans)
        self._beam = self._start(self._frames)
        self._forget()
        return words

    @property
    def partial(self) -> list[Word]:
        """Words of the likeliest hypothesis that are not final; the last may be incomplete."""
        return self._read(self._beam.open()[0])

    def _is_due(self, span: Span) -> bool:
        _, (first, end) = span
        now = self._frames * self._seconds - self._delay
        return end * self._seconds <= now or first * self._seconds <= now - LONGEST_WORD

    def _words(self, spans: list[Span]) -> list[Word]:
        """Return final words in order: that before may be of a hypothesis that was dropped."""
        words = []
        for word in self._read(spans):
            start = max(word.start, self._ended)
            self._ended = max(word.end, start)
            words.append(replace(word, start=start, end=self._ended))
        return words

    def _read(self, spans: list[Span]) -> list[Word]:
        """Return words with their times in the stream."""
        before = self._frames - len(self._rest)
        words = []
        for text, (first, end) in spans:
            here = (text, (first - before, end - before))
            word, _, _ = self._reader.read(self._rest, here, self._seconds)
            start, stop = first * self._seconds, end * self._seconds
            words.append(replace(word, start=start, end=stop))
        return words

    def _forget(self) -> None:
        """Drop the frames before all words that are not final."""
        starts = [spans[0][1][0] for spans in self._beam.open() if spans]
        first = min(starts, default=self._frames)
        self._rest = self._rest[first - self._frames + len(self._rest) :].copy()
