"""Folders on disks and in object stores: what is written there is whole, or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, fs

from w2v_edge.errors import InputError, OutputExistsError, one_line
from w2v_edge.files import replacing


def is_uri(location: str) -> bool:
    """Tell `s3://bucket/folder` from a path."""
    return "://" in location


def resolve(location: str) -> tuple[Any, str]:
    """Return the file system of an absolute path or URI, and the path in it.

    Raises:
        InputError: no file system that pyarrow knows, or one that cannot be reached.
    """
    if not is_uri(location):
        return fs.LocalFileSystem(), location
    with reading(location):
        return fs.FileSystem.from_uri(location)  # type: ignore[no-any-return]


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Turn whatever a file system says of a location into one line that names it.

    Raises:
        InputError: it said something.
    """
    try:
        yield
    except (OSError, ArrowException, ValueError, ImportError) as error:
        raise InputError(f"{location}: cannot be read ({one_line(error)})") from error


def local_path(location: str) -> Path | None:
    """Return the path of what lies on this machine, None for what does not."""
    if not is_uri(location):
        return Path(location)
    system, path = resolve(location)
    return Path(path) if isinstance(system, fs.LocalFileSystem) else None


class Folder:
    """A folder by its absolute path or URI; it need not be there yet."""

    def __init__(self, location: str) -> None:
        """Find its file system.

        Raises:
            InputError: there is none.
            OutputExistsError: there is a file where the folder should be.
        """
        self.location = location
        self._system, path = resolve(location)
        self._root = path.rstrip("/") or path
        self._local = isinstance(self._system, fs.LocalFileSystem)
        with reading(location):
            found = self._system.get_file_info(self._root)
        if found.type not in {fs.FileType.Directory, fs.FileType.NotFound}:
            raise OutputExistsError(f"{location} is no folder; choose another output")

    def names(self) -> set[str]:
        """Return the names of what lies in it."""
        with reading(self.location):
            found = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return {info.base_name for info in found}

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self.open(name) as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Any:
        """Open a file at any place of it; a context that closes it."""
        return self._system.open_input_file(self._path(name))

    def write(self, name: str, data: Any) -> None:
        """Write a file, which appears when all of it is there.

        Args:
            name: of the file.
            data: bytes, or a buffer of pyarrow's.
        """
        if self._local:
            with replacing(Path(self._path(name))) as temporary:
                temporary.write_bytes(data)
        else:
            # An object store shows what was put when it is closed, after the one write.
            with self._system.open_output_stream(self._path(name)) as stream:
                stream.write(data)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self._system.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
