"""A forked child runs models that its parent opened; see `w2v_edge.runtime.forking`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from w2v_edge.errors import ProviderError
from w2v_edge.runtime import forking

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system does not fork")

PREPARE = """
import multiprocessing, os, sys, threading
import numpy as np
import w2v_edge
from w2v_edge.bundle import GRAPH_INPUTS
model = w2v_edge.load(sys.argv[1], threads=2)
clip = (np.sin(np.arange(8_000) / 9) / 2).astype(np.float32)
first = model.encode(clip)
codes = model.tokenize(clip)

def check():
    assert np.array_equal(model.encode(clip).context, first.context)
    assert np.array_equal(model.tokenize(clip), codes)

def wait(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

EXIT_CODE = """
child = os.fork()
if child == 0:
    check()
    print("done", end="")
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
"""

# The child ends as any program does: by clearing all that is left, sessions too.
PLAIN_FORK = """
child = os.fork()
if child == 0:
    check()
    sys.exit(0)
wait(child)
check()
"""

POOL = """
context = multiprocessing.get_context("fork")
workers = [context.Process(target=check) for _ in range(3)]
for worker in workers:
    worker.start()
check()
for worker in workers:
    worker.join()
assert [worker.exitcode for worker in workers] == [0, 0, 0]
"""

LOCKED = """
session = model.session
locks = [*session._opening.values(), *session._slots.values()]
held, done = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    held.set()
    done.wait()
    for lock in locks:
        lock.release()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    check()
    os._exit(0)
wait(child)
done.set()
thread.join()
check()
"""

BUSY = """
stop = threading.Event()

def keep_running():
    while not stop.is_set():
        model.encode(clip)

threads = [threading.Thread(target=keep_running) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        check()
        os._exit(0)
    wait(child)
stop.set()
for thread in threads:
    thread.join()
"""

TWICE = """
child = os.fork()
if child == 0:
    check()
    grandchild = os.fork()
    check()
    if grandchild == 0:
        sys.exit(0)
    wait(grandchild)
    sys.exit(0)
wait(child)
"""


@pytest.mark.parametrize(
    ("script", "telemetry"),
    [(PLAIN_FORK, "1"), (POOL, "0"), (LOCKED, "1"), (BUSY, "0"), (BUSY, "1"), (TWICE, "0")],
    ids="fork multiprocessing locked busy busy-without-telemetry twice".split(),
)
def test_children_get_the_same_results(
    script: str, telemetry: str, bundle: Callable[[str], Path]
) -> None:
    """A forked child gives the parent's results, whatever the parent's threads and locks do.

    The parent continues and the child exits cleanly, also with onnxruntime's telemetry thread.
    """
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + script, bundle("base-small")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"ORT_DISABLE_TELEMETRY": telemetry},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_children_end_as_they_say(bundle: Callable[[str], Path]) -> None:
    """Output and exit code of a forked child are its own."""
    command = [sys.executable, "-c", PREPARE + EXIT_CODE, str(bundle("base-small"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("done", "")


def test_drivers_do_not_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider with a driver that was open at the fork is refused in the child, with a remedy."""
    monkeypatch.setattr(forking, "_lost", set())
    forking.abandon(None, [])
    forking.check("cuda")
    forking.abandon("cuda", [object()])
    forking.check("cpu")
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(ProviderError, match=f"'{provider}' was open .*'spawn'"):
            forking.check(provider)
