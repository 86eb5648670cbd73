"""Utterances of a corpus, found in folders, audio files and manifests.

A manifest is a tab-separated table with a header (`.tsv`), or one JSON object per line (`.jsonl`).
The column `path` (or NeMo's `audio_filepath`, Hugging Face's `audio`) names audio files relative to
the manifest's folder; the optional column `text` (or Common Voice's `sentence`) has transcripts.
fairseq's tables are also supported: a folder in the first line, then lines of a path and a number
of samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    lines = read_lines(path)
    rows = _json_rows(path, lines) if path.suffix.lower() == ".jsonl" else _table_rows(path, lines)
    for number, folder, row in rows:
        name = _first(row, PATHS)
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise InputError(
                f"{path}, line {number}: found no path, expected that of an audio file; fill it in"
            )
        if len(name) > MAX_PATH:
            raise InputError(
                f"{path}, line {number}: found a path of {len(name)} characters, expected at most "
                f"{MAX_PATH}; check that a tab or a line end is not missing"
            )
        text = _first(row, TEXTS)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{path}, line {number}: found 'text' {text!r:.40}, expected a text")
        yield Utterance(name, folder / name, text)


ManifestRow = tuple[int, Path, dict[str, object]]
"""Line number, the folder that paths are relative to, and values by column."""


def read_lines(path: Path) -> list[str]:
    """Read the lines of a manifest, which may hold any other separator of lines.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open_regular(path) as stream:
            # Not splitlines(), which also splits at characters such as U+2028.
            return stream.readall().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes that are not UTF-8; save it as UTF-8") from error
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: the manifest does not exist, or is not a regular file; check its path"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot read the manifest: {error.strerror or error}") from error


def _json_rows(path: Path, lines: Sequence[str]) -> Iterator[ManifestRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not JSON; write one object per line"
            ) from error
        if not isinstance(row, dict) or not any(key in row for key in PATHS):
            raise InputError(
                f"{path}, line {number}: found no key {' or '.join(map(repr, PATHS))}; "
                "name the audio file"
            )
        yield number, path.parent, row


def _table_rows(path: Path, lines: Sequence[str]) -> Iterator[ManifestRow]:
    for number, line in enumerate(lines, 1):
        if "\r" in line:
            raise InputError(
                f"{path}, line {number}: found a carriage return within the line, expected lines "
                "that end with LF or CRLF; save it with these"
            )
    header = lines[0].split("\t")
    if header == [""]:
        return
    folder = path.parent
    if len(header) == 1 and (folder / header[0]).is_dir():
        # fairseq: the first line names the folder that the paths are relative to.
        folder, header = folder / header[0], ["path"]
    elif not any(key in header for key in PATHS):
        raise InputError(
            f"{path}: found the columns {', '.join(header)!r:.80}, expected one of "
            f"{', '.join(PATHS)} (and text, for training on words)"
        )
    for number, line in enumerate(lines[1:], 2):
        if line.strip(" "):
            yield number, folder, dict(zip(header, line.split("\t"), strict=False))


def _first(row: dict[str, object], keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if row.get(key) is not None), None)
