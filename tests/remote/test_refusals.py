"""What cannot work is refused in one line, with exit code 1, and nothing is left on the device."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.remote.conftest import ENDS_AT_ONCE, Device, make_key
from w2v_edge import data

Verb = Callable[..., Any]


@pytest.fixture
def small_disk(device: Device) -> Iterator[Path]:
    """A folder of the device with 2 MB."""
    folder = device.home / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here; that needs root on Linux")
    yield folder
    unmount = ["umount", str(folder)]
    subprocess.run(unmount, check=True)


def test_unreachable_devices(w2v_edge: Verb, refused: Any, device: Device, tmp_path: Path) -> None:
    """The message of ssh is quoted: an unknown host, and a key that the device does not know."""
    unknown = w2v_edge(*ENDS_AT_ONCE, "--on", "nowhere.invalid", "--ssh", device.ssh)
    refused(unknown, 1, "nowhere.invalid: cannot connect: ssh: Could not resolve hostname")
    key = tmp_path / "wrong"
    make_key(key)
    other = device.ssh.replace(f"-i {device.home.parent}/user", f"-i {key}")
    refused(w2v_edge(*ENDS_AT_ONCE, "--on", device.host, "--ssh", other), 1, "Permission denied")
    refused(w2v_edge(*ENDS_AT_ONCE, "--on", device.host, "--ssh", "no-such-ssh"), 1, "installed")
    assert device.left == []


def test_unsuitable_pythons(w2v_edge: Verb, refused: Any, device: Device) -> None:
    """A Python that is missing or too old is named, with the oldest one that works."""
    on = (*ENDS_AT_ONCE, "--on", device.host, "--ssh", device.ssh, "--use")
    refused(w2v_edge(*on, "/no/python3"), 1, "no Python at /no/python3, expected Python 3.11")
    old = device.home / "python3"
    old.write_text('#!/bin/sh\ntest "$1" = -V && echo Python 3.9.2\n')
    old.chmod(0o755)
    refused(w2v_edge(*on, "~/python3"), 1, "found Python 3.9.2", "expected Python 3.11 or newer")
    assert device.left == ["python3"]


def test_errors_of_the_verb_are_the_devices(
    w2v_edge: Verb, refused: Any, device: Device, python: str
) -> None:
    """Its one line, its exit code, and which device it was."""
    on = ("--on", device.host, "--ssh", device.ssh, "--use", python)
    refused(w2v_edge(*ENDS_AT_ONCE, *on), 1, f"{device.host}: found 999 threads")
    other = w2v_edge("bench", data.TINY_INT8, "--provider", "openvino", *on)
    refused(other, 1, f"{device.host}: provider 'openvino' is not in the installed onnxruntime")
    assert device.left == []


def test_a_device_in_use(w2v_edge: Verb, refused: Any, device: Device, python: str) -> None:
    """The owner of the lock is named; the lock of a process that died is taken over."""
    on = (*ENDS_AT_ONCE, "--on", device.host, "--ssh", device.ssh, "--use", python)
    lock = device.home / "tmp/w2v-edge.lock"
    lock.write_text("by ada at desk since 2001-02-03 04:05:06 UTC (process 7)")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(w2v_edge(*on), 1, f"{device.host}: in use by ada at desk since 2001-02-03")
    refused(w2v_edge(*on), 1, "found 999 threads")
    assert device.left == []


def test_a_full_disk(
    w2v_edge: Verb,
    refused: Any,
    device: Device,
    small_disk: Path,
    python: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is noticed before the copy, and also when the room is gone in the middle of it."""
    host = f"ssh://{device.host}:{device.port}{small_disk}"
    on = (*ENDS_AT_ONCE, "--on", host, "--ssh", device.ssh, "--use", python)
    refused(w2v_edge(*on), 1, "found 2 MB free", f"{small_disk}/w2v-edge-", "make room")
    monkeypatch.setattr("w2v_edge.remote.run.INSTALL_BYTES", -(10**9))
    refused(w2v_edge(*on), 1, "No space left on device in")
    assert list(small_disk.iterdir()) == []
    assert device.left == []


@pytest.mark.parametrize(
    "on",
    ["", "-oProxyCommand=x", "http://x", "docker:", "docker:a,net=host", "ssh://", "a b", "adb:"],
)
def test_wrong_addresses_are_usage_errors(w2v_edge: Verb, on: str) -> None:
    """No text of `--on` becomes an option of ssh or docker."""
    outcome = w2v_edge(*ENDS_AT_ONCE, f"--on={on}")
    assert outcome.code == 2
    assert "expected" in outcome.err


def test_options_that_need_a_device(w2v_edge: Verb) -> None:
    """Options without `--on`, or a device twice, are usage errors."""
    assert w2v_edge(*ENDS_AT_ONCE, "--keep").code == 2
    assert w2v_edge(*ENDS_AT_ONCE, "--on", "local", "--on", "local").code == 2
