"""MLPerf LoadGen issues the queries, and says in its own words what it saw.

It runs as in a performance test of MLPerf Inference, but as long as asked for, where a submission
takes ten minutes or more: figures are made by the same rules of issuing, and are no submission.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from w2v_edge.latency.report import Case
from w2v_edge.latency.scenarios import FEWEST, MULTI, OFFLINE, Queries, Steady, Tensors
from w2v_edge.runtime.model import Model

SCENARIOS = {"single": "SingleStream", "multi": "MultiStream", "offline": "Offline"}
LINE = re.compile(r"^\s*([\w .()%/-]+?)\s*:\s*(.+?)\s*$", re.MULTILINE)


class LoadGen(Queries):
    """Queries as LoadGen issues them; a sample is an utterance."""

    def __init__(self, model: Model, case: Case, inputs: Sequence[Tensors]) -> None:
        super().__init__(model, case, inputs)
        self._scenario = case.scenario
        self._seconds = case.seconds

    def steady(self, seconds: float, query_s: float) -> Steady:
        """Let LoadGen go on for at least so long."""
        import mlperf_loadgen as lg

        settings = self._settings(lg, seconds, query_s)
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
            _start(lg, issue, settings, folder)
            said = (Path(folder) / "mlperf_log_summary.txt").read_text()
        # LoadGen's own start and end are none of the model's.
        took = ends[-1] - ends[0] + latencies[0]
        if self._scenario == "offline":
            latencies = [latencies[0] * OFFLINE / served]
        return Steady(latencies, took, served * self._seconds, loadgen=dict(LINE.findall(said)))

    def _settings(self, lg: Any, seconds: float, query_s: float) -> Any:
        settings = lg.TestSettings()
        settings.scenario = getattr(lg.TestScenario, SCENARIOS[self._scenario])
        settings.mode = lg.TestMode.PerformanceOnly
        settings.min_duration_ms = int(1e3 * seconds)
        settings.min_query_count = 1 if self._scenario == "offline" else FEWEST
        # LoadGen plans its queries by what it is told to expect.
        settings.single_stream_expected_latency_ns = int(1e9 * query_s)
        settings.multi_stream_expected_latency_ns = int(1e9 * query_s)
        settings.multi_stream_samples_per_query = MULTI
        settings.offline_expected_qps = max(OFFLINE / seconds, self.utterances / query_s)
        return settings


def _start(lg: Any, issue: Any, settings: Any, folder: str) -> None:
    """Run LoadGen with its logs in a folder."""

    def nothing(*_: object) -> None:
        pass

    logs = lg.LogSettings()
    logs.log_output.outdir = folder
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    library = lg.ConstructQSL(OFFLINE, OFFLINE, nothing, nothing)
    system = lg.ConstructSUT(issue, nothing)
    try:
        lg.StartTestWithLogSettings(system, library, settings, logs)
    finally:
        lg.DestroySUT(system)
        lg.DestroyQSL(library)
