"""The recordings of a corpus, on disk or in object stores."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from pyarrow import fs

from w2v_edge.audio.audio_file import AudioFile
from w2v_edge.audio.search import AUDIO_SUFFIXES
from w2v_edge.audio.utterances import MANIFEST_SUFFIXES, find_utterances
from w2v_edge.corpus.storage import is_uri, local_path, reading, resolve
from w2v_edge.errors import AudioFileError, InputError


@dataclass(frozen=True)
class Entry:
    """A recording of a corpus.

    Attributes:
        id: name in the corpus: the path relative to its folder, or as its manifest writes it.
        path: an absolute path, or a URI.
        text: transcript; None if unknown.
    """

    id: str
    path: str
    text: str | None = None


def find_entries(sources: Sequence[str]) -> list[Entry]:
    """List the recordings of folders, audio files and manifests, each path once.

    Sources are paths, or URIs of files and folders that pyarrow supports, such as `s3://`.
    Manifests must be local, and may name recordings by URI.

    Raises:
        InputError: a source does not exist or has no audio, or a manifest is malformed.
    """
    found: dict[str, Entry] = {}
    for source in sources:
        path = local_path(source)
        entries = _of_uri(source) if path is None else _of_path(path)
        for entry in entries:
            found.setdefault(entry.path, entry)
    return list(found.values())


@contextmanager
def open_entry(entry: Entry, sample_rate: int) -> Iterator[AudioFile]:
    """Open a recording for a block; one in an object store is copied to a temporary file.

    Raises:
        AudioFileError: the recording cannot be read, also within the block.
    """
    path = local_path(entry.path)
    if path is not None:
        yield AudioFile(path, sample_rate)
        return
    with tempfile.NamedTemporaryFile(prefix="w2v-edge-") as copy:
        with reading(entry.path):
            system, inner = resolve(entry.path)
            with system.open_input_stream(inner) as stream:
                shutil.copyfileobj(stream, copy)
        copy.flush()
        try:
            yield AudioFile(copy.name, sample_rate)
        except AudioFileError as error:
            raise AudioFileError(str(error).replace(copy.name, entry.path)) from error


def _of_path(source: Path) -> Iterator[Entry]:
    if not os.path.lexists(source):
        raise InputError(f"{source}: found nothing there; name audio files, folders or manifests")
    if source.is_dir():
        with reading(str(source)):
            for _ in os.walk(source, onerror=_reraise):
                pass
    for utterance in find_utterances([source]):
        # The manifest reader takes any name for a path relative to the manifest.
        remote = is_uri(utterance.id)
        path = utterance.id if remote else os.path.abspath(utterance.path)  # noqa: PTH100 - links stay
        yield Entry(utterance.id, path, utterance.text)


def _reraise(error: OSError) -> None:
    """Without this, `os.walk` skips unreadable folders silently."""
    raise error


def _of_uri(source: str) -> Iterator[Entry]:
    system, path = resolve(source)
    with reading(source):
        info = system.get_file_info(path)
        inner = []
        if info.type == fs.FileType.Directory:
            inner = system.get_file_info(fs.FileSelector(path, recursive=True))
    if PurePosixPath(path).suffix.lower() in MANIFEST_SUFFIXES:
        raise InputError(f"{source}: a manifest must be a local file; copy it here")
    if info.type == fs.FileType.File:
        yield Entry(PurePosixPath(path).name, source)
        return
    names = [x.path.removeprefix(path).lstrip("/") for x in inner if x.type == fs.FileType.File]
    names = sorted(x for x in names if PurePosixPath(x).suffix.lower() in AUDIO_SUFFIXES)
    if not names:
        raise InputError(f"{source}: found no audio there; name audio files or folders of them")
    folder, mark, options = source.partition("?")
    for name in names:
        # fsspec takes URIs as they are, without quoting.
        end = name if isinstance(system, fs.PyFileSystem) else quote(name)
        yield Entry(name, f"{folder.rstrip('/')}/{end}{mark}{options}")
