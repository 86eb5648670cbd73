"""Alignments as files: subtitles, Praat's TextGrid and NIST's CTM; and texts to align."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from w2v_edge.errors import InputError
from w2v_edge.files import open_regular
from w2v_edge.text.aligner import AlignedWord, Alignment
from w2v_edge.text.line_breaking import Piece, pieces_of
from w2v_edge.text.subtitles import cues_of, write_cues
from w2v_edge.text.timed_subtitles import TimedSubtitles, Times

Format = Literal["srt", "vtt", "textgrid", "ctm"]

BYTES = "surrogateescape"
"""How Python keeps bytes of a file's name that are no Unicode."""


def read_text(path: Path) -> str | TimedSubtitles:
    """Read a text to align: that of a text file, or subtitles (.srt, .vtt).

    Raises:
        InputError: the file cannot be read, or has no subtitles.
    """
    try:
        with open_regular(path) as stream:
            text = stream.readall().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes that are not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read the text ({error.strerror or error})") from error
    match path.suffix.lower():
        case ".srt":
            found = TimedSubtitles.parse(text, "srt")
        case ".vtt":
            found = TimedSubtitles.parse(text, "vtt")
        case _:
            return text
    if not found.cues:
        raise InputError(f"{path}: found no subtitles, expected cues with their times")
    return found


def spoken_text(text: str | TimedSubtitles) -> str:
    """Return what is spoken: a text itself, or a line for each subtitle."""
    return text if isinstance(text, str) else "\n".join(cue.spoken for cue in text.cues)


def write_alignment(
    alignment: Alignment, kind: Format, name: str, text: str | TimedSubtitles
) -> str:
    """Return an alignment as the text of a file.

    Args:
        alignment: the alignment.
        kind: `srt` or `vtt` for subtitles, `textgrid` for tiers of lines, words and labels, `ctm`
            for a line for each word.
        name: of the recording, for `ctm`; spaces, `%` and bytes that are no Unicode are
            percent-encoded.
        text: that was aligned. Subtitles keep their text and get new times; words of other texts
            are grouped, and those without a time follow the word before.

    Raises:
        MissingExtraError: pysubs2 is not installed.
    """
    if kind == "ctm":
        recording = "".join(quote(x, errors=BYTES) if _is_quoted(x) else x for x in name)
        return "".join(
            f"{recording} 1 {x.start:.3f} {x.end - x.start:.3f} {x.word} {x.score:.3f}\n"
            for x in alignment.words
        )
    if kind == "textgrid":
        return _textgrid(alignment)
    if isinstance(text, TimedSubtitles):
        return text.retimed(list(_times(text, alignment)), kind)
    return write_cues(cues_of(_all_pieces(text, alignment)), kind)


def untimed_cues(subtitles: TimedSubtitles, alignment: Alignment) -> list[str]:
    """Return the texts of cues without a word that has a time."""
    words = _words_of_cues(subtitles, alignment)
    return [
        " ".join(cue.lines) for cue, found in zip(subtitles.cues, words, strict=True) if not found
    ]


def _words_of_cues(subtitles: TimedSubtitles, alignment: Alignment) -> Iterator[list[AlignedWord]]:
    """Yield the words of each cue that have a time."""
    words, end = iter(alignment.words), 0
    following = next(words, None)
    for cue in subtitles.cues:
        end += len(cue.spoken.split())
        found = []
        while following is not None and following.position < end:
            found.append(following)
            following = next(words, None)
        yield found


def _times(subtitles: TimedSubtitles, alignment: Alignment) -> Iterator[Times]:
    """Yield the times of each cue, none before the end of the one before.

    A cue without a timed word follows the one before, as long as it was shown and there is room.
    """
    found = list(_words_of_cues(subtitles, alignment))
    starts = [round(1000 * words[0].start) for words in found if words]
    at, timed = 0, 0
    for cue, words in zip(subtitles.cues, found, strict=True):
        if words:
            start, end, timed = max(at, starts[timed]), round(1000 * words[-1].end), timed + 1
        else:
            room = starts[timed] if timed < len(starts) else at + cue.milliseconds
            start, end = at, min(at + cue.milliseconds, room)
        at = max(end, start + 1)
        yield start, at


def _all_pieces(text: str, alignment: Alignment) -> Iterator[Piece]:
    """Yield all words of a text; those without a time last no time, after the one before."""
    timed = {x.position: x for x in alignment.words}
    at = alignment.words[0].start
    for position, written in enumerate(text.split()):
        word = timed.get(position)
        spans = [(at, at)] if word is None else [(x.start, x.end) for x in word.labels]
        yield from pieces_of(written, spans)
        at = spans[-1][1]


def _textgrid(alignment: Alignment) -> str:
    """Return Praat's long text format; its intervals cover all time, so gaps are empty ones."""
    end = max(x.end for x in alignment.labels)
    tiers: dict[str, list[tuple[float, float, str]]] = {
        "lines": [(x.start, x.end, x.text) for x in alignment.lines],
        "words": [(x.start, x.end, x.word) for x in alignment.words],
        "labels": [(x.start, x.end, x.label) for x in alignment.labels],
    }
    written = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.6f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, spans) in enumerate(tiers.items(), 1):
        intervals = _without_gaps(spans, end)
        written += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {end:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for i, (start, stop, text) in enumerate(intervals, 1):
            quoted = text.replace('"', '""')
            written += [
                f"        intervals [{i}]:",
                f"            xmin = {start:.6f}",
                f"            xmax = {stop:.6f}",
                f'            text = "{quoted}"',
            ]
    return "\n".join(written) + "\n"


def _is_quoted(char: str) -> bool:
    return char.isspace() or char == "%" or "\udc80" <= char <= "\udcff"


def _without_gaps(
    spans: Iterable[tuple[float, float, str]], end: float
) -> list[tuple[float, float, str]]:
    made, at = [], 0.0
    for start, stop, text in spans:
        if start > at:
            made.append((at, start, ""))
        made.append((start, stop, text))
        at = stop
    if end > at:
        made.append((at, end, ""))
    return made


def as_json(path: str, alignment: Alignment) -> dict[str, Any]:
    """Return an alignment as one JSON object for a recording."""
    return {
        "path": path,
        "score": alignment.score,
        "words": [
            {"word": x.word, "start": x.start, "end": x.end, "score": x.score}
            for x in alignment.words
        ],
        "labels": [vars(x) for x in alignment.labels],
        "lines": [
            {"text": x.text, "start": x.start, "end": x.end, "score": x.score}
            for x in alignment.lines
        ],
        "unaligned": list(alignment.unaligned),
        "remarks": alignment.remarks,
    }
