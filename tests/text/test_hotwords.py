"""Words that a beam search favours, in the spelling of the labels."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import InputError
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.hotwords import spell_hotwords
from w2v_edge.text.spelling import Spelling

LABELS = ("<pad>", "|", "a", "n", "é", "e\u0302", "\u0323", "'")


@pytest.mark.parametrize(
    ("texts", "word", "spelled"),
    [
        (("", "é", "n"), "e\u0301n", "én"),
        (("", "e\u0301", "n"), "\u00c9N", "e\u0301n"),
        (("", "E", "\u0301"), "é", "E\u0301"),
        # Accents that the labels hold with the letter, and apart, in an order of their own.
        (("", "e\u0302", "\u0323"), "\u1ec7", "e\u0302\u0323"),
        (("", " a", "n", "\u2019"), "A\u2019n", "a\u2019n"),
        (("", "a", "n", "'"), "a\u2019n", "a'n"),
        (("", "A", "a", "n"), "An", "An"),
        (("", " tʃ", " a"), "tʃ", "tʃ"),
    ],
)
def test_hotwords_are_spelled_as_labels_are(
    texts: tuple[str, ...], word: str, spelled: str
) -> None:
    """In the case and the Unicode form of the labels, however they are written."""
    for form in ("NFC", "NFD"):
        assert spell_hotwords(texts, [unicodedata.normalize(form, word)]) == [spelled]


@pytest.mark.parametrize(
    ("hotwords", "words"),
    [
        ("anna", r"'anna', expected a list of words"),
        (None, r"None, expected a list of words"),
        (3, r"3, expected a list of words"),
        (["anna", None], r"hotword None, expected a word"),
        ([b"anna"], r"hotword b'anna', expected a word"),
        (["an-na"], r"'an-na', .* cannot spell \(-\)"),
        (["xa"], r"'xa', .* cannot spell \(x\)"),
    ],
)
def test_what_is_no_list_of_words(hotwords: Any, words: str) -> None:
    """A text alone would favour its letters: it is refused, as all else that is no word."""
    spelling = Spelling.of(LABELS, CtcInfo(0, "|", ("<pad>",)))
    with pytest.raises(InputError, match=words):
        BeamSearch(spelling, hotwords=hotwords)


def test_weights_that_are_no_numbers() -> None:
    """They are refused by their names."""
    spelling = Spelling.of(LABELS, CtcInfo(0, "|", ("<pad>",)))
    wrong: Any = "9"
    with pytest.raises(InputError, match="hotword weight '9', expected a finite number"):
        BeamSearch(spelling, hotwords=["anna"], hotword_weight=wrong)
