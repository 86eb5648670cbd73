"""Scenarios: how queries are issued to a model.

`single`, `multi` and `offline` follow MLPerf Inference; `streaming` sends blocks in real time.
"""

from __future__ import annotations

import itertools
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from w2v_edge.audio import Waveform
from w2v_edge.latency.measure.inputs import Tensors
from w2v_edge.latency.report.records import MULTI_UTTERANCES, OFFLINE_UTTERANCES, BenchmarkCase
from w2v_edge.providers import usable_cores
from w2v_edge.runtime.model import Model
from w2v_edge.runtime.realtime import Pace, paced
from w2v_edge.runtime.window import Window

MIN_QUERIES = 3
"""Minimum number of queries in a steady state."""

LOADGEN_SCENARIOS = {"single": "SingleStream", "multi": "MultiStream", "offline": "Offline"}
LOADGEN_LINE = re.compile(r"^\s*([\w .()%/-]+?)\s*:\s*(.+?)\s*$", re.MULTILINE)


@dataclass
class SteadyState:
    """Measurements of a steady state.

    Attributes:
        latencies: of each query, in seconds.
        seconds: total wall-clock time.
        audio_s: audio processed, in seconds.
        late: blocks that missed their deadline.
        behind: longest time a block waited before it was processed, in seconds.
        loadgen: summary of MLPerf LoadGen.
    """

    latencies: list[float]
    seconds: float
    audio_s: float
    late: int = 0
    behind: float = 0.0
    loadgen: Mapping[str, str] = field(default_factory=dict)


class Workload(Protocol):
    """Queries of one scenario."""

    def query(self) -> None:
        """Run one query."""

    def steady(self, seconds: float, query_s: float) -> SteadyState:
        """Run queries for at least `seconds`; a warm query takes about `query_s`."""


def open_workload(model: Model, case: BenchmarkCase, inputs: Sequence[Tensors]) -> Workload:
    """Return the workload of a case.

    Args:
        model: the loaded model.
        case: the case.
        inputs: tensors of the batches, which alternate.
    """
    if case.scenario == "streaming":
        return StreamingQueries(model, case, inputs[0]["waveform"][0])
    if case.driver == "loadgen":
        return LoadGenQueries(model, case, inputs)
    return (OfflineQueries if case.scenario == "offline" else Queries)(model, case, inputs)


