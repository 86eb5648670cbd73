"""CTC prefix beam search over labels that are pieces of words, such as `▁he` and `llo`.

Hypotheses are texts: paths of the same text are one hypothesis, in whatever pieces they spell it,
and their probabilities are summed. A language model scores words, each when it is complete.

Source: prefix beam search of Hannun et al., "First-Pass Large Vocabulary Continuous Speech
Recognition using Bi-Directional Recurrent DNNs" (2014), algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, takewhile
from operator import itemgetter
from typing import Any, Protocol, cast
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

Span = tuple[str, tuple[int, int]]
"""A word with its first frame and its end."""

Spans = tuple[Any, Span] | None
"""The complete words of a hypothesis, the last one first, as a linked list."""


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

    def before(self, count: int) -> _Words:
        """Return all words but the last `count`."""
        node = self
        for _ in range(count):
            node = cast("_Words", node.parent)
        return node


@dataclass(slots=True)
class _Paths:
    """The paths of a text with the same label in the last frame.

    Attributes:
        score: log-probability of all.
        start: first frame of the word that is not complete, on the likeliest path.
        end: end of the last frame that emits part of it.
        spans: the complete words with their frames.
    """

    score: float
    start: int = 0
    end: int = 0
    spans: Spans = None


Key = tuple[_Words, str, int]
"""Complete words, the part of the next, and the column of the last frame."""


class PrefixSearch:
    """A beam of hypotheses, which grows frame by frame.

    Words can be taken from the beam on the way, so that the rest stays short.
    """

    def __init__(
        self,
        texts: Sequence[str],
        beam_width: int,
        scorer: WordScorer | None = None,
        first: int = 0,
    ) -> None:
        """Start with the empty text.

        Args:
            texts: text of each column; the first is the blank's, which is empty. A text that begins
                with a space begins a word.
            beam_width: hypotheses kept per frame.
            scorer: the language model.
            first: number of the first frame.
        """
        self._texts, self._beam_width, self._scorer = texts, beam_width, scorer
        self._beams: dict[Key, _Paths] = {(_Words(scorer), "", BLANK): _Paths(0.0)}
        self._frames = first

    def push(self, row: npt.NDArray[np.floating[Any]]) -> None:
        """Grow by a frame, whose log-probabilities are (columns,)."""
        likely = np.flatnonzero(row >= min(LEAST_LIKELY, row.max()))
        labels = list(zip(likely.tolist(), row[likely].tolist(), strict=True))
        grown: dict[Key, _Paths] = {}
        for key, paths in self._beams.items():
            for column, score in labels:
                text = self._texts[column]
                _merge(grown, *_grow(key, paths, column, text, score, self._frames))
        self._beams = _prune(grown, self._beam_width, self._scorer)
        self._frames += 1

    def best(self, count: int = 1) -> list[list[Span]]:
        """Return the likeliest texts that the beam holds, as words; each text once."""
        complete: dict[_Words, _Paths] = {}
        for (words, part, _), paths in self._beams.items():
            spans = _spans(part, paths)
            _merge(complete, words.then(part), _Paths(paths.score, spans=spans))

        def total(words: _Words) -> float:
            end = 0.0 if self._scorer is None else self._scorer.end(words.context)
            return complete[words].score + words.score + end

        best = sorted(complete, key=total, reverse=True)[:count]
        return [_in_order(complete[words].spans) for words in best]

    def open(self) -> list[list[Span]]:
        """Return the words of each hypothesis, incomplete ones too; the likeliest's first."""
        return [_in_order(_spans(part, paths)) for (_, part, _), paths in self._beams.items()]

    def take_agreed(self) -> list[Span]:
        """Take the words that every hypothesis begins with, in the same frames."""
        all_spans = [_in_order(paths.spans) for paths in self._beams.values()]
        agreed = []
        for spans in zip(*all_spans, strict=False):
            if any(span != spans[0] for span in spans):
                break
            agreed.append(spans[0])
        if agreed:
            self._drop(agreed)
        return agreed

    def take_due(self, due: Callable[[Span], bool]) -> list[Span]:
        """Take the words of the likeliest hypothesis that are due, complete or not.

        Hypotheses with other words that are due are dropped.

        Args:
            due: whether a word is; if it is, all words before it are.
        """
        hypotheses = self.open()
        taken = list(takewhile(due, hypotheses[0]))
        if taken or any(spans and due(spans[0]) for spans in hypotheses):
            kept = [
                _texts(spans[: len(taken)]) == _texts(taken)
                and not any(map(due, spans[len(taken) : len(taken) + 1]))
                for spans in hypotheses
            ]
            self._beams = dict(compress(self._beams.items(), kept))
            self._drop(taken)
        return taken

    def _drop(self, taken: list[Span]) -> None:
        """Let all hypotheses, which begin with these words, begin after them."""
        beams: dict[Key, _Paths] = {}
        for (words, part, last), paths in self._beams.items():
            spans = _in_order(paths.spans)
            ends = len(spans) < len(taken)
            key = (words.then(part), "", last) if ends else (words, part, last)
            rest = spans[len(taken) :]
            key[0].before(len(rest)).parent = None
            kept = _Paths(paths.score, paths.start, paths.end)
            for span in rest:
                kept.spans = (kept.spans, span)
            _merge(beams, key, kept)
        self._beams = beams


def search(
    scores: npt.NDArray[np.floating[Any]],
    texts: Sequence[str],
    beam_width: int,
    scorer: WordScorer | None = None,
    count: int = 1,
) -> list[list[Span]]:
    """Find the likeliest texts.

    Args:
        scores: (frames, columns) log-probabilities.
        texts: see `PrefixSearch`.
        beam_width: hypotheses kept per frame.
        scorer: the language model.
        count: most texts to return, of those that the beam holds.

    Returns:
        For each text, the likeliest first, its words with their first frames and ends.
    """
    beam = PrefixSearch(texts, beam_width, scorer)
    for row in scores:
        beam.push(row)
    return beam.best(count)


def _grow(
    key: Key, paths: _Paths, column: int, text: str, score: float, frame: int
) -> tuple[Key, _Paths]:
    """Return a hypothesis one frame on, with a label."""
    words, part, last = key
    total, start, end, spans = paths.score + score, paths.start, paths.end, paths.spans
    if column != BLANK and text.strip():
        end = frame + 1
    if column in {BLANK, last}:
        return (words, part, column), _Paths(total, start, end, spans)
    if text.startswith(" "):
        words, spans = words.then(part), _spans(part, paths)
        part, text = "", text[1:]
    return (words, part + text, column), _Paths(total, start if part else frame, end, spans)


def _merge(beams: dict[Any, _Paths], key: Any, paths: _Paths) -> None:
    """Add paths to those of the same key; words' frames are the likelier one's."""
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


def _spans(part: str, paths: _Paths) -> Spans:
    """Return the words of paths, with the part of a word as the last one."""
    return (paths.spans, (part, (paths.start, paths.end))) if part else paths.spans


def _in_order(spans: Spans) -> list[Span]:
    found = []
    while spans is not None:
        spans, span = spans
        found.append(span)
    return found[::-1]


def _texts(spans: list[Span]) -> list[str]:
    return [text for text, _ in spans]
