"""Time of a fixed-shape call per audio callback, as real-time voice conversion makes it.

    python -m bench.callback BUNDLE [--history 43280] [--new 5120] [--seconds 60] [--threads N]
        [-o FILE]

Each callback appends `--new` samples of speech to those held, drops as many of the oldest, and runs
`encoder` over all of them; calls are due at the pace of time. The metric is the time from when a
block is there to its last frame. A block is late if the next one came first.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import w2v_edge
from bench.peers import hardware
from w2v_edge import data

WARM_UP = 5
"""Calls before the first block is due."""


def main() -> None:
    """Measure, print one JSON document, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--history", type=int, default=43_280, help="samples held from before")
    parser.add_argument("--new", type=int, default=5_120, help="samples per callback")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the audio")
    parser.add_argument("--threads", type=int, help="threads per operator; default: all cores")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    found = measure(given.bundle, given.history, given.new, given.seconds, given.threads)
    text = json.dumps(found, indent=1, allow_nan=False)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n", encoding="utf-8")


def measure(
    bundle: Path, history: int, new: int, seconds: float, threads: int | None
) -> dict[str, Any]:
    """Return the times of callbacks of `new` samples with `history` samples before them."""
    before = hardware.describe()
    model = w2v_edge.load(bundle, threads=threads)
    rate = model.sample_rate
    speech = np.concatenate(list(data.clips(rate).values()))
    held = np.zeros(history + new, dtype=np.float32)
    lengths = np.array([len(held)])
    for _ in range(WARM_UP):
        model.run("encoder", waveform=held[None], lengths=lengths)
    period, times = new / rate, []
    start = time.perf_counter()
    for i in range(max(1, round(seconds / period))):
        due = start + (i + 1) * period
        time.sleep(max(0.0, due - time.perf_counter()))
        begin = (i * new) % (len(speech) - new)
        held[:-new] = held[new:].copy()
        held[-new:] = speech[begin : begin + new]
        model.run("encoder", waveform=held[None], lengths=lengths)
        times.append(time.perf_counter() - due)
    milliseconds = 1000 * np.array(times)
    return {
        "hardware": before,
        "load_after": hardware.describe()["load_before"],
        "bundle": {"folder": bundle.name, "precision": model.manifest.precision},
        "threads": model.threads,
        "history_samples": history,
        "new_samples": new,
        "metric": "ms from when a block is there to its last frame",
        "blocks": len(times),
        "median_ms": round(float(np.median(milliseconds)), 2),
        "p99_ms": round(float(np.quantile(milliseconds, 0.99)), 2),
        "worst_ms": round(float(milliseconds.max()), 2),
        "late": int((milliseconds > 1000 * period).sum()),
    }


if __name__ == "__main__":
    main()
