"""Concurrent calls of one model: bit-identical results, and throughput relative to serial calls.

    python -m bench.concurrency BUNDLE [--callers 8] [--seconds 60] [--threads N]

Rounds of serial and concurrent calls alternate, so that drift of the machine affects both. The
metric is seconds of audio encoded per second; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import w2v_edge
from bench.peers import hardware
from w2v_edge import data
from w2v_edge.runtime.model import Model

CLIPS = 24
LENGTHS = (0.5, 5.0)
"""Seconds."""
TURNS = 6
"""Of each kind."""
PATIENCE = 120
"""Seconds for the last call of a turn; beyond that it is a deadlock."""

Clips = list[npt.NDArray[np.float32]]


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="duration of the concurrent calls"
    )
    parser.add_argument("--threads", type=int, help="threads per operator; default: all cores")
    given = parser.parse_args()
    print(
        json.dumps(
            measure(given.bundle, given.callers, given.seconds, given.threads),
            indent=1,
            allow_nan=False,
        )
    )


def measure(bundle: Path, callers: int, seconds: float, threads: int | None) -> dict[str, Any]:
    """Alternate between serial and concurrent calls of one model."""
    before = hardware.describe()
    model = w2v_edge.load(bundle, threads=threads)
    clips = _clips(model.sample_rate)
    expected = [_bits(model, clip) for clip in clips]
    serial, together, wrong = [], [], 0
    for _ in range(TURNS):
        serial.append(_turn(model, clips, 1, seconds / TURNS, expected)[0])
        rate, differing = _turn(model, clips, callers, seconds / TURNS, expected)
        together.append(rate)
        wrong += differing
    ratio = statistics.median(together) / statistics.median(serial)
    return {
        "hardware": before,
        "load_after": hardware.describe()["load_before"],
        "bundle": {"folder": bundle.name, "precision": model.manifest.precision},
        "threads": model.threads,
        "callers": callers,
        "metric": "seconds of audio encoded per second of wall time",
        "serial": [round(x, 2) for x in serial],
        "concurrent": [round(x, 2) for x in together],
        "ratio": round(ratio, 3),
        "results that differ from serial ones": wrong,
    }


def _turn(
    model: Model, clips: Clips, callers: int, seconds: float, expected: list[bytes]
) -> tuple[float, int]:
    """Call from `callers` threads until time is up; return audio per second and wrong results."""
    numbers = itertools.count()
    begin = time.perf_counter()

    def call() -> tuple[float, int]:
        audio, wrong = 0.0, 0
        while time.perf_counter() - begin < seconds:
            i = next(numbers) % len(clips)
            wrong += _bits(model, clips[i]) != expected[i]
            audio += len(clips[i]) / model.sample_rate
        return audio, wrong

    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call) for _ in range(callers)]
        late = wait(calls, timeout=seconds + PATIENCE).not_done
        if late:
            raise SystemExit(f"deadlock: {len(late)} of {callers} threads did not come back")
    took = time.perf_counter() - begin
    done = [call.result() for call in calls]
    return sum(audio for audio, _ in done) / took, sum(wrong for _, wrong in done)


def _bits(model: Model, clip: npt.NDArray[np.float32]) -> bytes:
    encoding = model.encode(clip)
    return encoding.features.tobytes() + encoding.context.tobytes()


def _clips(rate: int) -> Clips:
    speech = np.concatenate(list(data.clips(rate).values()))
    random = np.random.default_rng(1)
    clips = []
    for _ in range(CLIPS):
        samples = int(random.uniform(*LENGTHS) * rate)
        start = int(random.integers(0, len(speech) - samples))
        clips.append(speech[start : start + samples])
    return clips


if __name__ == "__main__":
    main()
