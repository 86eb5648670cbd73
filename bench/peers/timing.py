"""Latency: all sides in one process, in rounds of shuffled order, after warm-up.

Machines drift, so that only ratios within a round are meaningful. A pause after each run lets
spinning threads go to sleep, so that they do not slow down the next side.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bench.peers.sides import Run

STEADY = 0.1
"""Quartiles further from the median than this share of it: something else was running."""

LONGEST = 300
"""Characters of an error."""


@dataclass
class Times:
    """Times of one side.

    Attributes:
        first: seconds of the first run of this length, in which some sides compile.
        warm_up: seconds of each further round before those that count.
        raw: seconds of each round after warm-up.
        failure: why it stopped, where it did.
    """

    first: float = float("nan")
    warm_up: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    failure: str = ""


def compare(
    sides: Mapping[str, Run],
    waveform: npt.NDArray[np.float32],
    *,
    warm_up: int,
    rounds: int,
    pause: float,
    seed: int,
) -> dict[str, Times]:
    """Time all sides on one waveform; a side that fails is excluded from then on."""
    times = {name: Times() for name in sides}
    order = list(sides)
    shuffler = random.Random(seed)  # noqa: S311 - an order of runs, no secret
    for turn in range(warm_up + rounds):
        shuffler.shuffle(order)
        for name in list(order):
            try:
                took = _once(sides[name], waveform)
            except Exception as error:  # noqa: BLE001 - any runtime's own; it is reported
                times[name] = Times(failure=one_line(error))
                order.remove(name)
                continue
            if turn == 0:
                times[name].first = took
            elif turn < warm_up:
                times[name].warm_up.append(took)
            if turn >= warm_up:
                times[name].raw.append(took)
            time.sleep(pause)
    return times


def _once(run: Run, waveform: npt.NDArray[np.float32]) -> float:
    start = time.perf_counter()
    run(waveform)
    return time.perf_counter() - start


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; one value is all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def one_line(error: BaseException) -> str:
    """Return an error as one short line: how it begins and how it ends."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return f"{type(error).__name__}: {text}"
