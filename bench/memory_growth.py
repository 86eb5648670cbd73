"""Memory growth over clips of many lengths.

    python -m bench.memory_growth BUNDLE [--clips 10000] [--callers 1]

Prints the resident memory after each tenth of the clips, and its maximum growth since the first
200.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import w2v_edge
from bench.peers import hardware
from w2v_edge.runtime.model import Model

WARM_UP = 200
LENGTHS = (0.05, 10.0)
"""Seconds."""


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=1, help="threads that call the model")
    parser.add_argument("--threads", type=int, help="threads per operator; default: all cores")
    given = parser.parse_args()
    model = w2v_edge.load(given.bundle, threads=given.threads)
    print(json.dumps(measure(model, given.clips, given.callers), indent=1, allow_nan=False))


def measure(model: Model, clips: int, callers: int) -> dict[str, Any]:
    """Tokenize and encode noise of random lengths, and record the resident memory."""
    before = hardware.describe()
    begin = time.perf_counter()
    lengths = _lengths(clips, model.sample_rate)

    def run(samples: int) -> None:
        waveform = _noise(samples)
        model.tokenize(waveform)
        model.encode(waveform)

    history: dict[int, float] = {}
    every = max(1, clips // 10)
    with ThreadPoolExecutor(callers) as pool:
        done = 0
        for batch in _batches(lengths, 50):
            list(pool.map(run, batch))
            done += len(batch)
            if done == WARM_UP or done % every == 0 or done > clips - len(batch):
                history[done] = round(resident(), 2)
    start = history[min(x for x in history if x >= min(WARM_UP, clips))]
    largest = max(y for x, y in history.items() if x >= min(WARM_UP, clips))
    return {
        "hardware": before,
        "bundle": model.bundle.folder.name,
        "threads": model.threads,
        "callers": callers,
        "seconds": round(time.perf_counter() - begin, 1),
        "resident_mb_after_clips": history,
        "growth_after_warm_up": round(largest / start - 1, 4),
    }


def resident() -> float:
    """Return the resident memory of this process in MB; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _lengths(clips: int, rate: int) -> list[int]:
    seconds = np.random.default_rng(0).uniform(*LENGTHS, clips)
    return [int(x * rate) for x in seconds]


def _noise(samples: int) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(samples).standard_normal(samples, np.float32)
    return (0.1 * noise).astype(np.float32)


def _batches(lengths: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(lengths), size):
        yield lengths[start : start + size]


if __name__ == "__main__":
    main()
