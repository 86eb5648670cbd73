"""--on adb: Debian's adb, client and server, with a daemon that speaks as Android's does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.remote.adbd import Adbd
from tests.remote.conftest import ENDS_AT_ONCE
from w2v_edge import data

Verb = Callable[..., Any]


@pytest.fixture
def phone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked: Callable[[str], AbstractContextManager[None]],
) -> Iterator[tuple[str, Path]]:
    """Serial number of an emulated phone, and the folder where its shell may write."""
    if shutil.which("adb") is None:
        pytest.skip("no adb; install adb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # An adb server of its own: that of the user stays alone.
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    folder = tmp_path / "data"
    folder.mkdir()
    adbd = Adbd({"PATH": os.environ["PATH"], "HOME": "/nothing", "TMPDIR": str(folder)})
    serial = f"127.0.0.1:{adbd.port}"
    with locked("device"):
        try:
            _adb("connect", serial)
            yield serial, folder
        finally:
            _adb("kill-server")
            adbd.close()


def test_verify_on_a_phone(
    w2v_edge: Verb, refused: Any, phone: tuple[str, Path], python: str
) -> None:
    """Copies and results pass through adb unchanged, and nothing is left."""
    serial, folder = phone
    outcome = w2v_edge("verify", data.TINY_INT8, "--json", "--on", f"adb:{serial}", "--use", python)
    assert outcome.code == 0, outcome
    assert outcome.json["passed"]
    refused(w2v_edge(*ENDS_AT_ONCE, "--on", "adb", "--use", python), 1, "adb: found 999 threads")
    refused(w2v_edge(*ENDS_AT_ONCE, "--on", "adb:other"), 1, "device 'other' not found")
    assert list(folder.iterdir()) == []


def _adb(*arguments: str) -> None:
    subprocess.run(["adb", *arguments], check=True, capture_output=True, timeout=60)  # noqa: S607
