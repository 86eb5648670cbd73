"""Steps in processes of their own, each with a time limit; a step that fails leaves the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.peers.timing import one_line

PASSED = "passed"
"""Key of what a step found; without it a step that ends has passed."""

Work = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """A part of the measurements.

    Attributes:
        name: for options and the file of its result.
        work: returns JSON values.
        limit_s: seconds after which it is ended.
    """

    name: str
    work: Work
    limit_s: float


def run_steps(steps: list[Step], total_s: float, folder: Path, about: Mapping[str, Any]) -> bool:
    """Run steps in order; write `gpu-NAME.json` for each as it ends, and print one line.

    Args:
        steps: in order.
        total_s: seconds for all of them; a step has at most the time that is left.
        folder: for the results.
        about: of the machine; written to each file.

    Returns:
        Whether all passed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begun, passed = time.monotonic(), True
    for step in steps:
        left = total_s - (time.monotonic() - begun)
        result = run_step(step, min(step.limit_s, left))
        text = json.dumps({**result, "about": about}, indent=1, allow_nan=False)
        (folder / f"gpu-{step.name}.json").write_text(text + "\n")
        passed = passed and result[PASSED]
        state = "passed" if result[PASSED] else f"FAILED  {result.get('error', 'see its file')}"
        print(f"{step.name:>16}  {result['seconds']:6.1f} s  {state}", flush=True)
    return passed


def run_step(step: Step, limit_s: float) -> dict[str, Any]:
    """Run a step in a process of its own, which ends with all that it has started.

    The process is forked: imports are made once, and nothing of CUDA or OpenMP may have been used.
    """
    begun = time.monotonic()
    result = {"step": step.name, "limit_s": round(max(0.0, limit_s), 1)}
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(step.work, sender))
    if limit_s > 0:
        process.start()
        sender.close()
        try:
            found = _receive(receiver, limit_s)
        finally:
            _end(process.pid)
            process.join()
    else:
        found = {PASSED: False, "error": "no time was left"}
    return result | {"seconds": round(time.monotonic() - begun, 2)} | found


def _receive(receiver: Connection, limit_s: float) -> dict[str, Any]:
    if not receiver.poll(limit_s):
        return {PASSED: False, "error": f"not done after its {limit_s:.3g} s"}
    try:
        text = receiver.recv()
    except EOFError:
        return {PASSED: False, "error": "its process ended without a result"}
    found: dict[str, Any] = json.loads(text)
    return found


def _work(work: Work, sender: Connection) -> None:
    os.setsid()
    try:
        found = dict(work())
        text = json.dumps({PASSED: bool(found.pop(PASSED, True)), "found": found}, allow_nan=False)
    except BaseException as error:  # noqa: BLE001 - any library's own; it is the result
        text = json.dumps({PASSED: False, "error": one_line(error)})
    sender.send(text)


def _end(group: int | None) -> None:
    """Kill a process and those that it started."""
    if group is not None:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(group, signal.SIGKILL)
