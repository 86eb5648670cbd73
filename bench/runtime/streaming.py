"""Latency of blocks in a real-time stream, and late blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge import Model
from w2v_edge.runtime.realtime import Pace, paced
from w2v_edge.runtime.window import STREAM_WINDOW

BLOCK_SECONDS = 0.32


def measure(model: Model, audio: npt.NDArray[np.float32], *, wait: bool) -> dict[str, Any]:
    """Stream codes and context, and return the times of each tenth."""
    import time

    size = round(BLOCK_SECONDS * model.sample_rate)
    stream = model.stream(statistics="running", context=STREAM_WINDOW)
    # The first blocks open the graphs, as an app would before it records.
    stream.push(audio[: 10 * size])
    stream.reset()
    pace = Pace()
    for block in paced([audio], model.sample_rate, size, wait=wait):
        begun = time.perf_counter()
        stream.push(block.samples)
        pace.note(block.due, begun, time.perf_counter(), len(block.samples) / model.sample_rate)
    work = 1000 * np.array(pace.work)
    tenths = [float(np.median(x)) for x in np.array_split(work, 10)]
    return {
        "seconds": len(audio) / model.sample_rate,
        "block_ms": 1000 * BLOCK_SECONDS,
        "window": [STREAM_WINDOW.step, STREAM_WINDOW.left, STREAM_WINDOW.right],
        "at_the_pace_of_time": wait,
        "blocks": len(work),
        "late": pace.late,
        "median_ms": float(np.median(work)),
        "p99_ms": float(np.quantile(work, 0.99)),
        "worst_ms": float(work.max()),
        "median_ms_by_tenths": tenths,
        "latency_ms": stream.latency_ms,
        "context_latency_ms": stream.context_latency_ms,
        "start_ms": stream.start_ms,
    }
