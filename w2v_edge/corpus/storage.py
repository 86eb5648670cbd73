"""Folders on disk and in object stores, with atomic writes."""

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
        InputError: pyarrow does not support the file system, or cannot reach it.
    """
    if not is_uri(location):
        return fs.LocalFileSystem(), location
    with reading(location):
        return fs.FileSystem.from_uri(location)  # type: ignore[no-any-return]


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Convert the errors of a file system to one line that names the location.

    Raises:
        InputError: the file system raised an error.
    """
    try:
        yield
    except (OSError, ArrowException, ValueError, ImportError) as error:
        raise InputError(f"{location}: cannot be read ({one_line(error)})") from error


def local_path(location: str) -> Path | None:
    """Return the path of a local file, None for a remote one."""
    if not is_uri(location):
        return Path(location)
    system, path = resolve(location)
    return Path(path) if isinstance(system, fs.LocalFileSystem) else None


class Folder:
    """A folder by its absolute path or URI; it need not exist.

    Attributes:
        location: the path or URI.
    """

    def __init__(self, location: str) -> None:
        """Find the file system.

        Args:
            location: absolute path or URI.

        Raises:
            InputError: there is no such file system.
            OutputExistsError: the location is a file.
        """
        self.location = location
        self._system, path = resolve(location)
        self._root = path.rstrip("/") or path
        self._local = isinstance(self._system, fs.LocalFileSystem)
        with reading(location):
            found = self._system.get_file_info(self._root)
        if found.type not in {fs.FileType.Directory, fs.FileType.NotFound}:
            raise OutputExistsError(f"{location} is not a folder; choose another output")

    def names(self) -> set[str]:
        """Return the names in the folder."""
        with reading(self.location):
            found = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return {info.base_name for info in found}

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        with self.open(name) as stream:
            return bytes(stream.read())

    def open(self, name: str) -> Any:
        """Open a file for random access; a context that closes it."""
        return self._system.open_input_file(self._path(name))

    def write(self, name: str, data: Any) -> None:
        """Write a file atomically.

        Args:
            name: name of the file.
            data: bytes, or a pyarrow buffer.
        """
        if self._local:
            with replacing(Path(self._path(name))) as temporary:
                temporary.write_bytes(data)
        else:
            # Object stores publish a file when it is closed.
            with self._system.open_output_stream(self._path(name)) as stream:
                stream.write(data)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self._system.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
