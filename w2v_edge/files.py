"""Atomic writes of files and folders, checks of outputs, and reading of regular files only."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path

from w2v_edge.errors import InputError, OutputExistsError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a disk, a quota or a limit that is full."""


def cache_folder() -> Path | None:
    """Return this user's folder for caches of this package; None without a home folder."""
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library/Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "w2v-edge"


def settings_folder() -> Path | None:
    """Return this user's folder for settings of this package; None without a home folder.

    No clean-up of caches removes it.
    """
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library/Application Support"
        else:
            base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        return None
    return base / "w2v-edge"


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading, unbuffered; never block on a pipe or open a device.

    Raises:
        FileNotFoundError: the path does not exist, or is not a regular file.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no file")
    # The path may have become a pipe since the check.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise FileNotFoundError(f"{path}: no file")
    return stream


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, renamed to it if the block does not raise.

    Raises:
        OutputExistsError: `path` is a folder.
    """
    _check_not_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _make_beside(path, ".part" + path.suffix, partial(Path.touch, exist_ok=False))
    mode = temporary.stat().st_mode
    try:
        with _naming(path):
            yield temporary
        # The writer may have replaced the file, with another mode.
        temporary.chmod(mode)
        _check_not_folder(path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, renamed to it if the block does not raise.

    With `force` an existing folder is moved aside before the rename, restored if the rename fails,
    and removed if it succeeds.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
    """
    check_absent(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _make_beside(path, ".part", Path.mkdir)
    try:
        with _naming(path):
            yield temporary
        check_absent(path, force=force)
        _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_absent(path: Path, *, force: bool) -> None:
    """Check that `path` does not exist, or may be replaced.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
    """
    if os.path.lexists(path) and not force:
        raise OutputExistsError(f"{path} already exists; choose another output or add --force")


def check_writable(path: Path, *, make: bool = False) -> None:
    """Check that a file can be written, before its content is computed.

    Args:
        path: path of the file.
        make: whether to create its folder.

    Raises:
        OutputExistsError: `path` exists and is not a regular file.
        InputError: the folder does not exist or is not writable.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise OutputExistsError(f"{path} is {what}; choose a file to write")
    try:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{path}: cannot be written ({why}); choose another file") from error


def check_overwritable(path: Path, is_known: Callable[[str], bool], what: str) -> None:
    """Check that a folder holds only known files, so that replacing it loses nothing else.

    Args:
        path: folder to be replaced; it need not exist.
        is_known: whether the folder may hold a file of this name.
        what: name of its content in the error, such as "a bundle".

    Raises:
        OutputExistsError: `path` is not a folder, or holds other files.
    """
    if not path.name:
        raise OutputExistsError(f"{path}: expected the name of a new folder; choose another output")
    if not os.path.lexists(path):
        return
    if not path.is_dir() or not all(is_known(x.name) for x in path.iterdir()):
        raise OutputExistsError(
            f"{path} is not {what}, or holds other files; choose another output"
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give the path to errors of a full disk, which the system raises without one."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def _check_not_folder(path: Path) -> None:
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
    """Make a hidden file or folder beside `path`, with a random name.

    `tempfile` would ignore the umask. The system applies it here: reading the umask means setting
    it, and two threads doing so could leave the process without one.
    """
    while True:
        temporary = path.parent / (f".{path.name}.{secrets.token_hex(4)}{suffix}")
        with suppress(FileExistsError):
            make(temporary)
            return temporary
