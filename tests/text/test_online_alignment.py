"""Online alignment: the reader's position, final words in bounded time, and the path of `align`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import data
from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.text.aligner import AlignedWord, Aligner
from w2v_edge.text.online_alignment import AlignmentUpdate, KnownText, OnlineAligner
from w2v_edge.text.spelling import Spelling

LABELS = ("<pad>", "|", *"abcdeilort")
ALIGNER = Aligner(Spelling.of(LABELS, CtcInfo(0, "|", ("<pad>",))), LABELS)
SECONDS = 0.02

Logits = npt.NDArray[np.float64]
Times = list[tuple[str, float, float, list[int]]]


def _spoken(text: str, gaps: list[int], peak: float = 6.0, held: int = 1) -> Logits:
    """Logits in which each label of a text has up to `held` frames, after `gaps` blanks."""
    path: list[int] = []
    for i, label in enumerate(ALIGNER.targets(text).labels):
        repeats = bool(path) and path[-1] == label
        path += [0] * max(gaps[i % len(gaps)], int(repeats)) + [label] * (1 + i % held)
    noise = np.random.default_rng(len(path)).standard_normal((len(path), len(LABELS)))
    noise[np.arange(len(path)), path] += peak
    return noise


def _updates(
    logits: Logits, text: str, delay: float, block: int, **flush: bool
) -> list[AlignmentUpdate]:
    online = OnlineAligner(ALIGNER, KnownText(text, delay), SECONDS)
    found = [online.push(logits[i : i + block]) for i in range(0, len(logits), block)]
    return [*found, online.flush(**flush)]


def _times(words: Any) -> Times:
    return [(x.word, x.start, x.end, [y.frame for y in x.labels]) for x in words]


def _words(updates: list[AlignmentUpdate]) -> list[AlignedWord]:
    return [word for update in updates for word in update.words]


TEXTS = st.lists(st.text("abcdeilort", min_size=1, max_size=5), min_size=1, max_size=12)
GAPS = st.lists(st.integers(0, 4), min_size=1, max_size=20)


@given(words=TEXTS, gaps=GAPS, peak=st.sampled_from([0.0, 6.0]), block=st.integers(9, 60))
def test_a_delay_of_the_whole_text_gives_the_path_of_align(
    words: list[str], gaps: list[int], peak: float, block: int
) -> None:
    """Times and scores of all words, of random and of peaked posteriors, whatever the blocks."""
    text = " ".join(words)
    logits = _spoken(text, gaps, peak, held=4)
    expected = ALIGNER.align(logits, text, SECONDS)
    updates = _updates(logits, text, 30.0, block)
    assert not any(x.words for x in updates[:-1])
    found = updates[-1]
    assert _times(found.words) == _times(expected.words)
    for word, other in zip(found.words, expected.words, strict=True):
        assert word.score == pytest.approx(other.score)
    assert list(found.remarks) == expected.remarks
    assert found.position.word == len(words) - 1


@given(words=TEXTS, gaps=GAPS, delay=st.floats(0.1, 1.0), block=st.integers(9, 60))
def test_words_of_clear_speech_are_final_within_the_delay(
    words: list[str], gaps: list[int], delay: float, block: int
) -> None:
    """They are the words of `align`, in bounded time, and do not depend on the blocks."""
    text = " ".join(words)
    logits = _spoken(text, gaps, 12.0, held=4)
    updates = _updates(logits, text, delay, block)
    found = _words(updates)
    assert _times(found) == _times(ALIGNER.align(logits, text, SECONDS).words)
    assert found == _words(_updates(logits, text, delay, len(logits)))
    given = 0
    for update in updates[:-1]:
        given += len(update.words)
        late = [x for x in found[given:] if x.end + delay + SECONDS < update.position.seconds]
        assert not late
        shown = [*found[:given], *update.provisional]
        assert [x.word for x in shown] == words[: len(shown)]
        assert all(x.end <= update.position.seconds + 1e-9 for x in update.provisional)


def test_the_position() -> None:
    """The last word and label that have begun, none before the first, and the path's score."""
    text = "able bird clear"
    logits = _spoken(text, [1])
    online = OnlineAligner(ALIGNER, KnownText(text), SECONDS)
    before = online.push(logits[:1]).position
    assert (before.word, before.label) == (None, None)
    assert before.seconds == pytest.approx(SECONDS)
    assert online.push(logits[1:4]).position.label == 1
    found = online.push(logits[4:14])
    assert (found.position.word, found.position.label) == (1, 6)
    assert found.position.score > 0.8
    assert [x.word for x in found.provisional] == ["able", "bird"]
    assert [x.label for x in found.provisional[1].labels] == ["b", "i"]


