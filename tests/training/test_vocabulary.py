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