class Queries:
    """One query after another, on alternating inputs: the scenarios single and multi."""

    def __init__(self, model: Model, case: BenchmarkCase, inputs: Sequence[Tensors]) -> None:
        self._model = model
        self._graph = case.graph
        self._inputs = inputs
        self._turn = itertools.count()
        self.utterances = MULTI_UTTERANCES if case.scenario == "multi" else case.batch
        self.batch = case.batch
        self.audio_s = self.utterances * case.seconds
        """Seconds of audio in a query."""
        # Other devices run one graph at a time; on a CPU, idle cores run further batches.
        cores = usable_cores() if case.provider == "cpu" else 1
        workers = max(1, cores // case.threads)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def query(self) -> None:
        """Run one query."""
        self.serve(range(math.ceil(self.utterances / self.batch)))

    def steady(self, seconds: float, query_s: float) -> SteadyState:  # noqa: ARG002
        """Run one query after another."""
        latencies: list[float] = []
        begun = now = time.perf_counter()
        while now < begun + seconds or len(latencies) < MIN_QUERIES:
            self.query()
            then, now = now, time.perf_counter()
            latencies.append(now - then)
        return SteadyState(latencies, now - begun, len(latencies) * self.audio_s)

    def serve(self, batches: Iterable[object]) -> None:
        """Run a batch of utterances for each item, as many concurrently as cores allow."""
        waiting = list(batches)
        if self._pool is None or len(waiting) == 1:
            for _ in waiting:
                self._run()
        else:
            list(self._pool.map(lambda _: self._run(), waiting))

    def _run(self) -> None:
        self._model.run(self._graph, **self._inputs[next(self._turn) % len(self._inputs)])


class OfflineQueries(Queries):
    """All utterances at once: the latency is the time until the last one is done."""

    def steady(self, seconds: float, query_s: float) -> SteadyState:
        """Run as many utterances as take about `seconds`."""
        batches = max(math.ceil(OFFLINE_UTTERANCES / self.batch), math.ceil(seconds / query_s))
        begun = time.perf_counter()
        self.serve(range(batches))
        took = time.perf_counter() - begun
        latency = took * OFFLINE_UTTERANCES / (batches * self.batch)
        return SteadyState([latency], took, batches * self.audio_s)


class StreamingQueries:
    """Blocks of speech in real time; the graph `encoder` means codes and context."""

    def __init__(self, model: Model, case: BenchmarkCase, waveform: Waveform) -> None:
        self._rate = model.sample_rate
        self._size = max(1, round(case.block_ms * self._rate / 1000))
        # Whole blocks only: the deadline of a shorter one would be earlier.
        self._waveform = waveform[: len(waveform) // self._size * self._size]
        running = "statistics" in model.manifest.graphs
        window = Window(*case.window) if case.window else True
        self._stream = model.stream(
            statistics="running" if running else None,
            context=window if case.graph == "encoder" else False,
        )

    def query(self) -> None:
        """Push one block without a deadline."""
        begin = self._stream.samples % max(1, len(self._waveform) - self._size + 1)
        self._stream.push(self._waveform[begin : begin + self._size])

    def steady(self, seconds: float, query_s: float) -> SteadyState:  # noqa: ARG002
        """Push all of the speech in real time, whatever `seconds` is."""
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
        audio_s = len(self._waveform) / self._rate
        return SteadyState(latencies, took, audio_s, pace.late, pace.behind)


class LoadGenQueries(Queries):
    """Queries issued by MLPerf LoadGen; one sample is one utterance.

    Issued by the rules of a performance test, but for the requested time; a submission runs for
    ten minutes or more.
    """

    def __init__(self, model: Model, case: BenchmarkCase, inputs: Sequence[Tensors]) -> None:
        super().__init__(model, case, inputs)
        self._scenario = case.scenario
        self._seconds = case.seconds

    def steady(self, seconds: float, query_s: float) -> SteadyState:
        """Let LoadGen run for at least `seconds`."""
        import mlperf_loadgen as lg

        latencies: list[float] = []
        ends: list[float] = []
        served = 0

        def issue(samples: list[Any]) -> None:
            nonlocal served
            start = time.perf_counter()
            batches = math.ceil(len(samples) / self.batch)
            self.serve(range(batches))
            ends.append(time.perf_counter())
            latencies.append(ends[-1] - start)
            served += batches * self.batch
            lg.QuerySamplesComplete([lg.QuerySampleResponse(x.id, 0, 0) for x in samples])

        with tempfile.TemporaryDirectory(prefix="w2v-edge-") as folder:
            _run_loadgen(lg, issue, self._settings(lg, seconds, query_s), folder)
            summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
        # LoadGen's own start and end are not the model's.
        took = ends[-1] - ends[0] + latencies[0]
        if self._scenario == "offline":
            latencies = [latencies[0] * OFFLINE_UTTERANCES / served]
        lines = dict(LOADGEN_LINE.findall(summary))
        return SteadyState(latencies, took, served * self._seconds, loadgen=lines)

    def _settings(self, lg: Any, seconds: float, query_s: float) -> Any:
        settings = lg.TestSettings()
        settings.scenario = getattr(lg.TestScenario, LOADGEN_SCENARIOS[self._scenario])
        settings.mode = lg.TestMode.PerformanceOnly
        settings.min_duration_ms = int(1e3 * seconds)
        settings.min_query_count = 1 if self._scenario == "offline" else MIN_QUERIES
        # LoadGen plans its queries by the expected latency.
        settings.single_stream_expected_latency_ns = int(1e9 * query_s)
        settings.multi_stream_expected_latency_ns = int(1e9 * query_s)
        settings.multi_stream_samples_per_query = MULTI_UTTERANCES
        settings.offline_expected_qps = max(OFFLINE_UTTERANCES / seconds, self.utterances / query_s)
        return settings


def _run_loadgen(lg: Any, issue: Callable[[list[Any]], None], settings: Any, folder: str) -> None:
    """Run LoadGen with its logs in a folder."""

    def nothing(*_: object) -> None:
        pass

    logs = lg.LogSettings()
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    library = lg.ConstructQSL(OFFLINE_UTTERANCES, OFFLINE_UTTERANCES, nothing, nothing)
    system = lg.ConstructSUT(issue, nothing)
    try:
        lg.StartTestWithLogSettings(system, library, settings, logs)
    finally:
        lg.DestroySUT(system)
        lg.DestroyQSL(library)
