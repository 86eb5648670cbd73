"""Texts and labels: normalised once and for all, spelled and read back."""

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
def test_what_is_normalised_stays(text: str) -> None:
    """Twice is as once; no punctuation, no double spaces, nothing in upper case."""
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
    """Accents, digits and apostrophes within words stay; the rest parts words or vanishes."""
    assert normalise(text) == expected


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_what_is_spelled_is_read_back(texts: list[str]) -> None:
    """With labels of its own characters every text survives, doubled letters too."""
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


def test_labels_in_upper_case_spell_texts_in_lower_case() -> None:
    """A label in lower case is taken first; what has none is unknown, a space is the delimiter."""
    assert _cased().encode("ab éz") == [7, 6, 4, 8, 3]
    assert _cased().missing(["ab é", "z y"]) == ["y", "z"]


def test_characters_without_a_label_are_named() -> None:
    """In one line, with what to do; labels that are no letters are refused as a whole."""
    with pytest.raises(ConfigError, match=r"lacks 2 characters of the texts: y z; .*--new-voc"):
        _cased().check_covers(["a z", "y"])
    _cased().check_covers(["ab é"])
    nameless = CtcHeadConfig(5, (), 0, "|", ())
    with pytest.raises(ConfigError, match="no labels, expected letters"):
        Vocabulary(nameless).check_covers(["a"])
