"""Segments are cut at pauses, whatever the blocks, and lose no word."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import data
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.runtime.window import Window
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.segments import (
    Segment,
    Segmenter,
    SegmentLimits,
    decode_segments,
    join_segments,
)
from w2v_edge.text.spelling import Spelling

SECONDS = 0.02
LETTERS = Spelling(0, ("", " ", "a", "b", "c"))
CHARACTERS = Spelling(0, ("", "", "中", "文", "好"))
LIMITS = SegmentLimits(min_pause=0.2, max_seconds=1.0)

Logits = npt.NDArray[np.float32]


def _logits(labels: list[int], seed: int = 0) -> Logits:
    noise = np.random.default_rng(seed).random((len(labels), 5), dtype=np.float32)
    made: Logits = noise + 5 * np.eye(5, dtype=np.float32)[labels]
    return made


def _segments(
    logits: Logits, cuts: list[int], spelling: Spelling = LETTERS, limits: SegmentLimits = LIMITS
) -> list[Segment]:
    blocks = np.split(logits, sorted(min(x, len(logits)) for x in cuts))
    segmenter = Segmenter(spelling, SECONDS, limits)
    return list(decode_segments(blocks, GreedyDecoder(spelling), segmenter, SECONDS))


WORDS = st.lists(
    st.tuples(st.lists(st.integers(2, 4), min_size=1, max_size=6), st.integers(0, 30)), max_size=30
)


@given(lead=st.integers(0, 30), words=WORDS, cuts=st.lists(st.integers(0, 600), max_size=12))
def test_words_are_those_of_the_whole(
    lead: int, words: list[tuple[list[int], int]], cuts: list[int]
) -> None:
    """Words, times and confidences, in segments within limits that do not depend on the blocks."""
    labels = [0] * lead
    for word, silence in words:
        labels += [*word, 1, *[0] * silence]
    logits = _logits(labels)
    found = _segments(logits, cuts)
    assert found == _segments(logits, [])
    whole = GreedyDecoder(LETTERS).decode(logits, SECONDS)
    joined = join_segments(found)
    assert joined.text == whole.text
    for one, other in zip(joined.words, whole.words, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end))
        assert one.confidence == pytest.approx(other.confidence, rel=1e-4)
    for segment in found:
        assert segment.words
        assert segment.start <= segment.words[0].start
        assert segment.words[-1].end <= segment.end
        assert segment.words[-1].end - segment.words[0].start <= LIMITS.max_seconds + 1e-6
        gaps = [b.start - a.end for a, b in pairwise(segment.words)]
        assert max(gaps, default=0) < LIMITS.min_pause - 1e-6
    for before, after in pairwise(found):
        assert before.end <= after.start + 1e-6
        gap = after.words[0].start - before.words[-1].end
        forced = after.words[-1].end - before.words[0].start > LIMITS.max_seconds
        assert gap >= LIMITS.min_pause - 1e-6 or forced


def test_what_is_held() -> None:
    """Silence is not kept, and speech no longer than the longest segment and a block."""
    segmenter = Segmenter(LETTERS, SECONDS, LIMITS)
    for _ in range(50):
        assert not list(segmenter.push(_logits([0] * 40)))
        assert len(segmenter._logits) <= 10
    for _ in range(50):
        list(segmenter.push(_logits([2, 0, 3, 1] * 10)))
        assert len(segmenter._logits) <= 5 + 50 + 40


def test_long_speech_is_cut_at_the_likeliest_pause() -> None:
    """The longest gap of the segment's last half that is between words."""
    word = [2, 0, 3, 0, 4, 1]
    inside = [2, *[0] * 9, 3, 0, 4, 1]
    labels = [*word * 4, *inside, *word, *[0] * 4, *word * 4]
    first, second = _segments(_logits(labels), [])
    assert first.text == " ".join(["abc"] * 6)
    assert second.text == " ".join(["abc"] * 4)


def test_without_a_word_delimiter() -> None:
    """Text of scripts without spaces is cut in any gap, and no character is lost."""
    labels = [2, 0, 3, 0, 4] * 40
    labels[41:41] = [0] * 5
    found = _segments(_logits(labels), [], CHARACTERS)
    assert "".join(x.text for x in found) == "中文好" * 40
    assert found[0].end == pytest.approx(SECONDS * 43, abs=2 * SECONDS)


def test_without_any_silence() -> None:
    """Labels are parted where the best one changes, so that none is given twice."""
    labels = [2] * 37 + [3] * 37 + [2] * 37
    found = _segments(_logits(labels), [])
    assert "".join(x.text for x in found) == "aba"
    assert len(_segments(_logits([2] * 120), [])) == 3


def test_nothing_said() -> None:
    """No frames or no labels give no segments, and their transcription is empty."""
    assert _segments(_logits([]), [0]) == []
    assert _segments(_logits([0] * 100), [50]) == []
    assert join_segments([]).text == ""


@pytest.mark.parametrize(
    "values", [(0, 1), (2, 1), (0.1, np.inf), (np.nan, 1), (True, 2), ("a", 2)]
)
def test_limits(values: tuple[Any, Any]) -> None:
    """They are seconds, or refused."""
    with pytest.raises(InputError, match="expected seconds"):
        SegmentLimits(*values)


def test_a_model(ctc_bundle: Path, speech: dict[str, Any]) -> None:
    """Also in windows, the segments' words are those of the transcription of the same logits."""
    model, clip = w2v_edge.load(ctc_bundle), speech["en-demo-abouttotry"][:64_000]
    for window in (None, Window(step=1, left=0.5, right=0.5)):
        expected = model.transcribe(clip, window=window)
        limits = SegmentLimits(min_pause=30, max_seconds=60)
        found = list(model.segments(clip, window=window, limits=limits))
        assert join_segments(found).text == expected.text
        for word, other in zip(join_segments(found).words, expected.words, strict=True):
            assert (word.start, word.end) == pytest.approx((other.start, other.end))
        assert len(list(model.segments(clip, limits=SegmentLimits(0.1, 1.0)))) > 3
    with pytest.raises(InputError, match="one at a time"):
        model.segments([clip])  # type: ignore[arg-type]


def test_models_without_labels() -> None:
    """They have no segments."""
    with pytest.raises(HeadMissingError):
        w2v_edge.load(data.TINY_INT8).segments(np.zeros(16_000, np.float32))
