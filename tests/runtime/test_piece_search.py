"""Beam search over pieces of words: the best of all texts, with and without a language model."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.test_beam_search import ARPA
from w2v_edge.bundle import CtcInfo
from w2v_edge.text import piece_search
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.segmentation import likeliest_labels
from w2v_edge.text.spelling import Spelling, log_softmax

FRAME = 0.02
SENTENCEPIECE = ("<pad>", "▁ba", "t", "d", "▁", "▁b", "a")
WORDPIECE = ("[PAD]", "ba", "##t", "##d", "b", "##a")
PHONEMES = ("<pad>", "a", "t", "ts")
LETTERS = ("<pad>", "|", "b", "a", "d", "t")
KINDS = {
    "SentencePiece": Spelling.of(SENTENCEPIECE, CtcInfo(0, None, ("<pad>",))),
    "without a lone mark": Spelling.of(("<pad>", "▁ba", "t", "▁bat"), CtcInfo(0, None, ("<pad>",))),
    "WordPiece": Spelling.of(WORDPIECE, CtcInfo(0, None, ("[PAD]",))),
    "phonemes": Spelling.of(PHONEMES, CtcInfo(0, None, ("<pad>",), separator=" ")),
    "special labels": Spelling.of((*SENTENCEPIECE[:4], "<s>"), CtcInfo(0, None, ("<pad>", "<s>"))),
}

Table = dict[str, float]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of "bat" and "bad"."""
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture(autouse=True)
def unpruned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the beam's width bounds the search."""
    monkeypatch.setattr(piece_search, "LEAST_LIKELY", -math.inf)
    monkeypatch.setattr(piece_search, "MAX_BEHIND", math.inf)


def _noise(spelling: Spelling, frames: int, seed: int, scale: float = 1.0) -> npt.NDArray[Any]:
    return scale * np.random.default_rng(seed).standard_normal((frames, len(spelling.texts)))


def _exhaustive(spelling: Spelling, logits: npt.NDArray[Any]) -> Table:
    """The log-probability of every text: the sum over all paths that spell it."""
    scores = log_softmax(logits)
    # What a path spells is told by the runs of its texts: silent labels are like the blank.
    found: dict[str, float] = defaultdict(lambda: -math.inf)
    for path in product(range(len(spelling.texts)), repeat=len(scores)):
        texts = [spelling.texts[x] for x in path]
        runs = [x for i, x in enumerate(texts) if i == 0 or texts[i - 1] != x]
        text = " ".join("".join(runs).split())
        score = sum(scores[i, x] for i, x in enumerate(path))
        found[text] = float(np.logaddexp(found[text], score))
    return dict(found)


BIGRAMS = {("<s>", "bat"): -0.2, ("bat", "</s>"): -0.3, ("bad", "</s>"): -2.0}
UNIGRAMS = {"bat": -0.7, "bad": -2.5, "</s>": -1.0}
BACKOFFS = {"<s>": -0.3, "bat": -0.3, "bad": -0.3}


def _language_score(text: str, alpha: float, beta: float) -> float:
    """The weighted score of a text by the definition of back-off models, in nats."""
    words = ["<s>", *text.split(), "</s>"]
    total = 0.0
    for before, word in pairwise(words):
        known = UNIGRAMS.get(word, -1.0 - 10.0)
        total += BIGRAMS.get((before, word), BACKOFFS.get(before, 0.0) + known)
    return alpha * total * math.log(10) + beta * len(text.split())


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(frames=st.integers(1, 4), seed=st.integers(0, 1_000), scale=st.sampled_from([0.5, 1.5, 3]))
def test_the_likeliest_text_is_found(kind: str, frames: int, seed: int, scale: float) -> None:
    """A wide beam finds the text of the highest sum over all paths; greedy's is not likelier."""
    spelling = KINDS[kind]
    logits = _noise(spelling, frames, seed, scale)
    table = _exhaustive(spelling, logits)
    found = BeamSearch(spelling, beam_width=10_000).decode(logits, FRAME).text
    assert table[found] == pytest.approx(max(table.values()), abs=1e-6)
    assert table[found] >= table[GreedyDecoder(spelling).decode(logits, FRAME).text]


@pytest.mark.parametrize("kind", ["SentencePiece", "without a lone mark", "WordPiece"])
@settings(deadline=None, max_examples=15)
@given(
    frames=st.integers(1, 4),
    seed=st.integers(0, 1_000),
    alpha=st.sampled_from([0.0, 0.5, 2.0]),
    beta=st.sampled_from([0.0, 1.5]),
)
def test_the_best_text_with_a_language_model_is_found(
    kind: str, frames: int, seed: int, alpha: float, beta: float, lm: Path
) -> None:
    """Its score is the text's log-probability and the weighted score of its words."""
    spelling = KINDS[kind]
    logits = _noise(spelling, frames, seed)
    table = {
        text: score + _language_score(text, alpha, beta)
        for text, score in _exhaustive(spelling, logits).items()
    }
    search = BeamSearch(spelling, lm=lm, alpha=alpha, beta=beta, beam_width=10_000)
    assert table[search.decode(logits, FRAME).text] == pytest.approx(max(table.values()), abs=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "special labels"])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.5, 2, 8]))
