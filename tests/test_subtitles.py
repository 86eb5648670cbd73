"""Subtitles hold all words, in cues that fit a screen and never overlap."""

from __future__ import annotations

import random
import sys
from itertools import accumulate, pairwise

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.errors import MissingExtraError
from w2v_edge.text.decoding import Transcription, Word
from w2v_edge.text.line_breaking import pieces_of
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
    """Two lines of 42 characters, 7 s, two frames between; no letter is lost."""
    found = cues(transcription)
    for cue in found:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= 42 or " " not in line for line in cue.lines)
        assert max(map(len, cue.lines)) <= 84
        assert 0 < cue.end - cue.start <= 7_000
    for one, other in pairwise(found):
        assert one.end <= other.start
        assert other.start - one.end >= 84 or one.end == one.start + 1
    letters = "".join("".join(cue.lines) for cue in found).replace(" ", "")
    assert letters == transcription.text.replace(" ", "")


WORDS = st.lists(st.integers(2, 12), min_size=1, max_size=60)


@given(lengths=WORDS, speed=st.floats(0.04, 0.12), gaps=st.randoms(use_true_random=False))
def test_cues_can_be_read(lengths: list[int], speed: float, gaps: random.Random) -> None:
    """Each stays 1 s and no faster than 17 characters per second, unless the next one follows."""
    words, time = [], 0.0
    for length in lengths:
        words.append(("x" * length, time, time + speed * length))
        time = words[-1][2] + gaps.choice((0.02, 0.1, 0.4, 1.5))
    found = cues(_transcription(*words))
    shown = " ".join(line for cue in found for line in cue.lines).split()
    assert shown == [word for word, _, _ in words]
    for cue, other in pairwise([*found, None]):
        assert cue is not None
        wanted = max(1.0, sum(map(len, cue.lines)) / 17)
        follows = other is not None and other.start - cue.end == 84
        assert follows or cue.end - cue.start >= min(7_000, 1000 * wanted) - 1


def test_where_cues_end() -> None:
    """At a pause, before a third line, and before 7 s are over; otherwise words stay together."""
    near = _transcription(("one", 0, 1), ("two", 1.7, 2), ("three", 2.9, 4))
    assert [cue.lines for cue in cues(near)] == [("one two",), ("three",)]
    assert [(cue.start, cue.end) for cue in cues(near)] == [(0, 2_000), (2_900, 4_000)]
    slow = _transcription(*((str(i), i * 2.0, i * 2 + 1) for i in range(5)))
    assert [cue.lines for cue in cues(slow)] == [(str(i),) for i in range(5)]
    steady = _transcription(*((str(i), i * 1.5, i * 1.5 + 1.4) for i in range(5)))
    assert [len(cue.lines) for cue in cues(steady)] == [1, 1]
    wordy = _transcription(*(("eleven chars"[:11], i / 10, i / 10 + 0.1) for i in range(8)))
    assert max(len(cue.lines) for cue in cues(wordy)) == 2


def test_breaks_are_at_pauses_and_punctuation() -> None:
    """Of all breaks that fit, at the pause or the end of the sentence, in cues and in lines."""
    steady = [("word", i * 0.4, i * 0.4 + 0.39) for i in range(24)]
    for place in (10, 13):
        with_pause = [
            (x, a + 0.5 * (i >= place), b + 0.5 * (i >= place))
            for i, (x, a, b) in enumerate(steady)
        ]
        found = cues(_transcription(*with_pause))
        assert with_pause[place][1] * 1000 in [cue.start for cue in found]
        stops = [(x + "." * (i == place - 1), a, b) for i, (x, a, b) in enumerate(steady)]
        found = cues(_transcription(*stops))
        assert round(steady[place][1] * 1000) in [cue.start for cue in found]
    comma = [(x + "," * (i == 4), a, b) for i, (x, a, b) in enumerate(steady[:12])]
    (cue,) = cues(_transcription(*comma))
    assert cue.lines[0].endswith(",")


def test_words_are_not_broken() -> None:
    """A word that is longer than a line has one of its own; what fits no cue is no word."""
    found = cues(_transcription(("is", 0, 0.3), ("a" * 60, 0.4, 2), ("it", 2.1, 2.4)))
    assert sorted(line for cue in found for line in cue.lines) == ["a" * 60, "is", "it"]
    text = cues(_transcription(("a" * 100, 10.0, 20.0)))
    assert [line for cue in text for line in cue.lines] == ["a" * 42, "a" * 42, "a" * 16]
    assert (text[0].start, text[-1].end) == (10_000, 20_000)
    (held,) = cues(_transcription(("a", 0.0, 9.0)))
    assert held.end == 7_000


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("很好。「他」说", "很 好。 「他」 说"),
        ("ちゃんとコーヒー。", "ちゃ ん と コー ヒー。"),
        ("น้ำเป็นไทย", "น้ำ เป็ น ไท ย"),
        ("ABC中文", "ABC 中 文"),
        ("don't-stop…", "don't-stop…"),
        ("한국어로", "한국어로"),
    ],
)
def test_scripts_without_spaces(text: str, pieces: str) -> None:
    """They break between characters, and keep marks, small kana and punctuation in place."""
    assert [x.text for x in pieces_of(text, [(0.0, 1.0)])] == pieces.split()


def test_chinese_fits_its_lines() -> None:
    """A wide character takes two columns, and parts of a word have their share of its time."""
    found = cues(_transcription(("中" * 60, 0.0, 12.0)))
    assert "".join("".join(cue.lines) for cue in found) == "中" * 60
    assert max(len(line) for cue in found for line in cue.lines) <= 21
    assert all(len(cue.lines) <= 2 for cue in found)
    for cue, done in zip(found[1:], accumulate(len("".join(x.lines)) for x in found), strict=False):
        assert cue.start == pytest.approx(200 * done, abs=1)


def test_the_times_of_labels() -> None:
    """Characters of a word that has one label each have exactly the labels' times."""
    spans = [(0.0, 0.1), (0.4, 0.6), (1.0, 1.2), (3.0, 3.1)]
    found = list(pieces_of("中文很好", spans))
    assert [(x.start, x.end) for x in found] == spans
    (whole,) = pieces_of("word", spans[:3])
    assert (whole.start, whole.end) == (0.0, 1.2)


@pytest.mark.parametrize("kind", KINDS)
def test_files_can_be_read_back(kind: Format) -> None:
    """Another reader finds the same texts and times, hours and marks like < and { included."""
    text = subtitles(SENTENCE, kind)
    assert text.startswith("WEBVTT\n" if kind == "vtt" else "1\n")
    found = pysubs2.SSAFile.from_string(text, kind, keep_html_tags=True)
    assert [(x.start, x.end) for x in found] == [(0, 1_176), (3_700_040, 3_701_040)]
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
    with pytest.raises(MissingExtraError, match=r"\[cli\]'$"):
        subtitles(SENTENCE, "srt")
