"""WebDataset shards as files: finding, opening, and reading the audio in them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from w2v_edge.audio import AUDIO_SUFFIXES
from w2v_edge.errors import InputError, MissingExtraError, one_line
from w2v_edge.files import open_regular

SUFFIX = ".tar"
SCHEMES = ("http", "https", "gs")
"""URL schemes that webdataset, from 1.0.2 on, opens with curl or gsutil and without a shell."""

BLOCK = 512
"""Size of a tar's blocks in bytes; a block of zeros ends the tar."""

TRUNCATED = "ends early, or is damaged; copy it again"


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return up to `size` bytes."""


def find_shards(sources: Sequence[str | Path]) -> list[str]:
    """Return the paths and URLs of the shards that sources name, each once.

    Args:
        sources: shards, or other recordings; the pattern `shards-{000..127}.tar` names 128 shards.

    Returns:
        paths and URLs; empty if no source is a shard.

    Raises:
        InputError: only some sources are shards, a path is not a tar, or a URL has another scheme.
    """
    shards = [str(source) for source in sources if _is_shard(str(source))]
    if not shards:
        return []
    if len(shards) < len(sources):
        raise InputError(f"found shards ({shards[0]}) beside other recordings; train on either")
    names = list(dict.fromkeys(name for shard in shards for name in _expand(shard)))
    for name in names:
        _check_can_open(name)
    return names


def short_name(shard: str) -> str:
    """Return the last part of a shard's path, without the query of a URL."""
    return PurePosixPath(shard.split("?", maxsplit=1)[0] if _scheme(shard) else shard).name


def key_of(name: str) -> str:
    """Return the WebDataset key of a file in a shard: its name without extensions."""
    tariterators, _ = _webdataset()
    key: str | None = tariterators.base_plus_ext(name)[0]
    return key or name


@contextmanager
def open_shard(shard: str) -> Iterator[Readable]:
    """Open a shard for reading from its beginning.

    Raises:
        InputError: the shard does not exist, or cannot be read to its end.
    """
    _, gopen = _webdataset()
    try:
        with gopen(shard) if _scheme(shard) else open_regular(Path(shard)) as stream:
            yield stream
    except FileNotFoundError as error:
        raise InputError(f"{shard}: no such shard; name .tar files that exist") from error
    except OSError as error:
        raise InputError(f"{shard}: cannot be read ({_reason(error)}); try again") from error


def audio_of(shard: str, stream: Readable) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each audio file of a shard.

    Raises:
        InputError: the shard is not a tar, or ends early.
    """
    tariterators, _ = _webdataset()
    recorder = _RecordingStream(stream)
    begun = False
    try:
        for file in tariterators.tar_file_iterator(recorder, select_files=_is_audio):
            begun = True
            yield file["fname"], file["data"]
    except (tarfile.TarError, EOFError, ValueError) as error:
        if begun or recorder.was_tar:
            raise InputError(f"{shard}: {TRUNCATED}") from error
        raise InputError(f"{shard}: not a tar; name shards of WebDataset") from error
    if any(recorder.last) or len(recorder.last) < BLOCK:
        raise InputError(f"{shard}: {TRUNCATED}")


class _RecordingStream:
    """A stream that keeps the first and the last block that were read.

    tarfile does not notice a tar that ends between two files.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.last = b""
        self.first: bytes | None = None

    @property
    def was_tar(self) -> bool:
        """Whether the first block is a tar header."""
        return self.first is not None and self.first[257:262] == b"ustar"

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._stream.read(size) or b""
        if self.first is None:
            self.first = data[:BLOCK]
        self.last = (self.last + data[-BLOCK:])[-BLOCK:]
        return data


def _is_shard(source: str) -> bool:
    if _scheme(source):
        return True
    return source.lower().endswith(SUFFIX) and not Path(source).is_dir()


def _scheme(source: str) -> str:
    """Return the part before `://`, or `pipe`, whose commands webdataset would run."""
    if source.lower().startswith("pipe:"):
        return "pipe"
    scheme, colon, _ = source.partition("://")
    return scheme.lower() if colon and scheme.isalnum() else ""


def _expand(pattern: str) -> list[str]:
    if Path(pattern).exists():
        return [pattern]
    from webdataset.tariterators import braceexpand

    try:
        return list(braceexpand.braceexpand(pattern))
    except ValueError as error:
        raise InputError(f"{pattern}: {one_line(error)}; write shards-{{000..127}}.tar") from error


def _check_can_open(name: str) -> None:
    scheme = _scheme(name)
    if scheme:
        if scheme not in SCHEMES:
            known = ", ".join(f"{x}://" for x in SCHEMES)
            raise InputError(f"{name:.80}: found {scheme}, expected a path, or one of {known}")
        return
    with open_shard(name) as stream:
        # Headers of old tars have no magic number: tarfile knows.
        head = stream.read(BLOCK) or b""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise InputError(f"{name}: not a tar; name shards of WebDataset") from error


def _is_audio(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES


def _reason(error: OSError) -> str:
    return error.strerror or one_line(error)


def _webdataset() -> tuple[Any, Any]:
    try:
        from webdataset import tariterators
        from webdataset.gopen import gopen
    except ImportError as error:
        raise MissingExtraError("reading shards", "webdataset", "train") from error
    return tariterators, gopen
