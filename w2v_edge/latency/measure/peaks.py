"""The highest speeds of this device: of matrix products in onnxruntime, and of memory.

The products are of a size that suits every kernel: 1024 rows, and a weight of 768 x 768 that stays
in a cache. They say what onnxruntime reaches here at best, not what the processor could do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.latency.measure.processes import Job

PEAKS = "w2v_edge.latency.measure.peaks:measure_peaks"

ROWS = 1024
SIDE = 768
MEMORY_SIDE = 4096
"""Rows of a matrix of 64 MB, which is beyond the caches of most devices."""

TIME_S = 0.6
TYPES: dict[str, type[np.generic]] = {"float32": np.float32, "int8": np.uint8}
"""Graphs `peak_graphs/NAME.onnx`, and the type of their left factor."""


def measure_peaks(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Measure the peaks with the threads of a case; returns the fields of `Peaks`."""
    threads = job.case.threads
    found: dict[str, Any] = {"threads": threads, "memory": _memory_speed()}
    for name, kind in TYPES.items():
        found[name] = round(_product_speed(name, kind, threads))
    return found


def _product_speed(name: str, kind: type[np.generic], threads: int) -> float:
    """Return the multiply-adds in a second."""
    from w2v_edge.providers import import_onnxruntime

    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    graph = (resources.files("w2v_edge.latency.measure") / f"peak_graphs/{name}.onnx").read_bytes()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    left: npt.NDArray[Any] = np.ones((ROWS, SIDE), kind)
    return ROWS * SIDE * SIDE / _shortest_s(lambda: session.run(None, {"left": left}))


def _memory_speed() -> float:
    """Return the bytes of a large matrix that a product with a vector reads in a second."""
    matrix = np.ones((MEMORY_SIDE, MEMORY_SIDE), np.float32)
    vector = np.ones(MEMORY_SIDE, np.float32)
    return round(matrix.nbytes / _shortest_s(lambda: matrix @ vector))


def _shortest_s(run: Callable[[], object]) -> float:
    """Return the shortest time of a call, in s: whatever disturbs a call only makes it longer."""
    run()
    shortest, end = float("inf"), time.perf_counter() + TIME_S
    while (start := time.perf_counter()) < end:
        run()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest
