"""Utterances of a corpus, found in folders, audio files and manifests.

A manifest is a tab-separated table with a header (`.tsv`), or one JSON object per line (`.jsonl`).
The column `path` (or NeMo's `audio_filepath`, Hugging Face's `audio`) names audio files relative to
the manifest's folder; the optional column `text` (or Common Voice's `sentence`) has transcripts.
fairseq's tables are also supported: a folder in the first line, then lines of a path and a number
of samples.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from w2v_edge.audio.search import find_audio
from w2v_edge.errors import InputError
from w2v_edge.files import open_regular

MANIFEST_SUFFIXES = frozenset({".tsv", ".jsonl"})

PATHS = ("path", "audio_filepath", "audio")
TEXTS = ("text", "sentence")

MAX_PATH = 4096
"""Longest path in a manifest, in characters; Linux's limit."""


@dataclass(frozen=True)
class Utterance:
    """A recording of a corpus.

    Attributes:
        id: name in the corpus: the path relative to its folder, or as its manifest writes it.
        path: path of the audio file.
        text: transcript; None if unknown.
    """

    id: str
    path: Path
    text: str | None = None


def find_utterances(sources: Sequence[Path]) -> list[Utterance]:
    """List the utterances of folders, audio files and manifests, in order.

    Audio files are not opened. A file that several sources name is listed once.

    Raises:
        InputError: no audio was found, or a manifest cannot be read or lacks a column.
    """
    found: dict[Path, Utterance] = {}
    for source in sources:
        for utterance in _of_source(source):
            found.setdefault(utterance.path, utterance)
    if not found:
        where = ", ".join(map(str, sources))
        raise InputError(
            f"no audio found in {where}; name audio files, folders of them, .tsv or .jsonl"
        )
    return list(found.values())


def _of_source(source: Path) -> Iterator[Utterance]:
    if source.suffix.lower() in MANIFEST_SUFFIXES and not source.is_dir():
        yield from read_speech_manifest(source)
    else:
        for file, relative in find_audio([source]):
            yield Utterance(relative.as_posix(), file)


def read_speech_manifest(path: Path) -> Iterator[Utterance]:
    """Read the utterances of a `.tsv` or `.jsonl` manifest.

    Raises:
        InputError: the file cannot be read, or a line is malformed; names the file and the line.
    """
    for row in read_manifest_rows(path):
        if isinstance(row, InputError):
            raise row
        yield row


def read_manifest_rows(path: Path) -> Iterator[Utterance | InputError]:
    """Read each row of a manifest: its utterance, or, if it is malformed, the error that says so.

    Raises:
        InputError: the file cannot be read, or its columns are unknown.
    """
    lines = _read_lines(path)
    parse: Callable[[str], Row]
    folder, parse, first = path.parent, _json_row, 1
    if path.suffix.lower() != ".jsonl":
        folder, header = _table_header(path, lines)
        parse, first = partial(_table_row, header), 2
    for number, line in enumerate(lines[first - 1 :], first):
        if not line.strip(b" "):
            continue
        try:
            yield _utterance(folder, parse(_decoded(line)))
        except InputError as error:
            yield InputError(f"{path}, line {number}: {error}")


Row = Mapping[str, object]
"""Values by column."""


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list, which may hold any other separator of lines.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    lines = _read_lines(path)
    try:
        return [_decoded(line) for line in lines]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_lines(path: Path) -> list[bytes]:
    try:
        with open_regular(path) as stream:
            # Not splitlines(), which also splits at characters such as U+2028.
            content = stream.readall().removeprefix(codecs.BOM_UTF8)
            return content.replace(b"\r\n", b"\n").split(b"\n")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: the manifest does not exist, or is not a regular file; check its path"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot read the manifest: {error.strerror or error}") from error


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError("found bytes that are not UTF-8; save it as UTF-8") from error


def _utterance(folder: Path, row: Row) -> Utterance:
    name, text = _first(row, PATHS), _first(row, TEXTS)
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputError("found no path, expected that of an audio file; fill it in")
    if len(name) > MAX_PATH:
        raise InputError(
            f"found a path of {len(name)} characters, expected at most {MAX_PATH}; "
            "check that a tab or a line end is not missing"
        )
    if Path(name).name in {"", ".."} or any("\ud800" <= char <= "\udfff" for char in name):
        raise InputError(f"found the path {name!r:.40}, expected that of an audio file; correct it")
    if text is not None and not isinstance(text, str):
        raise InputError(f"found 'text' {text!r:.40}, expected a text")
    return Utterance(name, folder / name, text)


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON; write one object per line") from error
    if not isinstance(row, dict) or not any(key in row for key in PATHS):
        raise InputError(f"found no key {' or '.join(map(repr, PATHS))}; name the audio file")
    return row


def _table_header(path: Path, lines: Sequence[bytes]) -> tuple[Path, list[str]]:
    """Return the folder that paths are relative to, and the columns."""
    try:
        _check_line(text := _decoded(lines[0]))
    except InputError as error:
        raise InputError(f"{path}, line 1: {error}") from error
    header = text.split("\t")
    # fairseq: the first line names the folder that the paths are relative to, and each path is
    # followed by a number of samples. A column may have the name of a folder beside the table.
    is_column = header[0] in PATHS and b"\t" not in next(filter(None, lines[1:]), b"")
    if len(header) == 1 and header[0] and not is_column and (path.parent / header[0]).is_dir():
        return path.parent / header[0], ["path"]
    if header != [""] and not any(key in header for key in PATHS):
        raise InputError(
            f"{path}: found the columns {', '.join(header)!r:.80}, expected one of "
            f"{', '.join(PATHS)} (and text, for training on words)"
        )
    return path.parent, header


def _table_row(header: Sequence[str], line: str) -> Row:
    _check_line(line)
    return dict(zip(header, line.split("\t"), strict=False))


def _check_line(line: str) -> None:
    if "\r" in line:
        raise InputError(
            "found a carriage return within the line, expected lines that end with LF or CRLF; "
            "save it with these"
        )


def _first(row: Row, keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if row.get(key) is not None), None)
