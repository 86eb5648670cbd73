"""A word's confidence is the probability of its labels over its frames, by the sum over paths."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.bundle import CtcInfo
from w2v_edge.text import confidence
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.spelling import Spelling, log_softmax

FRAME = 0.02
LABELS = ("<pad>", "|", "a", "b", "<s>")
SPELLING = Spelling.of(LABELS, CtcInfo(0, "|", ("<pad>", "<s>")))


def _probability(scores: Any, labels: Any, blank: int = 0) -> float:
    """The probability of labels, cut at any frames where there are many."""
    starts = np.linspace(0, len(scores) - 1, len(labels)).astype(np.intp)
    return confidence.label_probability(scores, np.array(labels), starts, blank)


def _spelled(path: tuple[int, ...]) -> list[int]:
    return [x for i, x in enumerate(path) if x and (i == 0 or path[i - 1] != x)]


@given(
    frames=st.integers(1, 5),
    labels=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    seed=st.integers(0, 1_000),
)
def test_it_is_the_sum_over_paths(frames: int, labels: list[int], seed: int) -> None:
    """Equal to the sum over all paths that spell the labels; those of all labellings sum to 1."""
    scores = log_softmax(np.random.default_rng(seed).standard_normal((frames, 3)))
    table: dict[tuple[int, ...], float] = {}
    for path in product(range(3), repeat=frames):
        score = float(np.exp(sum(scores[i, x] for i, x in enumerate(path))))
        spelled = tuple(_spelled(path))
        table[spelled] = table.get(spelled, 0.0) + score
    found = _probability(scores, np.array(labels), 0)
    assert found == pytest.approx(table.get(tuple(labels), 0.0), abs=1e-9)
    total = sum(_probability(scores, np.array(x), 0) for x in table if x)
    assert total == pytest.approx(1 - table[()], abs=1e-9)


@given(seed=st.integers(0, 1_000), scale=st.sampled_from([0.3, 1.0, 3.0]))
def test_it_grows_with_certainty(seed: int, scale: float) -> None:
    """What favours the best labels raises every word's confidence, up to 1; all lie in [0, 1]."""
    logits = scale * np.random.default_rng(seed).standard_normal((60, len(LABELS)))
    best = np.eye(len(LABELS))[logits.argmax(axis=1)]
    before: list[float] = []
    for more in (0.0, 0.5, 1.0, 2.0, 4.0, 40.0):
        words = GreedyDecoder(SPELLING).decode(logits + more * best, FRAME).words
        found = [word.confidence for word in words]
        assert all(0 <= x <= 1 for x in found)
        assert all(x >= y - 1e-9 for x, y in zip(found, before, strict=False))
        before = found
    assert before == pytest.approx([1.0] * len(before))


def test_a_label_in_doubt_counts_in_a_long_word() -> None:
    """One label in doubt makes a word doubtful, however many certain labels it has."""
    ids = [2, 0, 3, 0] * 10
    logits = 30 * np.eye(len(LABELS))[ids]
    logits[6, 2] = logits[6, 3] + 0.1
    (word,) = GreedyDecoder(SPELLING).decode(logits, FRAME).words
    assert word.confidence == pytest.approx(1 / (1 + np.exp(-0.1)), rel=1e-6)


@given(seed=st.integers(0, 1_000))
def test_special_labels_are_like_the_blank(seed: int) -> None:
    """Greedy decoding and beam search give the same to the same word in the same frames."""
    logits = np.random.default_rng(seed).standard_normal((40, len(LABELS)))
    logits += 6 * np.eye(len(LABELS))[np.random.default_rng(seed).integers(0, 5, 40)]
    greedy = GreedyDecoder(SPELLING).decode(logits, FRAME).words
    searched = BeamSearch(SPELLING, beam_width=1).decode(logits, FRAME).words
    pairs = [(x, y) for x in greedy for y in searched if (x.text, x.start) == (y.text, y.start)]
    for word, other in pairs:
        if word.end == other.end:
            assert word.confidence == pytest.approx(other.confidence, rel=1e-5)


def test_long_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word without an end takes time in proportion to its length, in parts at its labels."""
    ids = np.random.default_rng(0).integers(1, 5, 30_000)
    spelling = Spelling.of(LABELS, CtcInfo(0, None, ("<pad>", "|", "<s>")))
    logits = 14 * np.eye(len(LABELS), dtype=np.float32)[ids]
    (word,) = GreedyDecoder(spelling).decode(logits[:400], FRAME).words
    monkeypatch.setattr(confidence, "LONGEST", 40)
    (in_parts,) = GreedyDecoder(spelling).decode(logits[:400], FRAME).words
    assert in_parts.confidence == pytest.approx(word.confidence, rel=0.01)
    assert 0 < in_parts.confidence <= word.confidence
    monkeypatch.undo()
    (word,) = GreedyDecoder(spelling).decode(logits, FRAME).words
    assert 0 < word.confidence < 1


def test_labels_that_do_not_fit() -> None:
    """Fewer frames than the labels take give 0; so do labels that are impossible."""
    scores = log_softmax(np.zeros((2, 3)))
    assert _probability(scores, np.array([1, 1]), 0) == 0
    assert _probability(scores, np.array([1, 2]), 0) == pytest.approx(1 / 9)
    scores[:, 1] = -np.inf
    assert _probability(scores, np.array([1]), 0) == 0
