"""Files and folders are written completely or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from w2v_edge import files
from w2v_edge.errors import OutputExistsError
from w2v_edge.files import replacing, replacing_folder


def _names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def _folder(path: Path, contents: str) -> Path:
    path.mkdir()
    (path / "file").write_text(contents)
    return path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_block_changes_no_file(
    tmp_path: Path, before: str | None, error: type[BaseException]
) -> None:
    """A failed block keeps existing files and leaves no new ones."""
    path = tmp_path / "out.pt"
    if before is not None:
        path.write_text(before)

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert _names(tmp_path) == ([] if before is None else ["out.pt"])
    assert before is None or path.read_text() == before


def test_a_file_is_unseen_until_it_is_whole(tmp_path: Path) -> None:
    """The old content stays until the block ends, then the new one replaces it."""
    path = tmp_path / "a" / "b" / "out.pt"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
        assert temporary.suffix == path.suffix
    with replacing(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert _names(path.parent) == ["out.pt"]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    """A folder is never replaced by a file, whenever it was made."""
    path = tmp_path / "out.pt"

    def race() -> None:
        with replacing(path) as temporary:
            temporary.write_text("mine")
            _folder(path, "theirs")

    with pytest.raises(OutputExistsError, match=f"{path} is a folder"):
        race()
    with pytest.raises(OutputExistsError, match=f"{path} is a folder"), replacing(path):
        pytest.fail("the block ran")
    assert _names(tmp_path) == ["out.pt"]
    assert (path / "file").read_text() == "theirs"


def test_permissions_are_those_of_new_files_and_folders(tmp_path: Path) -> None:
    """Permissions follow the umask."""
    old = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("x")
        with replacing_folder(tmp_path / "folder"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_threads_that_write_files_keep_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand interleaved writes all follow the umask, and leave it as it was."""
    modes: list[int] = []
    umask = os.umask

    def switch_threads(mask: int) -> int:
        previous = umask(mask)
        time.sleep(0)
        return previous

    def write(number: int) -> None:
        with replacing(tmp_path / f"{number}") as temporary:
            temporary.write_text("x")
        modes.append((tmp_path / f"{number}").stat().st_mode & 0o777)

    old = umask(0o027)
    monkeypatch.setattr(os, "umask", switch_threads)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(1000)))
    finally:
        left = umask(old)
    assert left == 0o027
    assert set(modes) == {0o640}


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_unseen_until_it_is_whole(tmp_path: Path, force: bool) -> None:
    """The folder appears under its name when the block has ended."""
    path = tmp_path / "new" / "bundle"
    with replacing_folder(path, force=force) as temporary:
        (temporary / "file").write_text("x")
        assert not path.exists()
    assert _names(path.parent) == ["bundle"]
    assert _names(path) == ["file"]


def test_what_is_there_is_refused(tmp_path: Path) -> None:
    """Without force, a folder, file or dangling link is in the way, before any work is done."""
    _folder(tmp_path / "folder", "old")
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        with (
            pytest.raises(OutputExistsError, match="--force"),
            replacing_folder(tmp_path / name),
        ):
            pytest.fail("the block ran")
    assert _names(tmp_path) == ["file", "folder", "link"]


def test_what_appears_meanwhile_is_refused(tmp_path: Path) -> None:
    """A folder that someone else made during the block is not overwritten."""
    path = tmp_path / "bundle"

    def race() -> None:
        with replacing_folder(path) as temporary:
            (temporary / "file").write_text("mine")
            _folder(path, "theirs")

    with pytest.raises(OutputExistsError):
        race()
    assert _names(tmp_path) == ["bundle"]
    assert (path / "file").read_text() == "theirs"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_force_replaces_what_was_there(tmp_path: Path, kind: str) -> None:
    """With force, the new folder replaces the old one."""
    path = tmp_path / "bundle"
    if kind == "folder":
        _folder(path, "old")
    else:
        path.write_text("old")
    with replacing_folder(path, force=True) as temporary:
        (temporary / "new").write_text("new")
        assert path.exists()
    assert _names(tmp_path) == ["bundle"]
    assert _names(path) == ["new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("force", [False, True])
def test_a_failed_block_changes_no_folder(
    tmp_path: Path, force: bool, error: type[BaseException]
) -> None:
    """With an error inside, the old folder stays and nothing is left beside it."""
    path = tmp_path / "bundle"
    if force:
        _folder(path, "old")

    def fail() -> None:
        with replacing_folder(path, force=force) as temporary:
            (temporary / "file").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert _names(tmp_path) == (["bundle"] if force else [])
    assert not force or (path / "file").read_text() == "old"


def test_force_puts_the_old_folder_back_on_error(tmp_path: Path) -> None:
    """Where the new folder cannot take the name, the old one has it again."""
    path = _folder(tmp_path / "bundle", "old")
    with pytest.raises(FileNotFoundError):
        files._swap(tmp_path / "absent", path)
    assert _names(tmp_path) == ["bundle"]
    assert (path / "file").read_text() == "old"


def test_a_vanished_folder_leaves_the_old_one(tmp_path: Path) -> None:
    """If the temporary folder is swept away, the old one stays."""
    path = _folder(tmp_path / "bundle", "old")
    with pytest.raises(FileNotFoundError), replacing_folder(path, force=True) as temporary:
        shutil.rmtree(temporary)
    assert _names(tmp_path) == ["bundle"]
    assert (path / "file").read_text() == "old"


def test_a_folder_that_cannot_be_moved_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that one is in has no name to give up: it stays, with nothing new in it."""
    monkeypatch.chdir(_folder(tmp_path / "bundle", "old"))
    with pytest.raises(OSError), replacing_folder(Path(), force=True):  # noqa: PT011
        pass
    assert _names(tmp_path) == ["bundle"]
    assert _names(tmp_path / "bundle") == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of a process")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk_is_named(tmp_path: Path, kind: str) -> None:
    """The error of a write without room names the output, and nothing is left."""
    import resource

    path = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with (
            pytest.raises(OSError, match="too large") as caught,
            replacing(path) if kind == "file" else replacing_folder(path) as temporary,
        ):
            (temporary if kind == "file" else temporary / "weights").write_bytes(bytes(2_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())
