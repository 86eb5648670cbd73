"""A trial with every run slowed by a known fraction, which a comparison must detect."""

from __future__ import annotations

import time
from typing import Any

from w2v_edge.latency.measure import scenarios, trial
from w2v_edge.latency.measure.processes import Job

SHARE = 0.10


class Slowed(scenarios.Queries):
    """Queries that keep the core busy for a time after each run."""

    def _run(self) -> None:
        begun = time.perf_counter()
        super()._run()
        end = time.perf_counter() + SHARE * (time.perf_counter() - begun)
        while time.perf_counter() < end:
            pass


def run_slowed_trial(job: Job, begun: float) -> dict[str, Any]:
    """Run a trial with slowed queries."""
    scenarios.Queries = Slowed  # type: ignore[misc]
    return trial.run_trial(job, begun)
