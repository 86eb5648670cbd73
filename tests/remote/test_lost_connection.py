"""Connections that break, or are slow: no process stays, and a broken copy continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.remote.conftest import ENDS_AT_ONCE, Device, link
from w2v_edge import data

Verb = Callable[..., Any]
ENDLESS = ("bench", data.TINY_INT8, "--rounds", "9999", "--seconds", "0.3")


def test_a_broken_copy_continues(
    w2v_edge: Verb, refused: Any, device: Device, python: str, tmp_path: Path
) -> None:
    """The error says where the copy stays; the next run sends the rest only, and leaves nothing."""
    on = (*ENDS_AT_ONCE, "--on", device.host, "--use", python, "--ssh")
    log = tmp_path / "passed"
    outcome = w2v_edge(*on, link(device, log, limit=2_500_000))
    refused(outcome, 1, "lost the connection while copying", "next run continues")
    _await(lambda: not (device.home / "tmp/w2v-edge.lock").exists())
    copied = sum((device.home / x).stat().st_size for x in device.left)
    assert copied > 2_000_000
    assert any(x.endswith(".part") for x in device.left)
    passed = []
    for _ in range(2):
        refused(w2v_edge(*on, link(device, log)), 1, "found 999 threads")
        assert device.left == []
        passed.append(int(log.read_text()))
    assert passed[1] - passed[0] == pytest.approx(copied, abs=10_000)


def test_a_slow_link_shows_its_progress(
    w2v_edge: Verb, refused: Any, device: Device, python: str, tmp_path: Path
) -> None:
    """A copy may take long; lines say how much is there."""
    slow = link(device, tmp_path / "passed", delay=0.05)
    outcome = w2v_edge(*ENDS_AT_ONCE, "--on", device.host, "--use", python, "--ssh", slow)
    refused(outcome, 1, "found 999 threads")
    assert "tiny-int8: 2.6 of 2.6 MB are there" in outcome.err


@pytest.mark.parametrize("how", ["interrupted", "desk killed", "connection killed"])
def test_the_run_on_the_device_ends_too(device: Device, python: str, how: str) -> None:
    """With Ctrl-C, with a desk that dies, and with a connection that is gone."""
    options = ("--on", device.host, "--ssh", device.ssh, "--use", python)
    command = [sys.executable, "-m", "w2v_edge", *map(str, ENDLESS), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as desk:
        _await(lambda: list(device.home.rglob("job.json")))
        verbs = _processes(device.home)
        assert verbs
        if how == "connection killed":
            _session(verbs[0]).kill()
        else:
            desk.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
        _, error = desk.communicate(timeout=60)
    _await(lambda: not any(x.is_running() for x in verbs) and not device.left)
    if how == "interrupted":
        assert desk.returncode == 130
    if how == "connection killed":
        assert desk.returncode == 1
        assert (
            error.decode()
            .splitlines()[-1]
            .startswith(f"error: {device.host}: lost the connection while running")
        )


def _processes(home: Path) -> list[psutil.Process]:
    """Return the processes whose working folder is on the device."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(home) and process.pid != os.getpid():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _session(process: psutil.Process) -> psutil.Process:
    """Return the process of sshd that a process runs under."""
    return next(x for x in process.parents() if x.name().startswith("sshd"))


def _await(condition: Callable[[], Any]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it does not happen")
