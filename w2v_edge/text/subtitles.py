"""Subtitles: the words of a transcription grouped into cues, as SubRip or WebVTT text."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from w2v_edge.errors import MissingExtraError
from w2v_edge.text.decoding import Transcription, Word

Format = Literal["srt", "vtt"]

LINE = 42
"""Characters per line."""

LINES = 2

LONGEST_CUE = 6.0
"""Longest cue, in seconds."""

PAUSE = 0.8
"""A longer pause between words, in seconds, ends a cue."""


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    Attributes:
        lines: at most `LINES` of at most `LINE` characters each.
        start: milliseconds; not before the end of the previous cue.
        end: milliseconds, after `start`.
    """

    lines: tuple[str, ...]
    start: int
    end: int


def cues(transcription: Transcription) -> list[Cue]:
    """Group words into cues; each ends with its last word."""
    made: list[Cue] = []
    for group in _groups(_fitting(transcription.words)):
        start = max(round(1000 * group[0].start), made[-1].end if made else 0)
        end = max(round(1000 * group[-1].end), start + 1)
        made.append(Cue(_lines(group), start, end))
    return made


def subtitles(transcription: Transcription, kind: Format) -> str:
    """Write a transcription as the text of an `.srt` or `.vtt` file; errors as for `write_cues`."""
    return write_cues(cues(transcription), kind)


def write_cues(made: Iterable[Cue], kind: Format) -> str:
    """Write cues as the text of an `.srt` or `.vtt` file.

    Raises:
        MissingExtraError: pysubs2 is not installed.
    """
    try:
        from pysubs2 import SSAEvent, SSAFile
    except ImportError as error:
        raise MissingExtraError("writing subtitles", "pysubs2", "cli") from error
    file = SSAFile()
    for cue in made:
        event = SSAEvent(start=cue.start, end=cue.end)
        text = "\n".join(cue.lines)
        # Text must not become WebVTT markup.
        event.plaintext = html.escape(text, quote=False) if kind == "vtt" else text
        file.append(event)
    # Without this the library takes braces for its own markup and drops them.
    return file.to_string(kind, keep_ssa_tags=True)


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and not _belongs(word, group):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _belongs(word: Word, group: list[Word]) -> bool:
    return (
        word.start - group[-1].end <= PAUSE
        and word.end - group[0].start <= LONGEST_CUE
        and len(_lines([*group, word])) <= LINES
    )


def _lines(words: Iterable[Word]) -> tuple[str, ...]:
    text = " ".join(word.text for word in words)
    return tuple(textwrap.wrap(text, LINE, break_on_hyphens=False))


def _fitting(words: Iterable[Word]) -> Iterator[Word]:
    """Split words that are too long for a cue, as in models without a word delimiter.

    The times of letters within a word are unknown: each part gets a proportional share.
    """
    for word in words:
        length, seconds = len(word.text), word.end - word.start
        parts = min(length, max(math.ceil(length / LINE), math.ceil(seconds / LONGEST_CUE)))
        for i in range(parts):
            share = slice(i * length // parts, (i + 1) * length // parts)
            start = word.start + seconds * share.start / length
            end = min(word.start + seconds * share.stop / length, start + LONGEST_CUE)
            yield replace(word, text=word.text[share], start=start, end=end)
