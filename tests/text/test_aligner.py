"""The times of written words, lines and labels."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import InputError
from w2v_edge.text.aligner import Aligner
from w2v_edge.text.spelling import Spelling

LABELS = ("<pad>", "|", *"abcdeilort", "é", "ch")
BLANK, DELIMITER = 0, 1
CTC = CtcInfo(BLANK, "|", ("<pad>",))
SECONDS = 0.02

Logits = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    """For labels of letters."""
    return Aligner(Spelling.of(LABELS, CTC), LABELS)


def _says(*labels: str) -> Logits:
    """Logits of a frame for each label, blanks between."""
    columns = [0, *(x for label in labels for x in (LABELS.index(label), 0))]
    return 12 * np.eye(len(LABELS))[columns]


def test_words_and_labels(aligner: Aligner) -> None:
    """Words as written, in the case and the form of the labels, from first label to last."""
    logits = _says("ch", "a", "r", "|", "é")
    found = aligner.align(logits, "  CHar ,\n e\u0301! ", SECONDS)
    assert [x.word for x in found.words] == ["CHar", "e\u0301!"]
    assert found.unaligned == (",",)
    assert [x.label for x in found.labels] == ["ch", "a", "r", "|", "é"]
    assert [x.frame for x in found.labels] == [1, 3, 5, 7, 9]
    assert [x.end_frame for x in found.labels] == [2, 4, 6, 8, 10]
    first, last = found.words
    assert (first.start, first.end) == pytest.approx((1 * SECONDS, 6 * SECONDS))
    assert (last.start, last.end) == pytest.approx((9 * SECONDS, 10 * SECONDS))
    assert [x.text for x in found.lines] == ["CHar ,", "e\u0301!"]
    scores = [x.score for x in found.words] + [x.score for x in found.labels]
    assert min(scores + [x.score for x in found.lines]) > 0.99
    assert any("no time" in remark for remark in found.remarks)


def test_characters_without_a_label(aligner: Aligner) -> None:
    """They take a wildcard, or nothing, or are named, as asked; the rest keeps its times."""
    logits, text = _says("a", "|", "d", "e", "|", "b"), "a 47 b \U0001f600"
    starred = aligner.align(logits, text, SECONDS)
    assert [x.word for x in starred.words] == ["a", "47", "b"]
    assert [x.label for x in starred.labels] == ["a", "|", "*", "|", "b"]
    assert 2 * SECONDS < starred.words[1].start < starred.words[1].end < 11 * SECONDS
    skipped = replace(aligner, unknown="skip").align(logits, text, SECONDS)
    assert [x.word for x in skipped.words] == ["a", "b"]
    assert skipped.unaligned == ("47", "\U0001f600")
    with pytest.raises(InputError, match="2 characters without a label: 4 7;"):
        replace(aligner, unknown="error").align(logits, text, SECONDS)
    (joined,) = replace(aligner, unknown="skip").align(logits, "7-a-7-b-", SECONDS).words
    assert [x.label for x in joined.labels] == ["a", "|", "b"]
    with pytest.raises(InputError, match="1 words without a label: 47;"):
        replace(aligner, unknown="skip", strict=True).align(logits, text, SECONDS)
    assert any("characters without a label" in x for x in starred.remarks)
    roman = replace(aligner, romanize={"ж": "a", "д": "b"}.__getitem__)
    assert [x.label for x in roman.align(logits, "ж д", SECONDS).labels] == ["a", "|", "b"]


def test_marks_without_a_label_take_no_time(aligner: Aligner) -> None:
    """The letter that a mark is on keeps its frames."""
    logits = _says("a", "b", "e")
    found = aligner.align(logits, "a\u0323be\u0302", SECONDS)
    assert [x.label for x in found.labels] == ["a", "b", "e"]
    assert found.score > 0.99
    assert replace(aligner, unknown="error").align(logits, "a\u0323be", SECONDS).words


def test_wrong_arguments(aligner: Aligner) -> None:
    """They are typed errors."""
    with pytest.raises(InputError, match="expected one of star"):
        replace(aligner, unknown="bad")  # type: ignore[arg-type]
    for text in (None, 3, b"a", [None], [b"a"], "a\ud800b"):
        with pytest.raises(InputError, match="not Unicode text"):
            aligner.align(_says("a"), text, SECONDS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found romanize 'uroman', expected a function"):
        replace(aligner, romanize="uroman")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("romanize", "words"),
    [
        (lambda _: None, "found None from romanize for 'a', expected a text"),
        (lambda _: "\ud800", "found '.ud800' from romanize for 'a'"),
        ({}.__getitem__, r"romanize failed for 'a' \(KeyError: 'a'\)"),
        (lambda x, y: x + y, r"romanize failed for 'a' \(TypeError: .* missing 1"),
    ],
)
def test_functions_that_do_not_romanize(aligner: Aligner, romanize: Any, words: str) -> None:
    """The error says for which word they gave what."""
    with pytest.raises(InputError, match=words) as refused:
        replace(aligner, romanize=romanize).align(_says("a"), "a", SECONDS)
    assert "\n" not in str(refused.value)


def test_texts_that_do_not_belong(aligner: Aligner) -> None:
    """An empty text is refused, one that the audio does not say has a low score and a remark."""
    logits = _says("a", "|", "d", "e", "|", "b")
    for empty in ("", " \n ", "?!", "\U0001f600"):
        with pytest.raises(InputError, match="no words to align"):
            aligner.align(logits, empty, SECONDS)
    wrong = aligner.align(logits, "clot i", SECONDS)
    assert wrong.score < 0.01
    assert any("fits the audio badly" in x for x in wrong.remarks)
    assert not aligner.align(logits, "a de b", SECONDS).remarks


def test_one_right_word_does_not_hide_wrong_ones(aligner: Aligner) -> None:
    """A long word that fits lifts the score of a text of which most was not spoken."""
    logits = _says(*"abecedarialbiocidal", "|", "d", "|", "e")
    found = aligner.align(logits, "abecedarialbiocidal i o", SECONDS)
    assert found.score > 0.1
    assert any("fits the audio badly" in x for x in found.remarks)


@pytest.mark.parametrize(
    ("labels", "text", "shown"),
    [
        (("<pad>", "▁", "▁al", "l", "▁the", "o"), "All theo", ["▁al", "l", "▁the", "o"]),
        (("<pad>", "al", "##l", "o"), "all o", ["al", "##l", "o"]),
    ],
)
def test_pieces_of_words(labels: tuple[str, ...], text: str, shown: list[str]) -> None:
    """Pieces that begin or continue a word need no delimiter."""
    aligner = Aligner(Spelling.of(labels, CtcInfo(0, None, ("<pad>",))), labels)
    found = aligner.align(np.zeros((20, len(labels))), text, SECONDS)
    assert [x.label for x in found.labels] == shown
    assert len(found.words) == 2


def test_phonemes() -> None:
    """Labels that are units are the text's words."""
    labels = ("<pad>", "t", "tʃ", "ts")
    info = CtcInfo(0, None, ("<pad>",), separator=" ")
    aligner = Aligner(Spelling.of(labels, info), labels)
    found = aligner.align(np.zeros((9, 4)), "tʃ ts t x", SECONDS)
    assert [x.label for x in found.labels] == ["tʃ", "ts", "t", "*"]
    spoken = replace(aligner, romanize={"chats": "tʃ x ts"}.__getitem__)
    found = spoken.align(np.zeros((9, 4)), "chats", SECONDS)
    assert [x.label for x in found.words[0].labels] == ["tʃ", "*", "ts"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_phonemes_in_either_unicode_form(form: Literal["NFC", "NFD"]) -> None:
    """Labels and texts may be composed or decomposed; what only looks alike stays apart."""
    labels = ("<pad>", "o\u0303", "\u00e3", "t\u02b0", "t")
    aligner = Aligner(Spelling.of(labels, CtcInfo(0, None, ("<pad>",), separator=" ")), labels)
    text = unicodedata.normalize(form, "\u00f5 a\u0303 t\u02b0 t th")
    found = aligner.align(np.zeros((9, 5)), text, SECONDS)
    assert [x.label for x in found.labels] == [*labels[1:], "*"]


def test_delimiters_between_phonemes() -> None:
    """Phonemes that are apart have none; one that is written is aligned, and is no word."""
    labels = ("<pad>", "|", "t", "d")
    aligner = Aligner(Spelling.of(labels, CtcInfo(0, "|", ("<pad>",), separator=" ")), labels)
    found = aligner.align(np.zeros((9, 4)), "t d", SECONDS)
    assert [x.label for x in found.labels] == ["t", "d"]
    found = aligner.align(np.zeros((9, 4)), "t | d", SECONDS)
    assert [x.label for x in found.labels] == ["t", "|", "d"]
    assert [(x.word, x.position) for x in found.words] == [("t", 0), ("d", 2)]
    assert not found.unaligned


def test_a_vocabulary_with_an_asterisk() -> None:
    """A label `*` is told from characters without one by its index."""
    labels = ("<pad>", "|", "a", "*")
    aligner = Aligner(Spelling.of(labels, CtcInfo(0, "|", ("<pad>",))), labels)
    found = aligner.align(np.zeros((9, 4)), "a* 7", SECONDS)
    assert [(x.label, x.index) for x in found.labels] == [("a", 2), ("*", 3), ("|", 1), ("*", None)]


HOSTILE = (
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 a",
    "4 7\u00bd \u2167 b 7-a-7 7-7",
    "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c",
    "a" + "\u0301" * 500 + " b e" + "\u0323\u0302" * 9,
    "\u0301\u0301 a",
    "\0a\0 \0",
    "?! ... \u2014",
    "",
    " \t\r\n\x1c\u2028\u3000",
    "\ufdfa \ufb03 \u1e9e \u0130",
    "\u4f60\u597d \u3053\u3093 \ud55c\uae00 a",
    "| * <pad> \u2581 ##",
    "a\ufeff\u200bb \ufffd\uffff\U0010ffff",
)


def _check(aligner: Aligner, text: str) -> None:
    """Each word has times within the recording, in order, or is named; nothing else is raised."""
    logits = np.random.default_rng(1).standard_normal((300, len(LABELS)))
    written = text.split()
    pieces = [label for word in written for _, label in aligner.pieces(word)]
    if not any(label != DELIMITER and (label or aligner.unknown == "star") for label in pieces):
        with pytest.raises(InputError, match="no words to align"):
            aligner.align(logits, text, SECONDS)
        return
    if 2 * len(pieces) > len(logits):
        return
    found = aligner.align(logits, text, SECONDS)
    timed = {x.position: x.word for x in found.words}
    unaligned = iter(found.unaligned)
    assert [timed.get(i) or next(unaligned) for i in range(len(written))] == written
    times = [time for x in found.labels for time in (x.start, x.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= len(logits) * SECONDS
    assert all(x.start < x.end and 0 <= x.score <= 1 for x in found.labels)
    assert all(x.start < x.end and 0 <= x.score <= 1 for x in found.words)
    spans = [time for x in found.words for time in (x.start, x.end)]
    assert spans == sorted(spans)
    assert [x for line in found.lines for x in line.words] == list(found.words)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("unknown", ["star", "skip"])
def test_hostile_texts(aligner: Aligner, text: str, unknown: Literal["star", "skip"]) -> None:
    """Emoji, numbers, scripts from right to left, heaps of marks, controls, other languages."""
    _check(replace(aligner, unknown=unknown), text)


@settings(deadline=None)
@given(text=st.text(max_size=80) | st.text("abcé 7'-\n\u0301", max_size=150))
def test_any_text(text: str) -> None:
    """Random texts, of all characters and of those that have labels."""
    _check(Aligner(Spelling.of(LABELS, CTC), LABELS), text)


def test_very_long_words_and_texts(aligner: Aligner) -> None:
    """They are counted, not searched: the error comes at once."""
    logits = _says("a")
    for text in ("ab" * 50_000, "7a" * 50_000, "a " * 50_000):
        with pytest.raises(InputError, match=r"found 3 frames of audio for \d+ labels"):
            aligner.align(logits, text, SECONDS)
    found = aligner.align(logits, "7" * 100_000, SECONDS)
    assert [x.label for x in found.labels] == ["*"]
    assert max(map(len, found.remarks)) < 200
