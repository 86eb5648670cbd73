"""Candidate settings side by side: a fresh process per candidate and round, in shuffled order."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge.errors import W2VEdgeError
from w2v_edge.latency.measure.processes import Job, run_job
from w2v_edge.providers.tuning import Tuning

TUNING_TRIAL = "w2v_edge.latency.tuning.trials:run_trial"

STEADY_S = 0.15
MIN_QUERIES = 2
"""Minimum number of timed queries per length of audio; a list is timed once."""


class OutOfTimeError(Exception):
    """A process was killed because the time is over; the search handles it."""


@dataclass
class TrialRunner:
    """Times settings in processes and estimates the cost of one.

    Attributes:
        job: the job of each process, except for its tuning.
        task: `module:function` of the processes; it returns `times_ms`, one per length of audio.
        folder: for files.
        deadline: planned end, by `time.perf_counter`.
        end: time at which a running process is killed.
        shuffler: shuffles the order within rounds.
        show: called with what is being done.
        cost_s: moving average of the duration of a process.
        failures: errors of failed settings, by their repr.
    """

    job: Job
    task: str
    folder: Path
    deadline: float
    end: float
    shuffler: random.Random
    show: Callable[[str], None] = lambda _what: None
    cost_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def begin(self, tuning: Tuning) -> None:
        """Run settings once to estimate the cost of a process.

        Raises:
            W2VEdgeError: they do not run.
            OutOfTimeError: the time is over.
        """
        self.show("first process")
        self._time_ms(tuning)

    def affordable(self, tunings: int, until: float) -> int:
        """Return the number of rounds of `tunings` processes that fit in the time."""
        left = min(until, self.deadline) - time.perf_counter()
        return max(0, int(left / (self.cost_s * tunings)))

    def rounds(self, tunings: Sequence[Tuning], count: int, what: str) -> list[list[float]]:
        """Return the times of each tuning in ms, one per round; empty if it failed.

        Raises:
            W2VEdgeError: the first one, the base of the comparison, failed.
            OutOfTimeError: the time is over.
        """
        times: list[list[float]] = [[] for _ in tunings]
        for number in range(count):
            self.show(f"{what}, round {number + 1} of {count}")
            order = list(range(len(tunings)))
            self.shuffler.shuffle(order)
            for i in order:
                if repr(tunings[i]) in self.failures:
                    continue
                try:
                    times[i].append(self._time_ms(tunings[i]))
                except W2VEdgeError as error:
                    if i == 0:
                        raise
                    self.failures[repr(tunings[i])] = str(error)
        return [[] if repr(x) in self.failures else y for x, y in zip(tunings, times, strict=True)]

    def _time_ms(self, tuning: Tuning) -> float:
        """Return the geometric mean over lengths of audio, so that each has equal weight."""
        begun = time.perf_counter()
        job = replace(self.job, tuning=tuning)
        try:
            found = run_job(self.task, job, self.folder, timeout_s=max(0.0, self.end - begun))
        except subprocess.TimeoutExpired as error:
            raise OutOfTimeError from error
        finally:
            took = time.perf_counter() - begun
            self.cost_s = took if not self.cost_s else 0.7 * self.cost_s + 0.3 * took
        return float(np.exp(np.mean(np.log(found["times_ms"]))))


def run_trial(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Time queries of each length of audio or, in the scenario offline, lists of utterances."""
    from w2v_edge.bundle import Bundle
    from w2v_edge.latency.measure.inputs import read_inputs
    from w2v_edge.providers import choose
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
    return {"times_ms": [_median_ms(queries, MIN_QUERIES) for queries in by_length.values()]}


def _query(model: Any, graph: str, tensors: dict[str, Any]) -> Callable[[], Any]:
    return lambda: model.run(graph, **tensors)


def _median_ms(queries: list[Callable[[], Any]], minimum: int) -> float:
    """Return the median time of alternating queries, after one warm-up."""
    queries[0]()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < minimum or time.perf_counter() < begun + STEADY_S:
        start = time.perf_counter()
        queries[len(times) % len(queries)]()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))
