"""Tunings side by side: in each round every one has a process of its own, in shuffled order."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from w2v_edge.errors import W2VEdgeError
from w2v_edge.latency import jobs
from w2v_edge.latency.jobs import Job
from w2v_edge.providers.tuning import Tuning


class OutOfTimeError(Exception):
    """A process had to be ended; it never leaves the search."""


@dataclass
class Arena:
    """Runs processes and knows what one costs.

    Attributes:
        job: what each does, but for its tuning.
        module: what does it: `work(job, begun)` gives `times_ms`, one for each length of audio.
        folder: for files.
        deadline: when all should be over, by `time.perf_counter`.
        end: when all is over: a process that still runs is ended.
        shuffler: of the order in rounds.
        show: told what is done.
        cost_s: of one process, by the last ones.
        failures: what tunings failed of, by their text.
    """

    job: Job
    module: str
    folder: Path
    deadline: float
    end: float
    shuffler: random.Random
    show: Callable[[str], None] = lambda _what: None
    cost_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def begin(self, tuning: Tuning) -> None:
        """Run a tuning once for what a process costs; what it takes is not used.

        Raises:
            W2VEdgeError: it does not run.
            OutOfTimeError: it takes longer than there is time.
        """
        self.show("first process")
        self._time_ms(tuning)

    def affordable(self, tunings: int, until: float) -> int:
        """Return for how many rounds of so many processes there is time."""
        left = min(until, self.deadline) - time.perf_counter()
        return max(0, int(left / (self.cost_s * tunings)))

    def rounds(self, tunings: Sequence[Tuning], count: int, what: str) -> list[list[float]]:
        """Return the times of each tuning in ms, one a round; none for one that failed.

        The first one is to run: what it fails of is raised.

        Raises:
            OutOfTimeError: they take longer than there is time.
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
        """Return the geometric mean over lengths of audio: each counts alike."""
        begun = time.perf_counter()
        job = replace(self.job, tuning=tuning)
        try:
            found = jobs.start(self.module, job, self.folder, timeout_s=max(0.0, self.end - begun))
        except subprocess.TimeoutExpired as error:
            raise OutOfTimeError from error
        finally:
            took = time.perf_counter() - begun
            self.cost_s = took if not self.cost_s else 0.7 * self.cost_s + 0.3 * took
        return float(np.exp(np.mean(np.log(found["times_ms"]))))
