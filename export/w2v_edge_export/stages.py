"""Stages of a long job, for a progress bar or a log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

QUIET_SECONDS = 2.0
"""A job that ends, or fails, within this time logs nothing."""


@dataclass
class Stage:
    """One stage of a job.

    Attributes:
        name: such as `trace`.
        detail: what is being done within the stage, such as the name of a graph.
        share: finished share of the stage, from 0 to 1.
        seconds: wall time of the stage; None while it runs.
    """

    name: str
    detail: str = ""
    share: float = 0.0
    seconds: float | None = None


@dataclass
class Stages:
    """The stages of a job so far; the last one is running until its `seconds` are set.

    A progress bar reads `current` and `share` whenever it redraws, from any thread. A log gets one
    flushed line, with its seconds, as each stage ends, once the job has taken `QUIET_SECONDS`.

    Attributes:
        log: text stream for the lines, or None.
        title: of the job, which begins each line.
        stages: stages in the order in which they began.
        weights: rough duration of each stage that the job will have, by name, in any unit.
    """

    log: TextIO | None = None
    title: str = "export"
    stages: list[Stage] = field(default_factory=list)
    weights: Mapping[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Run a block as the stage called `name`; its seconds are recorded if it succeeds."""
        current = Stage(name)
        self.stages.append(current)
        begin = time.monotonic()
        yield current
        current.share = 1.0
        current.seconds = time.monotonic() - begin
        elapsed = sum(stage.seconds or 0.0 for stage in self.stages)
        if self.log is not None and elapsed >= QUIET_SECONDS:
            line = f"{self.title}: {name} ({current.seconds:.1f} s)"
            print(line, file=self.log, flush=True)

    def step(self, detail: str, done: int = 0, total: int = 1) -> None:
        """Describe the step of the current stage that begins.

        Args:
            detail: what the step does.
            done: finished steps of the stage.
            total: all its steps.
        """
        if self.stages:
            self.stages[-1].detail = detail
            self.stages[-1].share = min(1.0, done / max(1, total))

    @property
    def current(self) -> Stage | None:
        """The running stage, or the last one; None before the first."""
        return self.stages[-1] if self.stages else None

    @property
    def share(self) -> float:
        """Finished share of the whole job, from 0 to 1, by `weights`."""
        total = sum(self.weights.values())
        done = sum(self.weights.get(stage.name, 0.0) * stage.share for stage in self.stages)
        return min(1.0, done / total) if total else 0.0
