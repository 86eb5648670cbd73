"""The scenario streaming: blocks of speech at the pace of time, each to be done before the next."""

from __future__ import annotations

import time

from w2v_edge.audio import Waveform
from w2v_edge.latency.report import Case
from w2v_edge.latency.scenarios import Steady
from w2v_edge.runtime.model import Model
from w2v_edge.runtime.realtime import Pace, paced


class Live:
    """A stream of codes, and of context where the graph is the encoder."""

    def __init__(self, model: Model, case: Case, waveform: Waveform) -> None:
        self._rate = model.sample_rate
        self._size = max(1, round(case.block_ms * self._rate / 1000))
        # Whole blocks: the next one comes as late after each as it is long.
        self._waveform = waveform[: len(waveform) // self._size * self._size]
        running = "statistics" in model.manifest.graphs
        self._stream = model.stream(
            statistics="running" if running else None, context=case.graph == "encoder"
        )

    def query(self) -> None:
        """Push a block that nobody waits for."""
        begin = self._stream.samples % max(1, len(self._waveform) - self._size + 1)
        self._stream.push(self._waveform[begin : begin + self._size])

    def steady(self, seconds: float, query_s: float) -> Steady:  # noqa: ARG002
        """Push all of the speech at its pace, however many `seconds` were asked for."""
        self._stream.reset()
        pace, latencies = Pace(), []
        begun = time.perf_counter()
        for block in paced([self._waveform], self._rate, self._size, wait=True):
            started = time.perf_counter()
            self._stream.push(block.samples)
            done = time.perf_counter()
            pace.note(block.due, started, done, len(block.samples) / self._rate)
            latencies.append(done - block.due)
        took = time.perf_counter() - begun
        audio = len(self._waveform) / self._rate
        return Steady(latencies, took, audio, pace.late, pace.behind)
