"""Subtitles of a file with other times: all else stays."""

from __future__ import annotations

import re

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.text.subtitles import Format
from w2v_edge.text.timed_subtitles import TimedSubtitles

SUBRIP = (
    "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>Tom</i> {\\an8}&\r\nme\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000 X1:10\r\n- A < B?\r\n\r\n- 42\r\n"
)
WEB = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE not
spoken

name
00:01.000 --> 00:02.500 align:start
<c.x>Tom</c> &amp;
me

01:00:03.000 --> 01:00:04.000
<v Ann>- A &lt; <b>B</b>?
"""
TIMES = [(10, 3_600_020), (3_600_030, 3_600_040)]


def test_subrip_keeps_all_but_times() -> None:
    """Line breaks, tags, codes, empty lines within a cue, positions and ends of line stay."""
    found = TimedSubtitles.parse(SUBRIP, "srt")
    assert [x.spoken for x in found.cues] == ["Tom & me", "- A < B? - 42"]
    assert [x.milliseconds for x in found.cues] == [1500, 1000]
    expected = SUBRIP.replace("00:00:01,000", "00:00:00,010").replace(
        "00:00:02,500", "01:00:00,020"
    )
    expected = expected.replace("00:00:03,000", "01:00:00,030")
    assert found.retimed(TIMES, "srt") == expected.replace("00:00:04,000", "01:00:00,040")


def test_webvtt_keeps_all_but_times() -> None:
    """Titles, styles, notes, names and settings stay; times within a cue would be wrong."""
    found = TimedSubtitles.parse(WEB.replace("Tom", "<00:01.200>Tom"), "vtt")
    assert [x.spoken for x in found.cues] == ["Tom & me", "- A < B?"]
    assert [x.milliseconds for x in found.cues] == [1500, 1000]
    expected = WEB.replace("00:01.000", "00:00:00.010").replace("00:02.500", "01:00:00.020")
    expected = expected.replace("01:00:03.000", "01:00:00.030")
    assert found.retimed(TIMES, "vtt") == expected.replace("01:00:04.000", "01:00:00.040")


@pytest.mark.parametrize(
    ("kind", "content", "other", "lines"),
    [
        ("srt", SUBRIP, "vtt", ["<i>Tom</i> &amp;", "me", "- A &lt; B?", "- 42"]),
        ("vtt", WEB, "srt", ["Tom &", "me", "- A < <b>B</b>?"]),
    ],
)
def test_the_other_format(kind: Format, content: str, other: Format, lines: list[str]) -> None:
    """It keeps line breaks and the tags that both have, in its own notation."""
    written = TimedSubtitles.parse(content, kind).retimed(TIMES, other)
    assert [x for x in written.splitlines() if x in lines] == lines
    back = pysubs2.SSAFile.from_string(written, other)
    assert [(x.start, x.end) for x in back] == TIMES
    assert TimedSubtitles.parse(written, other).retimed(TIMES, other) == written


@pytest.mark.parametrize(
    ("content", "spoken"),
    [
        ("0:0:1,5 --> 0:00:02.25\na\n0:0:3 --> 0:0:4\nb", ["a", "b"]),
        ("00:01,000 --> 00:02,000\r42\r\r00:03,000 --> 00:04,000\rb", ["42", "b"]),
        (
            "1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:03,000 --> 00:00:04,000\na --> b",
            ["", "a --> b"],
        ),
        ("1:1 --> " + "9" * 9000 + ":1\nno time", []),
        ("no cue", []),
    ],
)
def test_careless_files(content: str, spoken: list[str]) -> None:
    """Short times, old line ends, missing numbers and empty cues are read."""
    found = TimedSubtitles.parse(content, "srt")
    assert [x.spoken for x in found.cues] == spoken
    times = [(x, x + 1) for x in range(len(spoken))]
    written = found.retimed(times, "srt")
    assert [x.spoken for x in TimedSubtitles.parse(written, "srt").cues] == spoken


@given(
    texts=st.lists(st.text(max_size=20), max_size=4),
    kind=st.sampled_from(["srt", "vtt"]),
    other=st.sampled_from(["srt", "vtt"]),
)
def test_any_text(texts: list[str], kind: Format, other: Format) -> None:
    """No text breaks the reader, and what is written has as many cues as were read."""
    cues = [f"{i}\n00:00:0{i},000 --> 00:00:0{i},500\n{text}\n\n" for i, text in enumerate(texts)]
    found = TimedSubtitles.parse("WEBVTT\n\n" + "".join(cues), kind)
    times = [(i, i + 1) for i, _ in enumerate(found.cues)]
    again = TimedSubtitles.parse(found.retimed(times, other), other)
    assert len(again.cues) == len(found.cues) >= len(texts)
    if kind == other:
        assert [x.spoken for x in again.cues] == [x.spoken for x in found.cues]
        assert re.sub(r"[\d:.,]+ -->.*", "", found.content) == re.sub(
            r"[\d:.,]+ -->.*", "", again.content
        )
