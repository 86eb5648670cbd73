"""Subtitles: the words of a transcription grouped into cues, as SubRip or WebVTT text.

Lengths, durations, gaps and reading speed are from Netflix's Timed Text Style Guide (General
Requirements and English Template): two lines of 42 characters, up to 7 s, two frames between cues,
17 characters per second; the shortest cue is 1 s, where the guide has 5/6 s. Words are shown while
they are said: a faster speaker has faster cues.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from w2v_edge.errors import MissingExtraError
from w2v_edge.text.decoding import Transcription
from w2v_edge.text.line_breaking import (
    LINE,
    LINES,
    PAUSE,
    Piece,
    break_quality,
    lines_of,
    pieces_of,
    width_of,
)

Format = Literal["srt", "vtt"]

SHORTEST_CUE = 1.0
"""Seconds that a cue stays, if the next one lets it."""

LONGEST_CUE = 7.0
"""Seconds."""

READING_SPEED = 17.0
"""Columns per second, beyond which a cue stays longer, if the next one lets it."""

GAP = 0.084
"""Seconds between cues, two frames of a film, unless the next one follows too closely."""

BAD_BREAK, TOO_SHORT, TOO_FAST = 2.0, 4.0, 2.0
"""Costs of a cue in cues: at its worst, of its end, of its duration, of twice the reading speed."""


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    Attributes:
        lines: at most `LINES` of at most `LINE` columns each; a wider word has a line of its own.
        start: milliseconds; not before the end of the previous cue.
        end: milliseconds, after `start`.
    """

    lines: tuple[str, ...]
    start: int
    end: int


def cues(transcription: Transcription) -> list[Cue]:
    """Group words into cues."""
    return cues_of(
        piece for x in transcription.words for piece in pieces_of(x.text, [(x.start, x.end)])
    )


def cues_of(pieces: Iterable[Piece]) -> list[Cue]:
    """Group pieces of text into cues: of all ways to group them, one of the least cost.

    Cues end at pauses, at the ends of sentences and clauses, and are few, neither short nor fast.
    """
    held = [replace(x, end=min(x.end, x.start + LONGEST_CUE)) for x in pieces]
    groups = [held[i:j] for i, j in pairwise(_ends(held))]
    starts: list[int] = []
    for group in groups:
        # Cues begin in order, also where two words are within a millisecond.
        starts.append(max(round(1000 * group[0].start), starts[-1] + 1 if starts else 0))
    made = []
    for i, (group, start) in enumerate(zip(groups, starts, strict=True)):
        lines = lines_of(group)
        wanted = max(SHORTEST_CUE, sum(map(width_of, lines)) / READING_SPEED)
        end = max(round(1000 * group[-1].end), start + round(1000 * wanted))
        end = min(end, start + round(1000 * LONGEST_CUE))
        if i + 1 < len(starts):
            end = min(end, starts[i + 1] - round(1000 * GAP))
        made.append(Cue(lines, start, max(end, start + 1)))
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


def _ends(pieces: Sequence[Piece]) -> list[int]:
    """Return the ends of the cues that cost least, 0 first, by dynamic programming."""
    best, came = [0.0] + [float("inf")] * len(pieces), [0] * (len(pieces) + 1)
    for i in range(len(pieces)):
        for j, width in _fitting(pieces, i):
            total = best[i] + _cost(pieces, i, j, width)
            if total < best[j]:
                best[j], came[j] = total, i
    ends = [len(pieces)]
    while ends[-1]:
        ends.append(came[ends[-1]])
    return ends[::-1]


def _fitting(pieces: Sequence[Piece], first: int) -> Iterator[tuple[int, int]]:
    """Yield the ends of cues that begin with a piece, and their widths in columns."""
    lines, line, total = 1, 0, 0
    for i in range(first, len(pieces)):
        piece = pieces[i]
        if i > first and (
            piece.end - pieces[first].start > LONGEST_CUE or piece.start - pieces[i - 1].end > PAUSE
        ):
            return
        added = piece.width + (piece.spaced and line > 0)
        if line and line + added > LINE:
            lines, line, added = lines + 1, 0, piece.width
        if lines > LINES:
            return
        line, total = line + added, total + added
        yield i + 1, total


def _cost(pieces: Sequence[Piece], first: int, end: int, width: int) -> float:
    """Return the cost of a cue, `BAD_BREAK` and the others, of which each cue is one."""
    seconds, quality = LONGEST_CUE, 1.0
    if end < len(pieces):
        seconds = min(seconds, max(pieces[end].start - GAP - pieces[first].start, 1e-3))
        quality = break_quality(pieces[end - 1], pieces[end])
    short = max(0.0, 1 - seconds / SHORTEST_CUE)
    fast = min(1.0, max(0.0, width / (READING_SPEED * seconds) - 1))
    return 1 + BAD_BREAK * (1 - quality) + TOO_SHORT * short + TOO_FAST * fast
