"""Alignments as files: subtitles, Praat's TextGrid and NIST's CTM; and texts to align."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from w2v_edge.errors import InputError
from w2v_edge.files import open_regular
from w2v_edge.text.aligner import AlignedLine, Alignment
from w2v_edge.text.line_breaking import pieces_of
from w2v_edge.text.subtitles import Cue, cues_of, write_cues

Format = Literal["srt", "vtt", "textgrid", "ctm"]

SUBTITLES = {".srt", ".vtt"}
"""Endings of texts that are subtitles: each is a line, whatever its times are."""


MARKUP = re.compile(r"</?[a-z][^<>]*>|<[\d:.]+>|\{\\[^{}]*\}", re.IGNORECASE)
"""Tags and times within cues, and override codes."""


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text to align: of a text file, or one for each subtitle.

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
    if path.suffix.lower() not in SUBTITLES:
        return text.splitlines()
    found = _cue_texts(text, web=path.suffix.lower() == ".vtt")
    if not found:
        raise InputError(f"{path}: found no subtitles, expected cues with their times")
    return found


def _cue_texts(text: str, *, web: bool) -> list[str]:
    """Return the text of each cue of SubRip or WebVTT, without markup.

    Notes, styles and the names of cues are not spoken.
    """
    found = []
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.splitlines()
        times = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if times is not None:
            spoken = MARKUP.sub("", " ".join(lines[times + 1 :]))
            found.append(" ".join((html.unescape(spoken) if web else spoken).split()))
    return found


def write_alignment(alignment: Alignment, kind: Format, name: str, *, lines: bool) -> str:
    """Return an alignment as the text of a file.

    Args:
        alignment: the alignment.
        kind: `srt` or `vtt` for subtitles, `textgrid` for tiers of lines, words and labels, `ctm`
            for a line for each word.
        name: of the recording, for `ctm`.
        lines: whether each line of the text is one subtitle; otherwise words are grouped anew.

    Raises:
        MissingExtraError: pysubs2 is not installed.
    """
    if kind == "ctm":
        return "".join(
            f"{'_'.join(name.split())} 1 {x.start:.3f} {x.end - x.start:.3f} {x.word} "
            f"{x.score:.3f}\n"
            for x in alignment.words
        )
    if kind == "textgrid":
        return _textgrid(alignment)
    if lines:
        return write_cues(_of_lines(alignment.lines), kind)
    pieces = (
        piece
        for word in alignment.words
        for piece in pieces_of(word.word, [(x.start, x.end) for x in word.labels])
    )
    return write_cues(cues_of(pieces), kind)


def _of_lines(lines: Iterable[AlignedLine]) -> list[Cue]:
    """Return a cue for each line, none before the end of the one before."""
    made: list[Cue] = []
    for line in lines:
        start = max(round(1000 * line.start), made[-1].end if made else 0)
        made.append(Cue((line.text,), start, max(round(1000 * line.end), start + 1)))
    return made


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
