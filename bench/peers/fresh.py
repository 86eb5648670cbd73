"""Jobs for fresh processes: first results after a cold start, memory, and profiles.

Files are in the page cache: only the process is cold.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peers.hardware import resident
from bench.peers.sides import IMPORTS, Side, open_side

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

JOB = "--job"
SHORT_SECONDS = 0.1
"""Audio of the run that ends loading."""

PROFILED_RUNS = 5
ATTENTION = ("MultiHeadAttention", "Attention", "QAttention")


def ask(what: str, side: Side, waveform: Path, threads: int) -> dict[str, Any]:
    """Run a job in a new process.

    Raises:
        RuntimeError: the job failed; the message is its last line of output.
    """
    job = {"what": what, "side": asdict(side), "waveform": str(waveform), "threads": threads}
    command = [sys.executable, "-m", "bench.peers", JOB, json.dumps(job, allow_nan=False)]
    done = subprocess.run(  # noqa: S603 - our own module
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(said[-1])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def work(text: str) -> None:
    """Run a job in the new process, and print its result."""
    job = json.loads(text)
    jobs: dict[str, Callable[[Side, str, int], dict[str, Any]]] = {
        "cold": _cold,
        "memory": _memory,
        "attention": _attention,
    }
    answer = jobs[job["what"]](Side(**job["side"]), job["waveform"], job["threads"])
    print(json.dumps(answer, allow_nan=False))


def _cold(side: Side, waveform: str, threads: int) -> dict[str, Any]:
    """Time imports, and loading up to the first result."""
    start = time.perf_counter()
    for module in IMPORTS[side.kind]:
        importlib.import_module(module)
    imported = time.perf_counter()
    audio = _audio(waveform)
    begin = time.perf_counter()
    open_side(side, threads)(audio)
    return {
        "import_ms": round(1e3 * (imported - start), 1),
        "first_result_ms": round(1e3 * (time.perf_counter() - begin), 1),
    }


def _memory(side: Side, waveform: str, threads: int) -> dict[str, Any]:
    """Measure the peak resident set of one run; the kernel's peak is reset after loading."""
    run = open_side(side, threads)
    audio = _audio(waveform)
    run(audio[: int(SHORT_SECONDS * 16_000)])
    loading = resident("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    loaded = resident("VmRSS")
    run(audio)
    peak = resident("VmHWM")
    return {
        "loaded_mb": round(loaded, 1),
        "peak_mb": round(max(peak, loading), 1),
        "above_loaded_mb": round(peak - loaded, 1),
    }


def _attention(side: Side, waveform: str, threads: int) -> dict[str, Any]:
    """Profile a graph of a bundle: time of a run, and of the attention nodes in it."""
    import numpy as np
    import onnxruntime

    audio = _audio(waveform)
    given = {"waveform": audio[None], "lengths": np.array([len(audio)])}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    options.enable_profiling = True
    walls = []
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/run"
        session = onnxruntime.InferenceSession(f"{side.path}/{side.group}.onnx", options)
        for _ in range(2 + PROFILED_RUNS):
            start = time.perf_counter()
            session.run(None, given)
            walls.append(time.perf_counter() - start)
        events = json.loads(Path(session.end_profiling()).read_text())
    took = [
        x["dur"] for x in events if x.get("args", {}).get("op_name") in ATTENTION and "dur" in x
    ]
    # Each run has the same number of nodes; the first two runs are warm-up.
    counted = took[2 * len(took) // len(walls) :]
    return {
        "run_ms": round(1e3 * float(np.median(walls[2:])), 2),
        "attention_ms": round(sum(counted) / 1e3 / PROFILED_RUNS, 2),
    }


def _audio(path: str) -> npt.NDArray[np.float32]:
    import numpy as np

    audio: npt.NDArray[np.float32] = np.load(path)
    return audio