def test_pauses_and_words_left_out() -> None:
    """A pause of any length holds the position; words left out are passed with low scores."""
    text = "able bird clear dirt able tile clear tail"
    silence = np.tile(np.eye(len(LABELS))[0] * 5, (1_000, 1))
    able, rest = _spoken("able", [2]), _spoken("dirt able tile clear tail", [2])
    updates = _updates(np.concatenate([able, silence, rest]), text, 3.0, 16)
    during = [x.position for x in updates if 5 < x.position.seconds < 20]
    assert {x.word for x in during} == {0}
    assert min(x.score for x in during) > 0.8
    scores = {x.position: x.score for x in _words(updates)}
    assert max(scores[1], scores[2]) < 0.2
    assert min(scores[0], *(scores[i] for i in range(3, 8))) > 0.5
    wrong = _updates(_spoken("tail clear", [1]), "bird bird bird", 1.0, 16)
    assert max(x.position.score for x in wrong[2:]) < 0.1


def test_a_reader_who_stops() -> None:
    """The rest has no time where it was not read, or cannot have been, and a remark says so."""
    text = "able bird clear dirt able tile"
    logits = _spoken("able bird", [3], 12.0)
    (*_, stopped) = updates = _updates(logits, text, 5.0, 16, read_all=False)
    assert [x.word for x in _words(updates)] == ["able", "bird"]
    assert stopped.remarks == ("the audio ends before word 3 of 6 was read to its end",)
    assert len(_words(_updates(logits, text, 5.0, 16))) == 6
    assert len(_words(_updates(logits, text * 9, 5.0, 16))) == 2
    nothing = OnlineAligner(ALIGNER, KnownText(text), SECONDS).flush()
    assert nothing.words == ()
    assert nothing.position.word is None


def test_nothing_grows_with_the_recording() -> None:
    """Frames are held up to the delay, and a stream can begin anew."""
    text = "able bird " * 50
    logits = _spoken(text, [1, 5])
    online = OnlineAligner(ALIGNER, KnownText(text, 0.5), SECONDS)
    for _ in range(2):
        words: list[AlignedWord] = []
        for i in range(0, len(logits), 10):
            words += online.push(logits[i : i + 10]).words
            assert len(online._held) < 25
        assert len(words) + len(online.flush().words) == 100


@pytest.mark.parametrize("delay", [0, -1, 31, np.nan, "1", True])
def test_delays(delay: Any) -> None:
    """They are seconds, up to a limit, or refused."""
    with pytest.raises(InputError, match="found a delay"):
        KnownText("a", delay)


def test_texts_and_logits_that_cannot_be_aligned() -> None:
    """As for `align`."""
    with pytest.raises(InputError, match="no words to align"):
        OnlineAligner(ALIGNER, KnownText("?!"), SECONDS)
    online = OnlineAligner(ALIGNER, KnownText("a"), SECONDS)
    with pytest.raises(InputError, match="not finite"):
        online.push(np.full((3, len(LABELS)), np.nan))
    with pytest.raises(InputError, match="no path"):
        online.push(np.where(np.arange(len(LABELS)) == 5, 0.0, -np.inf)[np.newaxis])


def test_a_stream_of_audio(ctc_bundle: Path, speech: dict[str, Any]) -> None:
    """The words are those of `align` on the logits of the same stream."""
    model, clip = w2v_edge.load(ctc_bundle), speech["en-activated"][:48_000]
    text, measured = "ACTIVATED NOW\nOH, NO!", model.statistics(clip)
    with model.stream(statistics=measured, context=True) as plain:
        pieces = [plain.push(clip).logits, plain.flush().logits]
    logits = np.concatenate([x for x in pieces if x is not None])
    aligner = Aligner(model.spelling, model.manifest.labels)
    expected = aligner.align(logits, text, model.context_frame_seconds)
    with model.stream(statistics=measured, align=KnownText(text, delay=30)) as stream:
        for _ in range(2):
            found: list[AlignedWord] = []
            for i in range(0, len(clip), 5_120):
                found += stream.push(clip[i : i + 5_120]).words
            last = stream.flush()
            assert _times([*found, *last.words]) == _times(expected.words)
            assert last.position.seconds == pytest.approx(len(logits) * SECONDS)
            stream.reset()
    with pytest.raises(InputError, match="without context"):
        model.stream(align=text, context=False)
    with pytest.raises(HeadMissingError):
        w2v_edge.load(data.TINY_INT8).stream(align=text)
