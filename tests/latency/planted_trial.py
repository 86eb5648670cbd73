"""A trial's process that answers at once, with times that depend on the tuning as planted."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

from w2v_edge.latency.measure.processes import Job
from w2v_edge.latency.tuning.tune import LISTS, QUERIES
from w2v_edge.providers.tuning import Tuning


def run_trial(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Answer with times of two lengths of audio, with noise of half a percent, or hang."""
    if os.environ["PLANTED"] == "hang":
        time.sleep(600)
    tuning = job.tuning or Tuning()
    if job.case.scenario == "offline":
        planted = json.loads(os.environ["PLANTED"])[LISTS]
        cost = 1.0 if tuning.batch_seconds is None else planted[f"{tuning.batch_seconds:g}"]
    else:
        planted = json.loads(os.environ["PLANTED"])[QUERIES]
        cost = planted.get(tuning.spinning, 1.0)
        cost *= planted["block_base"] if tuning.block_base else 1.0
        cost *= planted["threads"] if tuning.threads else 1.0
    noise = random.gauss(1, 0.005)
    return {"times_ms": [cost * noise, 10 * cost * noise]}


NOISE = (0.6, 1.4, 0.7, 1.3, 1.0)
"""Factors of the first trials of a bundle; further ones have no noise."""


def run_bench_trial(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Answer as a trial of the benchmark with the planted ms of a bundle, the first ones noisy."""
    planted = json.loads(os.environ["PLANTED"])
    level = planted[job.case.bundle]
    with (Path(planted["counts"]) / job.case.bundle).open("a") as count:
        level *= NOISE[count.tell()] if count.tell() < len(NOISE) else 1.0
        count.write(".")
    return {
        "start_ms": 20.0,
        "import_ms": 100.0,
        "load_ms": 50.0,
        "first_ms": level,
        "warm_up_ms": [level],
        "latencies_ms": [level] * 4,
        "steady_s": 4e-3 * level,
        "audio_s": 4 * job.case.seconds,
        "peak_mb": 100.0,
    }
