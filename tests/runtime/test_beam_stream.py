"""Beam search over a stream: the words of the whole recording, with a bounded delay."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.test_beam_search import ARPA
from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import InputError
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.beam_stream import BeamStream
from w2v_edge.text.decoding import LONGEST_WORD, Word
from w2v_edge.text.spelling import Spelling

FRAME = 0.02
LETTERS = ("<pad>", "|", "b", "a", "d", "t")
KINDS = {
    "letters": Spelling.of(LETTERS, CtcInfo(0, "|", ("<pad>",))),
    "pieces": Spelling.of(("<pad>", "▁ba", "t", "d", "▁", "a"), CtcInfo(0, None, ("<pad>",))),
    "phonemes": Spelling.of(
        ("<pad>", "a", "t", "ts", "b", "d"), CtcInfo(0, None, ("<pad>",), separator=" ")
    ),
}
Logits = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BeamSearch]:
    """Searches over each kind of labels; those of letters and pieces with a language model too."""
    lm = tmp_path_factory.mktemp("lm") / "lm.arpa"
    lm.write_text(ARPA)
    found = {kind: BeamSearch(spelling, beam_width=60) for kind, spelling in KINDS.items()}
    options: dict[str, Any] = {"lm": lm, "hotwords": ["bad"], "hotword_weight": 2.0}
    for kind in ("letters", "pieces"):
        found[f"{kind}, language model"] = BeamSearch(KINDS[kind], beam_width=60, **options)
    return found


def _noise(frames: int, seed: int, scale: float) -> Logits:
    """Logits of nothing in particular, with runs of blanks."""
    generator = np.random.default_rng(seed)
    logits = scale * generator.standard_normal((frames, len(LETTERS)))
    logits[generator.random(frames) < 0.4, 0] += 6.0
    return logits.astype(np.float32)


def _run(stream: BeamStream, logits: Logits, cuts: list[int]) -> list[Word]:
    words = []
    for block in np.split(logits, sorted(min(cut, len(logits)) for cut in cuts)):
        words += stream.push(block)
    return words + stream.flush()


def _texts(words: list[Word] | tuple[Word, ...]) -> list[str]:
    return [word.text for word in words]


@pytest.mark.parametrize("kind", [*KINDS, "pieces, language model"])
@settings(max_examples=12)
@given(
    frames=st.integers(0, 70),
    seed=st.integers(0, 1_000),
    scale=st.sampled_from([1.0, 3.0]),
    cuts=st.lists(st.integers(0, 70), max_size=4),
)
def test_without_a_bound_the_words_are_those_of_the_whole(
    kind: str,
    frames: int,
    seed: int,
    scale: float,
    cuts: list[int],
    searches: dict[str, BeamSearch],
) -> None:
    """With an infinite delay, words, times and confidences are those of the whole recording.

    Letters of a whole recording are searched by the library: the text is the same, and its place
    another one among equally good paths.
    """
    logits = _noise(frames, seed, scale)
    found = _run(searches[kind].stream(FRAME, math.inf), logits, cuts)
    expected = searches[kind].decode(logits, FRAME).words
    assert _texts(found) == _texts(expected)
    for word, other in zip(found, expected if "letters" not in kind else found, strict=True):
        assert (word.start, word.end) == pytest.approx((other.start, other.end))
        assert word.confidence == pytest.approx(other.confidence, rel=1e-4)


@pytest.mark.parametrize("kind", ["letters", "pieces, language model", "phonemes"])
@settings(max_examples=12)
@given(
    seed=st.integers(0, 1_000),
    delay=st.sampled_from([0.0, 0.1, 0.4]),
    cuts=st.lists(st.integers(0, 120), max_size=4),
)
def test_a_word_is_final_after_the_delay(
    kind: str, seed: int, delay: float, cuts: list[int], searches: dict[str, BeamSearch]
) -> None:
    """No word that ended longer ago is open; blocks change nothing; words are in order of time."""
    logits, search = _noise(120, seed, 2.0), searches[kind]
    stream, found = search.stream(FRAME, delay), []
    for i, row in enumerate(logits):
        found += stream.push(row[np.newaxis])
        for word in stream.partial:
            assert word.end > (i + 1) * FRAME - delay - 1e-9
        for word in found:
            assert word.end <= (i + 1) * FRAME + 1e-9
    found += stream.flush()
    times = [time for word in found for time in (word.start, word.end)]
    assert times == sorted(times)
    in_blocks = _run(search.stream(FRAME, delay), logits, cuts)
    assert _texts(in_blocks) == _texts(found)
    assert [word.start for word in in_blocks] == pytest.approx([word.start for word in found])
    assert all(0 <= word.confidence <= 1 for word in found)


def _clear(text: str, seed: int = 0, sure: float = 9.0) -> Logits:
    """Logits that say letters, `.` for a blank."""
    columns = [0 if char == "." else LETTERS.index(char.replace(" ", "|")) for char in text]
    noise = np.random.default_rng(seed).random((len(text), len(LETTERS)), dtype=np.float32)
    noise[np.arange(len(text)), columns] += sure
    return noise


def test_partial_and_final_words() -> None:
    """Partial words grow with the audio; a word that is certain is final before the delay."""
    stream = BeamSearch(KINDS["letters"]).stream(FRAME, 1.0)
    assert stream.push(_clear("..ba")) == []
    assert _texts(stream.partial) == ["ba"]
    assert _texts(stream.push(_clear("d. t", sure=30))) == ["bad"]
    assert _texts(stream.partial) == ["t"]
    (word,) = stream.flush()
    assert word.text == "t"
    assert word.start == pytest.approx(7 * FRAME)
    assert stream.partial == stream.flush() == []
    stream.push(_clear("a"))
    assert stream.flush()[0].start == pytest.approx(8 * FRAME)


def test_the_language_model_regards_later_words_within_the_delay(
    searches: dict[str, BeamSearch],
) -> None:
    """What sounds a little like "bad" is "bat" where the end follows within the delay."""
    logits = _clear(".bad..")
    logits[3, LETTERS.index("t")] = logits[3, LETTERS.index("d")] - 0.5
    for kind, text in (("letters", "bad"), ("letters, language model", "bat")):
        found = _run(searches[kind].stream(FRAME), logits, [2, 4])
        assert _texts(found) == [text]


def test_memory_is_flat() -> None:
    """An hour of doubtful words and of silence holds no more than a minute."""
    spelling = KINDS["pieces"]
    stream = BeamSearch(spelling, beam_width=4).stream(FRAME, 0.5)
    words, block = 0, np.concatenate([_noise(150, 3, 2.0), _clear("." * 350)])
    words += sum(len(stream.push(block)) for _ in range(6))
    tracemalloc.start()
    held = []
    for _ in range(12):
        words += len(stream.push(block))
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert words > 100
    assert held[-1] - held[2] < 20_000
    assert len(stream._rest) < 100


def test_words_without_an_end_are_given_in_parts() -> None:
    """Labels without a delimiter make one word; it is given after the longest time of a word."""
    spelling = Spelling.of(LETTERS, CtcInfo(0, None, ("<pad>", "|")))
    stream = BeamSearch(spelling, beam_width=2).stream(FRAME, 0.2)
    words = [word for _ in range(18) for word in stream.push(_clear("ab." * 34))]
    assert len(words) >= 18 * 102 * FRAME / (LONGEST_WORD + 1) - 1
    assert len(stream._rest) * FRAME <= LONGEST_WORD + 1


def test_wrong_arguments() -> None:
    """A negative delay, NaN, and logits of other labels are refused; what came before stays."""
    search = BeamSearch(KINDS["letters"])
    for delay in (-0.1, math.nan):
        with pytest.raises(InputError, match="delay"):
            search.stream(FRAME, delay)
    stream = search.stream(FRAME)
    stream.push(_clear("ba"))
    with pytest.raises(InputError):
        stream.push(np.zeros((3, 4), np.float32))
    assert _texts(stream.flush()) == ["ba"]
