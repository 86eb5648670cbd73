"""Copies of files to a device, by hash.

A file that is there is not sent again, and a copy that broke off continues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from w2v_edge.errors import RemoteError
from w2v_edge.remote.agent import CHUNK
from w2v_edge.remote.connection import Connection

ATTEMPTS = 3

ShowCopy = Callable[[str, int, int], None]
"""Called with a tree's name, bytes that are there, and all of its bytes."""


@dataclass(frozen=True)
class Tree:
    """Files to copy together.

    Attributes:
        name: name of the file or folder on the device.
        files: local files by their path there, which begins with the name.
    """

    name: str
    files: Mapping[str, Path]

    @classmethod
    def of(cls, path: Path, files: Mapping[str, Path] | None = None) -> Tree:
        """Return the tree of one file, or of some files of a folder.

        Args:
            path: the file or folder.
            files: files of the folder, by their path in it; None for a file.
        """
        name = path.resolve().name if path.name in {"", ".."} else path.name
        inner = {"": path} if files is None else files
        return cls(name, {f"{name}/{x}".rstrip("/"): file for x, file in inner.items()})

    @cached_property
    def described(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each file by its path on the device."""
        return {name: _describe(path) for name, path in sorted(self.files.items())}

    @property
    def id(self) -> str:
        """Hash of all names and contents."""
        return hashlib.sha256(repr(self.described).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Total size of all files in bytes."""
        return sum(size for size, _ in self.described.values())


def missing(connection: Connection, tree: Tree) -> dict[str, int]:
    """Return the files that the device lacks, with the number of bytes that it has of each."""
    found: dict[str, int] = connection.ask("check", tree=tree.id, files=tree.described)
    return {name: have for name, have in found.items() if name in tree.files}


def send(connection: Connection, tree: Tree, lacking: dict[str, int], show: ShowCopy) -> None:
    """Send the files that are missing, or the rest of them.

    Args:
        connection: to the device.
        tree: the files.
        lacking: as `missing` returned it.
        show: called after each part.

    Raises:
        RemoteError: the copy differs, or the device refuses it.
        LostConnection: the device is gone.
    """
    for _ in range(ATTEMPTS):
        if not lacking:
            return
        there = tree.size - sum(tree.described[x][0] - have for x, have in lacking.items())
        for name, have in lacking.items():
            for content in _send_file(connection, tree, name, have):
                there += len(content)
                show(tree.name, there, tree.size)
        lacking = missing(connection, tree)
    raise RemoteError(f"{connection.name}: {tree.name}: the copy differs; is its disk damaged?")


def _send_file(connection: Connection, tree: Tree, name: str, offset: int) -> Iterator[bytes]:
    """Send a file from an offset on, and yield its parts."""
    size, sha256 = tree.described[name]
    connection.send("put", tree=tree.id, name=name, offset=offset, size=size, sha256=sha256)
    with tree.files[name].open("rb") as stream:
        stream.seek(offset)
        while stream.tell() < size:
            content = stream.read(min(CHUNK, size - stream.tell()))
            if not content:
                raise RemoteError(f"{tree.files[name]}: changed while it was copied")
            connection.send_data(content)
            yield content


def _describe(path: Path) -> tuple[int, str]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), digest
