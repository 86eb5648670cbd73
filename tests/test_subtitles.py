"""Subtitles hold all words, in cues that fit a screen and never overlap."""

from __future__ import annotations

import sys
from itertools import pairwise

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.errors import MissingExtraError
from w2v_edge.text.decoding import Transcription, Word
from w2v_edge.text.subtitles import Format, cues, subtitles

KINDS: tuple[Format, ...] = ("srt", "vtt")


def _transcription(*words: tuple[str, float, float]) -> Transcription:
    made = tuple(Word(text, start, end, 0.5) for text, start, end in words)
    return Transcription(" ".join(word.text for word in made), made, 0.5)


SENTENCE = _transcription(
    ("it's", 0.0, 0.2),
    ("<b>", 0.3, 0.5),
    ("{now}", 0.6, 0.7),
    ("&", 0.7, 0.9),
    ("-->", 1.0, 1.1),
    ("fünf", 3700.04, 3700.5),
)


@st.composite
def _speech(draw: st.DrawFn) -> Transcription:
    words, time = [], 0.0
    for length in draw(st.lists(st.integers(1, 200), max_size=40)):
        start = time + draw(st.floats(0, 2))
        time = start + draw(st.floats(0.0001, 15))
        words.append(("x" * length, start, time))
    return _transcription(*words)


@given(transcription=_speech())
def test_cues_fit_and_never_overlap(transcription: Transcription) -> None:
    """Two lines of 42 characters, 6 s, and times that only grow; no letter is lost."""
    found = cues(transcription)
    for cue in found:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= 42 for line in cue.lines)
        assert 0 < cue.end - cue.start <= 6_001
    for one, other in pairwise(found):
        assert one.end <= other.start
    letters = "".join("".join(cue.lines) for cue in found).replace(" ", "")
    assert letters == transcription.text.replace(" ", "")


def test_where_cues_end() -> None:
    """At a pause, before a third line, and before 6 s are over; otherwise words stay together."""
    near = _transcription(("one", 0, 1), ("two", 1.7, 2), ("three", 2.9, 3))
    assert [cue.lines for cue in cues(near)] == [("one two",), ("three",)]
    assert [(cue.start, cue.end) for cue in cues(near)] == [(0, 2_000), (2_900, 3_000)]
    slow = _transcription(*((str(i), i * 2.0, i * 2 + 1) for i in range(5)))
    assert [cue.lines for cue in cues(slow)] == [(str(i),) for i in range(5)]
    steady = _transcription(*((str(i), i * 1.5, i * 1.5 + 1.4) for i in range(5)))
    assert [cue.lines for cue in cues(steady)] == [("0 1 2 3",), ("4",)]
    wordy = _transcription(*(("eleven chars"[:11], i / 10, i / 10 + 0.1) for i in range(8)))
    assert [len(cue.lines) for cue in cues(wordy)] == [2, 1]


def test_long_words_are_parted() -> None:
    """Without a word delimiter all is one word; its parts share the time, by their letters."""
    found = cues(_transcription(("a" * 100, 10.0, 20.0)))
    assert "".join("".join(cue.lines) for cue in found) == "a" * 100
    assert found[0].start == 10_000
    assert found[-1].end == 20_000
    (held,) = cues(_transcription(("a", 0.0, 9.0)))
    assert held.end == 6_000


@pytest.mark.parametrize("kind", KINDS)
def test_files_can_be_read_back(kind: Format) -> None:
    """Another reader finds the same texts and times, hours and marks like < and { included."""
    text = subtitles(SENTENCE, kind)
    assert text.startswith("WEBVTT\n" if kind == "vtt" else "1\n")
    found = pysubs2.SSAFile.from_string(text, kind, keep_html_tags=True)
    assert [(x.start, x.end) for x in found] == [(0, 1_100), (3_700_040, 3_700_500)]
    expected = ["it's <b> {now} & -->", "fünf"]
    if kind == "vtt":
        expected[0] = "it's &lt;b&gt; {now} &amp; --&gt;"
    assert [x.text for x in found] == expected


@pytest.mark.parametrize(("kind", "expected"), [("srt", ""), ("vtt", "WEBVTT")])
def test_nothing_said(kind: Format, expected: str) -> None:
    """No words give no cues, in a file that is still one of its kind."""
    assert subtitles(Transcription("", (), 0.9), kind).strip() == expected


def test_without_pysubs2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "pysubs2", None)
    with pytest.raises(MissingExtraError, match=r"w2v-edge\[cli\]"):
        subtitles(SENTENCE, "srt")
