"""Files and folders that appear whole or not at all, and are read only where they are files."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path

from w2v_edge.errors import InputError, OutputExistsError


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, unbuffered; never wait for a pipe, never touch a device.

    Raises:
        FileNotFoundError: there is nothing, or something else than a file.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no file")
    # What was a file may be a pipe by now.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise FileNotFoundError(f"{path}: no file")
    return stream


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, renamed to it when the block ends well.

    Raises:
        OutputExistsError: `path` is a folder.
    """
    _refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _make_beside(path, ".part" + path.suffix, partial(Path.touch, exist_ok=False))
    mode = temporary.stat().st_mode
    try:
        yield temporary
        # The writer may have replaced the file by one of its own.
        temporary.chmod(mode)
        _refuse_folder(path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, renamed to it when the block ends well.

    With `force` a folder that is already there is moved aside first, put back if the rename
    fails, and removed when it succeeded.

    Raises:
        OutputExistsError: `path` is there and `force` is false.
    """
    refuse_existing(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _make_beside(path, ".part", Path.mkdir)
    try:
        yield temporary
        refuse_existing(path, force=force)
        _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `OutputExistsError` if `path` is there and may not be replaced."""
    if os.path.lexists(path) and not force:
        raise OutputExistsError(f"{path} is already there; choose another output or add --force")


def refuse_unwritable(path: Path, *, make: bool = False) -> None:
    """Check that a file could be written, before the work that goes into it.

    Args:
        path: of the file.
        make: make its folder, where it is missing.

    Raises:
        OutputExistsError: there is something else than a file.
        InputError: there is no such folder, or nothing can be written there.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise OutputExistsError(f"{path} is {what}; choose a file to write")
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{path}: cannot be written ({why}); choose another file") from error


def refuse_foreign(path: Path, known: Collection[str], what: str) -> None:
    """Never replace a folder that is not `what`, or holds somebody's own files.

    Raises:
        OutputExistsError: there is something else than a folder with files called as in `known`.
    """
    if not path.name:
        raise OutputExistsError(f"{path}: expected the name of a new folder; choose another output")
    if not os.path.lexists(path):
        return
    if not path.is_dir() or any(inner.name not in known for inner in path.iterdir()):
        raise OutputExistsError(f"{path} is more or other than {what}; choose another output")


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; choose a file to write")


def _swap(temporary: Path, path: Path) -> None:
    if not os.path.lexists(path):
        temporary.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    old = aside / "old"
    try:
        path.rename(old)
        temporary.rename(path)
    except BaseException:
        if os.path.lexists(old):
            old.rename(path)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _make_beside(path: Path, suffix: str, make: Callable[[Path], None]) -> Path:
    """Make a hidden file or folder beside `path`, under a random name.

    The system applies the umask as it does to every new file: reading the umask means setting it,
    and two threads doing so could leave the process without one. `tempfile` ignores the umask.
    """
    while True:
        temporary = path.parent / (f".{path.name}.{secrets.token_hex(4)}{suffix}")
        with suppress(FileExistsError):
            make(temporary)
            return temporary
