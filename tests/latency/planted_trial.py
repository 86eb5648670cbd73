"""A trial's process that answers at once, with times that depend on the tuning as planted."""

from __future__ import annotations

import json
import os
import random
import time
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
