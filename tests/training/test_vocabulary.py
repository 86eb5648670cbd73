"""Vocabularies: normalised texts, encoded as labels and decoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.errors import ConfigError
from w2v_edge.model.config import CtcHeadConfig
from w2v_edge.training.vocabulary import Vocabulary, head_for, normalise


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=40))
def test_normalisation_is_idempotent(text: str) -> None:
    """Normalised texts have no punctuation and no double spaces."""
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())
    assert not set(once) & set('.,;:!?"()-_\n\t')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don\u2019t  stop!", "don't stop"),
        ("'Tis \u201cthe\u201d end'", "tis the end"),
        ("Ça, c'est déjà l'été.", "ça c'est déjà l'été"),
        ("e\u0301te\u0301", "été"),
        ("press 1-2-3", "press 1 2 3"),
        ("STRASSE\u00ad Straße", "strasse straße"),
        ("?!", ""),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("ﬁne №5", "fine no5"),
    ],
)
def test_texts_are_normalised(text: str, expected: str) -> None:
    """Accents, digits and apostrophes within words are kept; other characters are not."""
    assert normalise(text) == expected


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_decoding_inverts_encoding(texts: list[str]) -> None:
    """Every text is decoded from the labels of its characters, doubled letters included."""
    spoken = [x for x in map(normalise, texts) if x]
    vocabulary = Vocabulary(head_for(spoken))
    assert not vocabulary.missing(spoken)
    for text in spoken:
        labels = vocabulary.encode(text)
        path = [x for label in labels for x in (label, 0)]
        logits = np.full((len(path), vocabulary.head.size), -10.0, np.float32)
        logits[np.arange(len(path)), path] = 10.0
        assert vocabulary.decode(logits) == text


def _cased() -> Vocabulary:
    labels = ("<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "a", "É")
    return Vocabulary(CtcHeadConfig(len(labels), labels, 0, "|", labels[:4]))


def test_upper_case_labels_encode_lower_case_texts() -> None:
    """Lower-case labels come first; other characters are unknown; a space is the delimiter."""
    assert _cased().encode("ab éz") == [7, 6, 4, 8, 3]
    assert _cased().missing(["ab é", "z y"]) == ["y", "z"]


def test_characters_without_a_label_are_named() -> None:
    """The error names the option; a vocabulary without letters is refused."""
    with pytest.raises(ConfigError, match=r"lacks 2 characters of the texts: y z; .*--new-voc"):
        _cased().check_covers(["a z", "y"])
    _cased().check_covers(["ab é"])
    nameless = CtcHeadConfig(5, (), 0, "|", ())
    with pytest.raises(ConfigError, match="no labels, expected letters"):
        Vocabulary(nameless).check_covers(["a"])


def _vocabulary(*letters: str, delimiter: str | None = "|") -> Vocabulary:
    labels = ("<pad>", "<unk>", *([delimiter] if delimiter else []), *letters)
    return Vocabulary(CtcHeadConfig(len(labels), labels, 0, delimiter, ("<pad>", "<unk>")))


def _spelled(vocabulary: Vocabulary, text: str) -> list[str]:
    written = vocabulary.form.normalise(text)
    assert not vocabulary.missing([written])
    return [vocabulary.head.labels[i] for i in vocabulary.encode(written)]


@pytest.mark.parametrize(
    ("letters", "text", "expected"),
    [
        # Bengali letters with a nukta have two encodings, and NFKC has the longer one.
        ("\u09af \u09bc \u09df \u09be", "\u09df\u09be", "\u09df \u09be"),
        ("\u09af \u09bc \u09df \u09be", "\u09af\u09bc\u09be", "\u09df \u09be"),
        ("\u09af \u09df \u09be", "\u09df\u09be", "\u09df \u09be"),
        ("\u09af \u09bc \u09be", "\u09df\u09be", "\u09af \u09bc \u09be"),
        ("\u0915 \u0958", "\u0958\u0915", "\u0958 \u0915"),
        # Latin letters, composed and decomposed.
        ("e é", "e\u0301e", "é e"),
        ("e \u0301", "é", "e \u0301"),
        # Korean letters, one by one or in syllables, with those at the end of a syllable.
        ("ㄱ ㅎ ㅏ ㄴ", "ㅎㅏㄴ", "ㅎ ㅏ ㄴ"),
        ("ㄱ ㅎ ㅏ ㄴ", "한가", "ㅎ ㅏ ㄴ ㄱ ㅏ"),
        ("한 가", "한가", "한 가"),
        # Labels of several characters, the longest first.
        ("s c h sch a", "schas", "sch a s"),
        ("t h th e", "the", "th e"),
        # Format characters and punctuation that the labels hold.
        ("م ی \u200c خ", "می\u200cخ", "م ی \u200c خ"),
        ("م ی خ", "می\u200cخ", "م ی خ"),
        ("a b - .", "a-b.", "a - b ."),
        ("a b", "a-b.", "a | b"),
        ("a b \u2019", "a\u2019b", "a \u2019 b"),
        ("a b '", "a\u2019b", "a ' b"),
        # Case, where the labels hold both.
        ("a b A B", "Ab aB", "A b | a B"),
        ("A B", "Ab", "A B"),
        ("a b A B ß", "ẞ aß", "ß | a ß"),
    ],
)
def test_texts_are_compared_in_the_form_of_the_labels(
    letters: str, text: str, expected: str
) -> None:
    """Whatever the labels hold is found in a text, in either of its encodings."""
    assert _spelled(_vocabulary(*letters.split()), text) == expected.split()


def test_pieces_of_words_encode_words() -> None:
    """Pieces that begin a word begin it, and spell it back."""
    vocabulary = _vocabulary("▁he", "llo", "▁all", "▁", "h", delimiter=None)
    labels = _spelled(vocabulary, "Hello, all h")
    assert labels == ["▁he", "llo", "▁all", "▁", "h"]
    path = [x for label in vocabulary.encode("hello all h") for x in (label, 0)]
    logits = np.full((len(path), vocabulary.head.size), -10.0, np.float32)
    logits[np.arange(len(path)), path] = 10.0
    assert vocabulary.decode(logits) == "hello all h"


def test_what_no_label_spells_is_named_whole() -> None:
    """A letter is named with its accent, and what is dropped is counted."""
    vocabulary = _vocabulary("e", "x")
    assert vocabulary.missing([vocabulary.form.normalise("éxe")]) == ["é"]
    assert vocabulary.form.dropped("e, x! e,\u200d") == {",": 2, "!": 1, "\u200d": 1}
    assert not _vocabulary("e", ",", "!").form.dropped("e, e!")
