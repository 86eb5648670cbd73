"""Subtitles from a file: what is spoken in each cue, and the same subtitles with other times.

Formats: SubRip (.srt) and WebVTT (https://www.w3.org/TR/webvtt1). Only times change: cues keep
their text, line breaks, markup, names and settings, and files their notes, styles and line ends.
Times within a cue, which WebVTT allows, are left out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from w2v_edge.text.subtitles import Format

TIMING = re.compile(
    r"^[ \t]*(\d{1,9}:[\d:.,]{0,20}\d)[ \t]*-->[ \t]*(\d{1,9}:[\d:.,]{0,20}\d)[^\r\n]*",
    re.MULTILINE,
)
"""The line of a cue's times; WebVTT has settings behind them."""

MARKUP = re.compile(r"</?[a-z][^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
"""Tags, and override codes such as `{\\an8}`."""

INNER_TIME = re.compile(r"<[\d:.]+>")

SHARED = re.compile(r"(</?[ibu]>)")
"""Tags that both formats have."""

Times = tuple[int, int]
"""Start and end of a cue in milliseconds."""


@dataclass(frozen=True)
class TimedCue:
    """One subtitle of a file.

    Attributes:
        lines: as written, markup included.
        spoken: its words on one line, without markup.
        spans: where the file has its start and its end.
        milliseconds: how long it was shown; 0 if its times are not in order.
    """

    lines: tuple[str, ...]
    spoken: str
    spans: tuple[tuple[int, int], tuple[int, int]]
    milliseconds: int


@dataclass(frozen=True)
class TimedSubtitles:
    """The subtitles of a file.

    Attributes:
        kind: their format.
        content: of the file.
        cues: in order.
    """

    kind: Format
    content: str
    cues: tuple[TimedCue, ...]

    @classmethod
    def parse(cls, content: str, kind: Format) -> TimedSubtitles:
        """Read subtitles; without a cue if there is none."""
        # Some old files end lines with CR alone.
        content = re.sub(r"\r(?!\n)", "\n", content)
        if kind == "vtt":
            content = INNER_TIME.sub("", content)
        return cls(kind, content, tuple(_cues(content, kind)))

    def retimed(self, times: Sequence[Times], kind: Format) -> str:
        """Return the file with new times for its cues, in its own or the other format."""
        if kind != self.kind:
            return "".join(self._converted(times, kind))
        made, at = [], 0
        for cue, given in zip(self.cues, times, strict=True):
            for (start, end), time in zip(cue.spans, given, strict=True):
                made += [self.content[at:start], _written(time, kind)]
                at = end
        return "".join([*made, self.content[at:]])

    def _converted(self, times: Sequence[Times], kind: Format) -> Iterator[str]:
        if kind == "vtt":
            yield "WEBVTT\n\n"
        for number, (cue, (start, end)) in enumerate(zip(self.cues, times, strict=True), 1):
            yield f"{number}\n" * (kind == "srt")
            yield f"{_written(start, kind)} --> {_written(end, kind)}\n"
            # A blank line would end the cue.
            yield from (f"{_with_markup_of(kind, line)}\n" for line in cue.lines if line.strip())
            yield "\n"


def _cues(content: str, kind: Format) -> Iterator[TimedCue]:
    found = list(TIMING.finditer(content))
    ends = [*(match.start() for match in found), len(content)][1:]
    for match, end in zip(found, ends, strict=True):
        _, *lines = re.split(r"\r?\n", content[match.end() : end])
        if kind == "vtt":
            lines = list(takewhile(str.strip, lines))
        elif end < len(content) and lines[-2:][0].strip().isdigit():
            # The number of the next cue.
            lines = lines[:-2]
        lines = "\n".join(lines).strip("\n").split("\n")
        text = MARKUP.sub("", " ".join(lines))
        spoken = " ".join((html.unescape(text) if kind == "vtt" else text).split())
        shown = _milliseconds(match[2]) - _milliseconds(match[1])
        yield TimedCue(tuple(lines), spoken, (match.span(1), match.span(2)), max(shown, 0))


def _milliseconds(time: str) -> int:
    """Return a time; files differ in the number of digits and in the mark before milliseconds."""
    whole, _, fraction = time.replace(",", ".").partition(".")
    seconds = 0
    for part in whole.split(":"):
        seconds = 60 * seconds + int(part or 0)
    digits = re.sub(r"\D", "", fraction)[:3]
    return 1000 * seconds + int(digits.ljust(3, "0"))


def _written(milliseconds: int, kind: Format) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    mark = "," if kind == "srt" else "."
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{mark}{rest:03}"


def _with_markup_of(kind: Format, line: str) -> str:
    """Return a line of the other format with the markup that both have."""
    escape = html.unescape if kind == "srt" else lambda x: html.escape(x, quote=False)
    parts = SHARED.split(line)
    return "".join(x if SHARED.fullmatch(x) else escape(MARKUP.sub("", x)) for x in parts)
