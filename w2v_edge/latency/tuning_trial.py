"""One process that is run with one tuning, and what its queries take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge.latency.jobs import Job

STEADY_S = 0.15
FEWEST = 2
"""Queries that are timed of each length, at least; a list, being long, once."""


def work(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Time queries of each length of audio, or lists of utterances in the scenario offline."""
    from w2v_edge.bundle import Bundle
    from w2v_edge.latency.inputs import read_inputs
    from w2v_edge.providers import choose
    from w2v_edge.providers.tuning import Tuning
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.session import Session

    case, tuning = job.case, job.tuning or Tuning()
    execution = choose(case.provider, None, allow_fallback=False)
    runner = Session(Bundle.open(job.bundle), tuning.applied(execution))
    model = Model(runner, tuning.batch_seconds)
    inputs = read_inputs(Path(job.inputs))
    if case.scenario == "offline":
        utterances = [tensors["waveform"][0] for tensors in inputs]
        task: Callable[..., Any] = model.tokenize if case.graph == "tokenizer" else model.encode
        return {"times_ms": [_median_ms([lambda: task(utterances)], 1)]}
    by_length: dict[int, list[Callable[[], Any]]] = {}
    for tensors in inputs:
        query = _query(model, case.graph, tensors)
        by_length.setdefault(tensors["waveform"].shape[1], []).append(query)
    return {"times_ms": [_median_ms(queries, FEWEST) for queries in by_length.values()]}


def _query(model: Any, graph: str, tensors: dict[str, Any]) -> Callable[[], Any]:
    return lambda: model.run(graph, **tensors)


def _median_ms(queries: list[Callable[[], Any]], fewest: int) -> float:
    """Return the median time of queries that take turns, once the first has been run."""
    queries[0]()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < fewest or time.perf_counter() < begun + STEADY_S:
        start = time.perf_counter()
        queries[len(times) % len(queries)]()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))
