"""What is asked of a model, and when: one query after the other, several at once, or all."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from w2v_edge.latency.report import Case
from w2v_edge.providers import usable_cores
from w2v_edge.runtime.model import Model

MULTI = 8
"""Utterances in a query of the scenario multi, as in MLPerf's multiple stream."""

OFFLINE = 24
"""Utterances that the scenario offline is about: at least so many are there at once, and its
latency is the time of so many."""

FEWEST = 3
"""Queries of a steady state, at least."""

Tensors = dict[str, npt.NDArray[Any]]


@dataclass
class Steady:
    """What a steady state took.

    Attributes:
        latencies: of each query, in seconds.
        seconds: of the whole.
        audio_s: audio worked on.
        late: blocks that were not done when the next one was there.
        behind: seconds that a block waited at worst before it was begun.
        loadgen: what MLPerf LoadGen says.
    """

    latencies: list[float]
    seconds: float
    audio_s: float
    late: int = 0
    behind: float = 0.0
    loadgen: Mapping[str, str] = field(default_factory=dict)


class Scenario(Protocol):
    """How a model is used."""

    def query(self) -> None:
        """Do one query of the usual size."""

    def steady(self, seconds: float, query_s: float) -> Steady:
        """Do queries for at least so long; `query_s` is what one takes when warm."""


class Queries:
    """Queries of a graph, on inputs that take turns."""

    def __init__(self, model: Model, case: Case, inputs: Sequence[Tensors]) -> None:
        self._model = model
        self._graph = case.graph
        self._inputs = inputs
        self._turn = itertools.count()
        self.utterances = MULTI if case.scenario == "multi" else case.batch
        self.batch = case.batch
        self.audio_s = self.utterances * case.seconds
        """Of a query."""
        # A device takes one graph at a time; cores that one run leaves idle serve others.
        cores = usable_cores() if case.provider == "cpu" else 1
        workers = max(1, cores // case.threads)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def query(self) -> None:
        """Do one query."""
        self.serve(range(math.ceil(self.utterances / self.batch)))

    def steady(self, seconds: float, query_s: float) -> Steady:  # noqa: ARG002
        """Do one query after the other."""
        latencies: list[float] = []
        begun = now = time.perf_counter()
        while now < begun + seconds or len(latencies) < FEWEST:
            self.query()
            then, now = now, time.perf_counter()
            latencies.append(now - then)
        return Steady(latencies, now - begun, len(latencies) * self.audio_s)

    def serve(self, batches: Iterable[object]) -> None:
        """Run a batch of utterances for each of `batches`, as many at once as there are cores."""
        waiting = list(batches)
        if self._pool is None or len(waiting) == 1:
            for _ in waiting:
                self._run()
        else:
            list(self._pool.map(lambda _: self._run(), waiting))

    def _run(self) -> None:
        self._model.run(self._graph, **self._inputs[next(self._turn) % len(self._inputs)])


class Offline(Queries):
    """All utterances are there at once; what counts is when the last one is done."""

    def steady(self, seconds: float, query_s: float) -> Steady:
        """Do so many that they take about as long."""
        batches = max(math.ceil(OFFLINE / self.batch), math.ceil(seconds / query_s))
        begun = time.perf_counter()
        self.serve(range(batches))
        took = time.perf_counter() - begun
        latency = took * OFFLINE / (batches * self.batch)
        return Steady([latency], took, batches * self.audio_s)


def open_scenario(model: Model, case: Case, inputs: Sequence[Tensors]) -> Scenario:
    """Make the scenario of a case."""
    if case.scenario == "streaming":
        from w2v_edge.latency.streaming import Live

        return Live(model, case, inputs[0]["waveform"][0])
    if case.driver == "loadgen":
        from w2v_edge.latency.loadgen import LoadGen

        return LoadGen(model, case, inputs)
    return (Offline if case.scenario == "offline" else Queries)(model, case, inputs)
