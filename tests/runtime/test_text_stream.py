"""A CTC stream gives the words of the whole recording, each as soon as it is complete."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from w2v_edge.errors import InputError
from w2v_edge.text.decoding import LONGEST_WORD, GreedyDecoder, StreamDecoder, Word
from w2v_edge.text.spelling import Spelling

LETTERS = Spelling(0, ("", " ", "a", "b", "c"))
PHONEMES = Spelling(0, ("", "", "a ", "b ", "oo "))
PIECES = Spelling(0, ("", " ", " to", "day", "no w"))


def _logits(labels: list[int]) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(len(labels)).random((len(labels), 5), dtype=np.float32)
    return noise + 5 * np.eye(5, dtype=np.float32)[labels]


@pytest.mark.parametrize("spelling", [LETTERS, PHONEMES, PIECES])
@settings(max_examples=200)
@given(
    labels=st.lists(st.integers(0, 4), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=8),
)
@example(labels=[2, 2, 1, 3], cuts=[1, 2, 3])
@example(labels=[2, 0, 2, 2], cuts=[1, 2, 3])
def test_any_cut_gives_the_words_of_the_whole(
    spelling: Spelling, labels: list[int], cuts: list[int]
) -> None:
    """Any division into blocks gives the words, times and confidences of one decoding."""
    logits, stream = _logits(labels), StreamDecoder(spelling, 0.02)
    found: list[Word] = []
    for piece in np.split(logits, sorted(min(cut, len(labels)) for cut in cuts)):
        found += stream.push(piece)
    found += stream.flush()
    expected = GreedyDecoder(spelling).decode(logits, 0.02).words if labels else ()
    assert [word.text for word in found] == [word.text for word in expected]
    for word, other in zip(found, expected, strict=True):
        assert (word.start, word.end) == pytest.approx((other.start, other.end))
        assert word.confidence == pytest.approx(other.confidence, rel=1e-4)


SILENCE = st.integers(0, 60) | st.integers(1_600, 2_000)
"""Frames; shorter and longer than the longest word."""


@pytest.mark.parametrize("spelling", [LETTERS, PHONEMES, PIECES])
@given(
    lead=SILENCE,
    words=st.lists(
        st.tuples(st.lists(st.integers(2, 4), min_size=1, max_size=10), SILENCE), max_size=4
    ),
    block=st.integers(20, 700),
)
@example(lead=5_000, words=[([2, 3], 5_000), ([4], 0)], block=50)
def test_silence_of_any_length(
    spelling: Spelling, lead: int, words: list[tuple[list[int], int]], block: int
) -> None:
    """Silence of any length changes no word and is not kept."""
    labels = [0] * lead
    for word, silence in words:
        labels += [*word, 1, *[0] * silence]
    logits, stream = _logits(labels), StreamDecoder(spelling, 0.02)
    found: list[Word] = []
    for start in range(0, len(labels), block):
        found += stream.push(logits[start : start + block])
        assert len(stream._logits) <= 10 + 2
    found += stream.flush()
    expected = GreedyDecoder(spelling).decode(logits, 0.02)
    assert " ".join(word.text for word in found) == expected.text
    for one, other in zip(found, expected.words, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end))
        assert one.confidence == pytest.approx(other.confidence, rel=1e-4)


def test_a_word_is_given_once_it_is_complete() -> None:
    """A word is held while it may go on, and given with the separator after it."""
    stream = StreamDecoder(LETTERS, 0.02)
    assert stream.push(_logits([2, 3])) == []
    assert [word.text for word in stream.push(_logits([4, 1]))] == ["abc"]
    assert stream.push(_logits([2])) == []
    assert [word.text for word in stream.flush()] == ["a"]
    assert stream.flush() == []


def test_endless_words_are_given_in_parts() -> None:
    """Labels without a separator are given after `LONGEST_WORD` and not held longer."""
    stream = StreamDecoder(LETTERS, 0.02)
    words = [word for _ in range(100) for word in stream.push(_logits([2, 0] * 50))]
    assert len(words) >= 200 / (LONGEST_WORD + 3) - 1
    assert len(stream._logits) * 0.02 <= LONGEST_WORD


def test_logits_of_other_labels_are_refused() -> None:
    """Logits with another number of labels are an error."""
    with pytest.raises(InputError):
        StreamDecoder(LETTERS, 0.02).push(np.zeros((3, 4), np.float32))
