"""Labels of a text: a text that labels can spell is spelled."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.text.labelling import Labelling
from w2v_edge.text.spelling import Spelling


def _pieces(labels: tuple[str, ...], text: str) -> list[str | None]:
    found = Labelling(Spelling(0, ("", *labels))).pieces(text)
    return [None if label is None else ("", *labels)[label] for _, label in found]


@pytest.mark.parametrize(
    ("labels", "text", "expected"),
    [
        (("ab", "abc", "cd"), "abcd", ["ab", "cd"]),
        (("ab", "abc", "d"), "abcd", ["abc", "d"]),
        (("a", "b", "ab"), "ab", ["ab"]),
        (("aa", "aaa"), "aaaaa", ["aaa", "aa"]),
        (("ab", "b"), "abxb", ["ab", None, "b"]),
        # A space that no label needs costs less than a letter.
        ((" a", "ab"), "ab", [None, "ab"]),
        (("ab", "a", "b\u0302"), "ab\u0302", ["a", "b\u0302"]),
    ],
)
def test_the_longest_label_that_leaves_the_fewest_characters(
    labels: tuple[str, ...], text: str, expected: list[str | None]
) -> None:
    """Longer labels come first, unless what follows them could not be spelled."""
    assert _pieces(labels, text) == expected


@given(
    labels=st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4, unique=True),
    text=st.text("ab", max_size=6),
)
def test_what_labels_can_spell_is_spelled(labels: list[str], text: str) -> None:
    """Every text that is a sequence of labels has one; no other has."""
    counts = range(len(text) + 1)
    spellable = any("".join(x) == text for n in counts for x in product(labels, repeat=n))
    found = _pieces(tuple(labels), text)
    assert (None not in found) == spellable
    assert not spellable or "".join(x or "" for x in found) == text


def test_long_words_and_large_vocabularies() -> None:
    """A word of 100 000 letters takes the labels that it needs."""
    labels = tuple(f"{a}{b}{c}" for a, b, c in product("abcdefghij", repeat=3))
    word = "".join(labels) * 33
    assert _pieces(labels, word) == [*labels] * 33
