"""Peak memory for a minute and for an hour of audio, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LENGTHS = (60, 600, 3600)
TASKS = ("tokenize", "encode")

JOB = """
import json, sys
import numpy as np
import w2v_edge
from bench.peers.hardware import resident
from bench.peers.speech import speech

class Recording:
    def __init__(self, seconds):
        self.seconds = seconds
        self.minute = speech(60)
    def blocks(self):
        for begin in range(0, self.seconds, 60):
            yield self.minute[: 16_000 * min(60, self.seconds - begin)]

bundle, task, seconds, threads = sys.argv[1:]
model = w2v_edge.load(bundle, threads=int(threads))
made = getattr(model, task)(Recording(int(seconds)))
peak = resident("VmHWM")
if task == "tokenize":
    held = made.nbytes
else:
    held = sum(x.nbytes for x in vars(made).values() if hasattr(x, "nbytes"))
print(json.dumps({"peak_mb": peak, "held_mb": held / 2**20}, allow_nan=False))
"""


def measure(bundle: Path, threads: int) -> list[dict[str, Any]]:
    """Return one row per task and length; `ratio` is to a minute's peak, without the results."""
    rows = []
    for task in TASKS:
        first = None
        for seconds in LENGTHS:
            command = [sys.executable, "-c", JOB, str(bundle), task, str(seconds), str(threads)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
            figures = json.loads(output)
            own = figures["peak_mb"] - figures["held_mb"]
            first = first or own
            rows.append({"task": task, "seconds": seconds, **figures, "ratio": own / first})
    return rows
