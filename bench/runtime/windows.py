"""Context by a window that moves, against attention over the whole."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.runtime.deviation import cosines
from w2v_edge import Model
from w2v_edge.runtime.context_window import ContextWindow
from w2v_edge.runtime.frontend_stream import Tensors
from w2v_edge.runtime.stream import Stream

WINDOWS = (
    *((20, side, side) for side in (0, 1, 2.5, 5, 10)),
    *((5, side, side) for side in (1, 2.5, 5)),
    *((0.32, left, right) for left, right in ((4, 0), (4, 0.32), (4, 0.64), (4, 1.28), (8, 1.28))),
    (0.32, 16, 1.28),
)


def measure(model: Model, audio: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return a row a window, after one for the whole; times are of the context network alone."""
    whole = model.encode(audio)
    inputs: Tensors = {
        "features": whole.features[np.newaxis],
        "frame_lengths": np.array([len(whole.features)], dtype=np.int64),
    }
    timed = _Timed(model)
    timed("context", inputs)
    timed.spent = 0.0
    timed("context", inputs)
    cost = timed.spent / (len(audio) / model.sample_rate)
    rows: list[dict[str, Any]] = [{"window": None, "ms_per_second": 1000 * cost}]
    frozen = model.statistics(audio) if "statistics" in model.manifest.graphs else None
    for window in (ContextWindow(*x) for x in WINDOWS):
        # A short look at what windows of streams cost is enough: every step is alike.
        heard = audio if window.step > 1 else audio[: 30 * model.sample_rate]
        timed = _Timed(model)
        stream = Stream(timed, model.manifest, frozen, window)
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


class _Timed:
    """Runs a model's graphs and adds up the time of the context network."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.spent = 0.0

    def __call__(self, graph: str, inputs: Tensors) -> Tensors:
        begun = time.perf_counter()
        made = self._model.run(graph, **inputs)
        if graph == "context":
            self.spent += time.perf_counter() - begun
        return made
