"""CTC prefix beam search over labels that are pieces of words, such as `▁he` and `llo`.

Hypotheses are texts: paths of the same text are one hypothesis, in whatever pieces they spell it,
and their probabilities are summed. A language model scores words, each when it is complete.

Source: prefix beam search of Hannun et al., "First-Pass Large Vocabulary Continuous Speech
Recognition using Bi-Directional Recurrent DNNs" (2014), algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

BLANK = 0
"""Column of the blank."""

LEAST_LIKELY = -5.0
"""Log-probability below which a label is tried only if it is its frame's best."""

MAX_BEHIND = 10.0
"""Nats behind the best hypothesis at which one is dropped, whatever the beam's width."""

CONTEXT = 5
"""Words before a word that a language model regards: KenLM's longest n-grams have six."""

START = "<s>"
"""The word that begins the context of a recording's first words."""

Times = tuple[Any, tuple[int, int]] | None
"""First frame and end of each complete word, the last one first, as a linked list."""


class WordScorer(Protocol):
    """A language model; scores are weighted natural logarithms."""

    def word(self, context: tuple[str, ...], word: str) -> float:
        """Score a complete word after at most `CONTEXT` words."""
        ...

    def beginning(self, part: str) -> float:
        """Return a bound for the scores of all words that begin so."""
        ...

    def end(self, context: tuple[str, ...]) -> float:
        """Score the end of the text after these words."""
        ...


class _Words:
    """The complete words of a hypothesis: equal words are the same object.

    Attributes:
        parent: all words but the last; None without any.
        word: the last word.
        score: the language model's, of all words.
        context: the last words, with the mark of the beginning.
    """

    __slots__ = ("__weakref__", "_children", "_scorer", "context", "parent", "score", "word")

    def __init__(
        self, scorer: WordScorer | None, parent: _Words | None = None, word: str = ""
    ) -> None:
        self.parent, self.word, self.score = parent, word, 0.0
        self.context: tuple[str, ...] = (START,)
        if parent is not None and scorer is not None:
            self.score = parent.score + scorer.word(parent.context, word)
            self.context = (*parent.context, word)[-CONTEXT:]
        self._scorer = scorer
        self._children: WeakValueDictionary[str, _Words] = WeakValueDictionary()

    def then(self, word: str) -> _Words:
        """Return these words and another; without another, these."""
        if not word:
            return self
        child = self._children.get(word)
        if child is None:
            child = self._children[word] = _Words(self._scorer, self, word)
        return child

    def __iter__(self) -> Iterator[str]:
        """Yield the words, the last one first."""
        node = self
        while node.parent is not None:
            yield node.word
            node = node.parent


@dataclass(slots=True)
class _Paths:
    """The paths of a text with the same label in the last frame.

    Attributes:
        score: log-probability of all.
        start: first frame of the word that is not complete, on the likeliest path.
        end: end of the last frame that emits part of it.
        times: frames of the complete words.
    """

    score: float
    start: int = 0
    end: int = 0
    times: Times = None


Key = tuple[_Words, str, int]
"""Complete words, the part of the next, and the column of the last frame."""


def search(
    scores: npt.NDArray[np.floating[Any]],
    texts: Sequence[str],
    beam_width: int,
    scorer: WordScorer | None = None,
    count: int = 1,
) -> list[list[tuple[str, tuple[int, int]]]]:
    """Find the likeliest texts.

    Args:
        scores: (frames, columns) log-probabilities.
        texts: text of each column; the first is the blank's, which is empty. A text that begins
            with a space begins a word.
        beam_width: hypotheses kept per frame.
        scorer: the language model.
        count: most texts to return, of those that the beam holds.

    Returns:
        For each text, the likeliest first, its words with their first frames and ends.
    """
    beams: dict[Key, _Paths] = {(_Words(scorer), "", BLANK): _Paths(0.0)}
    for frame, row in enumerate(scores):
        likely = np.flatnonzero(row >= min(LEAST_LIKELY, row.max()))
        labels = list(zip(likely.tolist(), row[likely].tolist(), strict=True))
        grown: dict[Key, _Paths] = {}
        for key, paths in beams.items():
            for column, score in labels:
                _merge(grown, *_grow(key, paths, column, texts[column], score, frame))
        beams = _prune(grown, beam_width, scorer)
    return _best(beams, scorer, count)


def _grow(
    key: Key, paths: _Paths, column: int, text: str, score: float, frame: int
) -> tuple[Key, _Paths]:
    """Return a hypothesis one frame on, with a label."""
    words, part, last = key
    total, start, end, times = paths.score + score, paths.start, paths.end, paths.times
    if column != BLANK and text.strip():
        end = frame + 1
    if column in {BLANK, last}:
        return (words, part, column), _Paths(total, start, end, times)
    if text.startswith(" "):
        if part:
            words, times = words.then(part), (times, (paths.start, paths.end))
        part, text = "", text[1:]
    return (words, part + text, column), _Paths(total, start if part else frame, end, times)


def _merge(beams: dict[Any, _Paths], key: Any, paths: _Paths) -> None:
    """Add paths to those of the same key; times are the likelier one's."""
    other = beams.get(key)
    if other is not None:
        high, low = (paths, other) if paths.score > other.score else (other, paths)
        high.score += math.log1p(math.exp(low.score - high.score))
        paths = high
    beams[key] = paths


def _prune(
    beams: dict[Key, _Paths], beam_width: int, scorer: WordScorer | None
) -> dict[Key, _Paths]:
    """Keep the best hypotheses."""

    def total(item: tuple[Key, _Paths]) -> float:
        (words, part, _), paths = item
        ahead = scorer.beginning(part) if scorer is not None and part else 0.0
        return paths.score + words.score + ahead

    scored = [(total(item), item) for item in beams.items()]
    scored.sort(key=itemgetter(0), reverse=True)
    least = scored[0][0] - MAX_BEHIND
    return dict(item for score, item in scored[:beam_width] if score >= least)


def _best(
    beams: dict[Key, _Paths], scorer: WordScorer | None, count: int
) -> list[list[tuple[str, tuple[int, int]]]]:
    """Return the words of the best texts, once all their words are complete."""
    complete: dict[_Words, _Paths] = {}
    for (words, part, _), paths in beams.items():
        times = (paths.times, (paths.start, paths.end)) if part else paths.times
        _merge(complete, words.then(part), _Paths(paths.score, times=times))

    def total(words: _Words) -> float:
        end = 0.0 if scorer is None else scorer.end(words.context)
        return complete[words].score + words.score + end

    best = sorted(complete, key=total, reverse=True)[:count]
    return [_with_times(words, complete[words].times) for words in best]


def _with_times(words: _Words, times: Times) -> list[tuple[str, tuple[int, int]]]:
    spans: list[tuple[int, int]] = []
    while times is not None:
        times, span = times
        spans.append(span)
    return list(zip(list(words)[::-1], spans[::-1], strict=True))
