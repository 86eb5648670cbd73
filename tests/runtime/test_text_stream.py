"""Text of a stream: the words of the whole, each as soon as it is complete."""

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
    """Words, times and confidences are those of decoding everything at once."""
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


def test_a_word_is_given_once_it_is_over() -> None:
    """Not while it may go on, and not later than what parts it from the next."""
    stream = StreamDecoder(LETTERS, 0.02)
    assert stream.push(_logits([2, 3])) == []
    assert [word.text for word in stream.push(_logits([4, 1]))] == ["abc"]
    assert stream.push(_logits([2])) == []
    assert [word.text for word in stream.flush()] == ["a"]
    assert stream.flush() == []


def test_what_is_held_is_bounded() -> None:
    """Labels that never part words, and silence, do not pile up."""
    stream = StreamDecoder(LETTERS, 0.02)
    words = [word for _ in range(100) for word in stream.push(_logits([2, 0] * 50))]
    assert len(words) >= 200 / (LONGEST_WORD + 3) - 1
    quiet = StreamDecoder(LETTERS, 0.02)
    for _ in range(100):
        assert quiet.push(_logits([0, 1] * 50)) == []
    assert len(quiet._logits) == 1


def test_other_logits_are_refused() -> None:
    """Logits that are not of these labels are an error."""
    with pytest.raises(InputError):
        StreamDecoder(LETTERS, 0.02).push(np.zeros((3, 4), np.float32))
