"""Work that a process of its own is started for, and what comes back from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from w2v_edge import strict
from w2v_edge.errors import InferenceError, W2VEdgeError
from w2v_edge.latency.report import Case
from w2v_edge.providers.tuning import Tuning

T = TypeVar("T")

WORK = """
import time
begun = time.perf_counter()
import w2v_edge
from w2v_edge.providers import import_onnxruntime
import_onnxruntime()
imported = time.perf_counter()
from w2v_edge.latency.jobs import serve
serve(begun, imported)
"""
"""A process first looks at the clock, and then imports what an app imports, and no more."""


@dataclass(frozen=True)
class Job:
    """One trial, or what goes with trials.

    Attributes:
        bundle: the folder.
        case: what is measured.
        inputs: a file of (excerpts, samples) waveforms.
        steady_s: shortest steady state.
        tuning: how it is run; None for the defaults.
        spawned: when the process was started, by `time.perf_counter`, which all processes share.
        imported: when the process had imported what an app imports.
    """

    bundle: str
    case: Case
    inputs: str
    steady_s: float
    tuning: Tuning | None = None
    spawned: float = 0.0
    imported: float = 0.0


def start(module: str, job: Job, folder: Path, *, timeout_s: float | None = None) -> dict[str, Any]:
    """Do a job in a new process, in the module `module`, and return what it found.

    Args:
        module: with a function `work(job, begun) -> dict`.
        job: for it.
        folder: for the files that carry the job there and the answer back.
        timeout_s: when to end the process.

    Raises:
        W2VEdgeError: what the process raised, in one line; or it was killed.
        TimeoutExpired: of `subprocess`, where it took longer than it may.
    """
    question, answer = folder / "job.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    # What lies in the folder where it was started is none of its modules.
    command = [sys.executable, "-P", "-c", WORK, module, str(question), str(answer)]
    question.write_text(json.dumps(strict.to_plain(job) | {"spawned": time.perf_counter()}))
    # What a process that is ended leaves behind lies in the folder, and goes with it.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with subprocess.Popen(  # noqa: S603 - our own module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | temporary,
    ) as process:
        try:
            _, said = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    if not answer.is_file():
        raise InferenceError(_why(process.returncode, said.decode(errors="replace")))
    found: dict[str, Any] = json.loads(answer.read_text())
    if "error" in found:
        raise W2VEdgeError(found["error"])
    return found


def serve(begun: float, imported: float) -> None:
    """Do the job that this process was started for."""
    import importlib

    module, question, answer = sys.argv[1:]
    # Ctrl-C reaches this process too; the one that started it ends it, and says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = strict.from_plain(Job, json.loads(Path(question).read_text()) | {"imported": imported})
    try:
        found = importlib.import_module(module).work(job, begun)
    except W2VEdgeError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "out of memory; use shorter audio or smaller batches"}
    Path(answer).write_text(json.dumps(found))


def _why(code: int, said: str) -> str:
    """Say in one line why a process gave no answer."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the process that ran it was ended by {name}{hint}"
    last = (said.strip().splitlines() or [f"exit code {code}"])[-1]
    return f"the process that ran it failed: {last:.200}"
