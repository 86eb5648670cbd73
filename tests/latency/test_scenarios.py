"""Scenarios: queries and deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import w2v_edge
from w2v_edge.latency.measure.inputs import waveform_inputs
from w2v_edge.latency.measure.scenarios import open_workload
from w2v_edge.latency.report.records import BenchmarkCase
from w2v_edge.runtime.realtime import Pace
from w2v_edge.runtime.stream import Stream


@pytest.fixture(scope="module")
def model(bundle: Callable[[str], Path]) -> w2v_edge.Model:
    """A small model."""
    return w2v_edge.load(bundle("tiny"), threads=1)


def _case(scenario: Any, **changes: Any) -> BenchmarkCase:
    usual = {"seconds": 0.5, "batch": 1, "block_ms": 0.0} | changes
    return BenchmarkCase("b", "tokenizer", "cpu", {}, 1, "high", scenario=scenario, **usual)


def _inputs(speech: dict[str, Any], seconds: float, batch: int = 1) -> list[dict[str, Any]]:
    samples = speech["en-demo-abouttotry"][: int(16_000 * seconds)]
    return waveform_inputs([samples] * batch, batch)


@pytest.mark.parametrize(("batch", "runs"), [(1, 8), (4, 2), (8, 1)])
def test_a_query_of_multi_is_eight_utterances(
    model: w2v_edge.Model,
    speech: dict[str, Any],
    batch: int,
    runs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In as many batches as they need."""
    done = []
    run = model.run

    def counted(*arguments: Any, **tensors: Any) -> Any:
        done.append(1)
        return run(*arguments, **tensors)

    monkeypatch.setattr(model, "run", counted)
    open_workload(model, _case("multi", batch=batch), _inputs(speech, 0.5, batch)).query()
    assert len(done) == runs


def test_offline_has_all_utterances_at_once(model: w2v_edge.Model, speech: dict[str, Any]) -> None:
    """One query, of as many as take the time asked for; its latency is that of 24."""
    for seconds in (0.01, 1.0):
        steady = open_workload(model, _case("offline"), _inputs(speech, 0.5)).steady(seconds, 0.01)
        assert len(steady.latencies) == 1
        assert steady.audio_s >= 24 * 0.5
        rate = steady.audio_s / steady.seconds
        assert steady.latencies[0] == pytest.approx(24 * 0.5 / rate)


def test_offline_runs_only_what_it_counts(
    model: w2v_edge.Model, speech: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joules are read before and after: a query to find out its time would be in them."""
    runs: list[int] = []
    run = model.run

    def counted(*arguments: Any, **tensors: Any) -> Any:
        runs.append(1)
        return run(*arguments, **tensors)

    monkeypatch.setattr(model, "run", counted)
    steady = open_workload(model, _case("offline"), _inputs(speech, 0.5)).steady(0.3, 0.01)
    assert len(runs) * 0.5 == steady.audio_s == 30 * 0.5


def test_blocks_that_are_not_done_in_time_are_late(
    model: w2v_edge.Model, speech: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose work on 10 ms of audio takes 15 ms is late ever more."""
    inputs = _inputs(speech, 0.4)
    push = Stream.push

    def slow(self: Stream, samples: Any) -> Any:
        time.sleep(0.015)
        return push(self, samples)

    monkeypatch.setattr(Stream, "push", slow)
    case = _case("streaming", seconds=0.4, block_ms=10.0)
    hard = open_workload(model, case, inputs).steady(1, 0.01)
    assert len(hard.latencies) == 40
    assert hard.late >= 38
    assert hard.behind >= 38 * 0.005
    assert np.all(np.diff(hard.latencies) > 0.004)


def test_a_block_is_late_when_the_next_one_is_there() -> None:
    """Not before: up to then it may take its time."""
    pace = Pace()
    pace.note(due=1.0, begun=1.0, done=1.2, seconds=0.32)
    assert (pace.late, pace.behind) == (0, 0.0)
    pace.note(due=1.32, begun=1.5, done=1.65, seconds=0.32)
    assert pace.late == 1
    assert pace.behind == pytest.approx(0.18)


def test_a_rest_of_a_block_is_no_block(model: w2v_edge.Model, speech: dict[str, Any]) -> None:
    """The incomplete last block is dropped."""
    case = _case("streaming", seconds=0.45, block_ms=100.0)
    steady = open_workload(model, case, _inputs(speech, 0.45)).steady(1, 0.01)
    assert len(steady.latencies) == 4
    assert steady.audio_s == pytest.approx(0.4)


def test_a_stream_takes_the_time_of_its_audio(
    model: w2v_edge.Model, speech: dict[str, Any]
) -> None:
    """Blocks come when a microphone would have them, not before."""
    live = open_workload(
        model, _case("streaming", seconds=0.4, block_ms=50.0), _inputs(speech, 0.4)
    )
    assert live.steady(0, 0.01).seconds >= 0.39
