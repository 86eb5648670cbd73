"""Jobs in fresh processes: the question and the answer are JSON files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_edge import strict
from w2v_edge.errors import InferenceError, W2VEdgeError
from w2v_edge.latency.report.records import BenchmarkCase
from w2v_edge.providers.tuning import Tuning

CODE = """
import time
begun = time.perf_counter()
import w2v_edge
from w2v_edge.providers import import_onnxruntime
import_onnxruntime()
imported = time.perf_counter()
from w2v_edge.latency.measure.processes import serve
serve(begun, imported)
"""
"""A process first reads the clock, then imports what an application imports, and no more."""


@dataclass(frozen=True)
class Job:
    """The task of one process.

    Attributes:
        bundle: folder of the bundle.
        case: configuration to measure.
        inputs: file of input tensors, as written by `write_inputs`.
        steady_s: minimum duration of the steady state.
        tuning: tuned settings; None for the defaults.
        spawned: start of the process, by `time.perf_counter`, a clock that all processes share.
        imported: when the process had imported what an application imports.
    """

    bundle: str
    case: BenchmarkCase
    inputs: str
    steady_s: float
    tuning: Tuning | None = None
    spawned: float = 0.0
    imported: float = 0.0


def run_job(
    task: str,
    job: Job,
    folder: Path,
    *,
    timeout_s: float | None = None,
    prefix: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Run a job in a new process and return its answer.

    Args:
        task: `module:function` with the signature `function(job, begun) -> dict`.
        job: the job.
        folder: for the files of question and answer.
        timeout_s: time after which the process is killed.
        prefix: words before the command, of a program that becomes the one they name.

    Raises:
        W2VEdgeError: the error of the process in one line, or that it was killed.
        TimeoutExpired: of `subprocess`, if it took longer than `timeout_s`.
    """
    question, answer = folder / "job.json", folder / "answer.json"
    answer.unlink(missing_ok=True)
    # -P: modules in the current folder must not shadow installed ones.
    command = [*prefix, sys.executable, "-P", "-c", CODE, task, str(question), str(answer)]
    plain = strict.to_plain(job) | {"spawned": time.perf_counter()}
    question.write_text(json.dumps(plain, allow_nan=False))
    # Temporary files of a killed process are removed with the folder.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with subprocess.Popen(  # noqa: S603 - our own module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | temporary,
    ) as process:
        try:
            _, stderr = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    if not answer.is_file():
        raise InferenceError(_reason(process.returncode, stderr.decode(errors="replace")))
    found: dict[str, Any] = json.loads(answer.read_text())
    if "error" in found:
        raise W2VEdgeError(found["error"])
    return found


def serve(begun: float, imported: float) -> None:
    """Run the job that this process was started for."""
    import importlib

    task, question, answer = sys.argv[1:]
    # Ctrl-C reaches this process too; its parent kills it and reports the interrupt.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = strict.from_plain(Job, json.loads(Path(question).read_text()) | {"imported": imported})
    module, _, function = task.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)(job, begun)
    except W2VEdgeError as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "out of memory; use shorter audio or smaller batches"}
    Path(answer).write_text(json.dumps(found, allow_nan=False))


def _reason(code: int, stderr: str) -> str:
    """Return one line on why a process gave no answer."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the measuring process was killed by {name}{hint}"
    last = (stderr.strip().splitlines() or [f"exit code {code}"])[-1]
    return f"the measuring process failed: {last:.200}"
