"""Utterances of a corpus: from folders, audio files and manifests.

A manifest is a table of tabs with a header (`.tsv`) or one JSON object a line (`.jsonl`). It names
audio files, relative to its own folder, in the column `path` (NeMo's `audio_filepath` and Hugging
Face's `audio` do as well), and may have their words in `text` (or Common Voice's `sentence`). A
table may also be fairseq's: a folder in the first line, then a path and its samples in each.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from w2v_edge.audio.search import find_audio
from w2v_edge.errors import InputError
from w2v_edge.files import open_regular

MANIFEST_SUFFIXES = frozenset({".tsv", ".jsonl"})

PATHS = ("path", "audio_filepath", "audio")
TEXTS = ("text", "sentence")


@dataclass(frozen=True)
class Utterance:
    """A recording of a corpus.

    Attributes:
        id: its name in the corpus: the path as its folder or manifest has it.
        path: of the file.
        text: what is said; None where that is not known.
    """

    id: str
    path: Path
    text: str | None = None


def find_utterances(sources: Sequence[Path]) -> list[Utterance]:
    """Return all utterances of folders, audio files and manifests, in their order.

    Audio files are not opened. What several sources name is there once.

    Raises:
        InputError: there is none, or a manifest that cannot be read or lacks a column.
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
        yield from read_manifest(source)
    else:
        for file, relative in find_audio([source]):
            yield Utterance(relative.as_posix(), file)


def read_manifest(path: Path) -> Iterator[Utterance]:
    """Yield the utterances of a manifest.

    Raises:
        InputError: it cannot be read, or a line lacks what it should have.
    """
    try:
        with open_regular(path) as stream:
            # Not splitlines, for which other characters end lines too.
            lines = stream.readall().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8; save it as that") from error
    except OSError as error:
        raise InputError(f"{path}: no manifest that can be read: {error.strerror}") from error
    rows = _json_rows(path, lines) if path.suffix.lower() == ".jsonl" else _table_rows(path, lines)
    for number, folder, row in rows:
        name = _first(row, PATHS)
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise InputError(f"{path}, line {number}: found no path of an audio file in 'path'")
        text = _first(row, TEXTS)
        if text is not None and not isinstance(text, str):
            raise InputError(f"{path}, line {number}: found 'text' {text!r:.40}, expected a text")
        yield Utterance(name, folder / name, text)


Row = tuple[int, Path, dict[str, object]]


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: not JSON; write one object a line") from error
        if not isinstance(row, dict) or not any(key in row for key in PATHS):
            raise InputError(
                f"{path}, line {number}: found no key {' or '.join(map(repr, PATHS))}; "
                "name the audio file"
            )
        yield number, path.parent, row


def _table_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    head = lines[0].split("\t")
    if head == [""]:
        return
    if len(head) == 1 and (path.parent / head[0]).is_dir():
        # fairseq's: the folder that the paths are in.
        for number, line in enumerate(lines[1:], 2):
            if line.strip():
                yield number, path.parent / head[0], {"path": line.split("\t")[0]}
        return
    if not any(key in head for key in PATHS):
        raise InputError(
            f"{path}: found the columns {', '.join(head)!r:.80}, expected one of "
            f"{', '.join(PATHS)} (and text, for training on words)"
        )
    cells = csv.reader(lines[1:], delimiter="\t", quoting=csv.QUOTE_NONE)
    for number, row in enumerate(cells, 2):
        if row:
            yield number, path.parent, dict(zip(head, row, strict=False))


def _first(row: dict[str, object], keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if row.get(key) is not None), None)
