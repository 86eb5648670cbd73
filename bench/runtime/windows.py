"""Windowed attention against attention over the whole."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.runtime.deviation import cosines
from w2v_edge import Model, Window
from w2v_edge.bundle import Tensors
from w2v_edge.providers import choose
from w2v_edge.runtime.session import Session
from w2v_edge.runtime.stream import Stream

WINDOWS = (
    *((20, side, side) for side in (0, 1, 2.5, 5, 10)),
    *((5, side, side) for side in (1, 2.5, 5)),
    *((0.32, left, right) for left, right in ((4, 0), (4, 0.32), (4, 0.64), (4, 1.28), (8, 1.28))),
    (0.32, 16, 1.28),
)


def measure(model: Model, audio: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return one row per window, after one for the whole; times are of the context network only."""
    whole = model.encode(audio)
    inputs: Tensors = {
        "features": whole.features[np.newaxis],
        "frame_lengths": np.array([len(whole.features)], dtype=np.int64),
    }
    timed = _timed(model)
    timed.run("context", inputs)
    timed.spent = 0.0
    timed.run("context", inputs)
    cost = timed.spent / (len(audio) / model.sample_rate)
    rows: list[dict[str, Any]] = [{"window": None, "ms_per_second": 1000 * cost}]
    frozen = model.statistics(audio) if "statistics" in model.manifest.graphs else None
    for window in (Window(*x) for x in WINDOWS):
        # A short excerpt is enough for the windows of streams: all steps cost the same.
        heard = audio if window.step > 1 else audio[: 30 * model.sample_rate]
        timed = _timed(model)
        stream = Stream(timed, frozen, window)
        pieces = [stream.push(heard), stream.flush()]
        found = np.concatenate([piece.context for piece in pieces])
        rows.append(
            {
                "window": [window.step, window.left, window.right],
                **cosines(found, whole.context[: len(found)]),
                "ms_per_second": 1000 * timed.spent / stream.seconds,
            }
        )
    return rows


class _Timed(Session):
    """A session that sums the time of the context network."""

    spent = 0.0

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        begun = time.perf_counter()
        outputs = super().run(graph, inputs)
        if graph == "context":
            self.spent += time.perf_counter() - begun
        return outputs


def _timed(model: Model) -> _Timed:
    return _Timed(model.bundle, choose(model.provider, model.threads, allow_fallback=False))