def test_a_beam_of_one_is_greedy(kind: str, seed: int, scale: float) -> None:
    """Text and word times are greedy's, whatever the logits; so are phonemes' confidences.

    Special labels are summed with the blank, which greedy decoding does not do.
    """
    spelling = KINDS[kind]
    logits = _noise(spelling, 40, seed, scale)
    found = BeamSearch(spelling, beam_width=1).decode(logits, FRAME)
    expected = GreedyDecoder(spelling).decode(logits, FRAME)
    assert found.text == expected.text
    for word, other in zip(found.words, expected.words, strict=True):
        assert word.text == other.text
        assert [word.start, word.end] == pytest.approx([other.start, other.end])
        if kind == "phonemes":
            assert word.confidence == pytest.approx(other.confidence)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_letters_are_found_as_the_library_finds_them(seed: int) -> None:
    """Letters after a lone mark are the letters of a vocabulary with a word delimiter."""
    letters = Spelling.of(LETTERS, CtcInfo(0, "|", ("<pad>",)))
    # One more piece, which is never heard, makes the same labels pieces.
    pieces = Spelling.of((*LETTERS[:1], "▁", *LETTERS[2:], "▁x"), CtcInfo(0, None, ("<pad>",)))
    logits = _noise(letters, 6, seed)
    silent = np.concatenate([logits, np.full((6, 1), -40.0)], axis=1)
    expected = BeamSearch(letters, beam_width=800).decode(logits, FRAME)
    found = BeamSearch(pieces, beam_width=800).decode(silent, FRAME)
    assert found.text == expected.text


def test_pieces_of_the_same_text_are_one_hypothesis() -> None:
    """Two ways to spell one word outweigh a likelier way to spell another."""
    spelling = Spelling.of(("", "▁hell", "▁he", "o", "llo", "▁ha"), CtcInfo(0, None, ()))
    logits = np.log([[1e-6, 0.3, 0.3, 1e-6, 1e-6, 0.4], [1e-6, 1e-6, 1e-6, 0.5, 0.5, 1e-6]])
    logits[1, 0] = np.log(1e-3)
    search = BeamSearch(spelling)
    (word,) = search.decode(logits, FRAME).words
    table = _exhaustive(spelling, logits)
    assert word.text == max(table, key=lambda x: table[x]) == "hello"
    assert GreedyDecoder(spelling).decode(logits, FRAME).text == "hao"
    assert 0 < word.confidence < 1


def test_the_language_model_decides_between_pieces(lm: Path) -> None:
    """What sounds like BAD is BAT where that is the word, in the case of the labels."""
    labels = ("<pad>", "▁BA", "T", "D", "▁")
    spelling = Spelling.of(labels, CtcInfo(0, None, ("<pad>",)))
    logits = np.full((5, 5), -9.0)
    logits[[0, 1, 2, 3, 4], [0, 1, 1, 3, 3]] = 5.0
    logits[3:, 2] = 4.7
    assert BeamSearch(spelling).decode(logits, FRAME).text == "BAD"
    (word,) = BeamSearch(spelling, lm=lm).decode(logits, FRAME).words
    assert word.text == "BAT"
    assert [word.start, word.end] == pytest.approx([FRAME, 5 * FRAME])
    assert 0 < word.confidence < 1
    many = np.concatenate([logits] * 4)
    assert BeamSearch(spelling, lm=lm).decode(many, FRAME).text == "BAT BAT BAT BAT"


def test_labels_of_both_cases_meet_words_of_one(tmp_path: Path) -> None:
    """A language model's words are compared in its case, final sigma included."""
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA.replace("bat", "λόγος").replace("bad", "λόγοι"), encoding="utf-8")
    labels = ("", "▁Λόγο", "▁λόγο", "Σ", "ς", "\u03b9")
    spelling = Spelling.of(labels, CtcInfo(0, None, ()))
    logits = np.full((2, 6), -9.0)
    logits[[0, 0, 1, 1], [1, 2, 3, 5]] = [5.0, 4.0, 4.9, 5.0]
    assert BeamSearch(spelling).decode(logits, FRAME).text == "Λόγοι"
    assert BeamSearch(spelling, lm=path).decode(logits, FRAME).text == "ΛόγοΣ"


@settings(deadline=None)
@given(
    seed=st.integers(0, 1_000), frames=st.integers(1, 5), word=st.sampled_from(["a", "ab", "aab"])
)
def test_a_word_is_made_of_its_likeliest_labels(seed: int, frames: int, word: str) -> None:
    """No path through other labels of the same text is likelier."""
    first, inner = {"a": 1, "ab": 2}, {"a": 3, "b": 4, "aa": 5}
    texts = ("", " a", " ab", "a", "b", "aa")
    scores = log_softmax(np.random.default_rng(seed).standard_normal((frames, 6)))
    best: tuple[float, list[int]] = (-math.inf, [])
    for path in product(range(6), repeat=frames):
        labels = [x for i, x in enumerate(path) if x and (i == 0 or path[i - 1] != x)]
        spelled = "".join(texts[x] for x in labels)
        score = float(sum(scores[i, x] for i, x in enumerate(path)))
        if spelled.strip() == word and score > best[0] and " " not in spelled.strip():
            best = (score, labels)
    assert likeliest_labels(scores, word, first, inner, 0) == best[1]


def test_a_long_recording(monkeypatch: pytest.MonkeyPatch, lm: Path) -> None:
    """Two thousand words of clear pieces are greedy's words, with the usual pruning."""
    monkeypatch.undo()
    spelling = KINDS["SentencePiece"]
    ids = np.random.default_rng(0).choice([0, 1, 1, 2, 3, 4], 12_000)
    logits = np.zeros((len(ids), len(spelling.texts)), np.float32)
    logits[np.arange(len(ids)), ids] = 12
    expected = GreedyDecoder(spelling).decode(logits, FRAME)
    assert len(expected.words) > 2_000
    assert BeamSearch(spelling).decode(logits, FRAME).text == expected.text
    assert BeamSearch(spelling, lm=lm, alpha=0.0, beta=0.0).decode(logits, FRAME).words
