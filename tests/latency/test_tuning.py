"""The tuning search on planted effects, in simulated time and in processes."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from w2v_edge.errors import InputError, W2VEdgeError
from w2v_edge.latency.measure.processes import Job
from w2v_edge.latency.report.records import BenchmarkCase
from w2v_edge.latency.tuning.parameters import Parameter, batch_parameter, session_parameters
from w2v_edge.latency.tuning.search import MIN_PAIRS, SearchResult, gain, search
from w2v_edge.latency.tuning.trials import OutOfTimeError, TrialRunner
from w2v_edge.latency.tuning.tune import LISTS, QUERIES, TuningRequest, tune
from w2v_edge.providers.table import TABLE
from w2v_edge.providers.tuning import Tuning

PARAMETERS = [
    Parameter("spinning", ("in_runs", "never"), session_parameters("cpu")[-2].set),
    Parameter("block_base", ("4",), session_parameters("cpu")[-1].set),
    batch_parameter("cpu"),
]
CASE = BenchmarkCase("tiny", "encoder", "cpu", {}, 1, "high", 1.0, 1, "single")
HOUR = 3600.0
DEFAULTS = Tuning()

Cost = Callable[[Tuning], float]


@dataclass
class Simulated(TrialRunner):
    """Times of a machine that drifts, as neighbours on it come and go, with outliers.

    A process is slowed by what slowed the one before, by 2 % of its own, and one in 50 by a third.
    """

    cost: Cost = field(default=lambda _: 1.0)
    drift: float = 0.0

    def _time_ms(self, tuning: Tuning) -> float:
        self.cost_s = 0.1
        draw = self.shuffler
        self.drift = 0.9 * self.drift + draw.gauss(0, 0.02)
        noise = draw.gauss(0, 0.02) + (draw.random() < 0.02) * math.log(4 / 3)
        return self.cost(tuning) * math.exp(self.drift + noise)


def simulate(
    cost: Cost, seed: int, parameters: Sequence[Parameter] = PARAMETERS, start: Tuning = DEFAULTS
) -> SearchResult:
    """Search with times of a simulated machine."""
    job = Job("", CASE, "", 0.0)
    now = time.perf_counter()
    runner = Simulated(job, "", Path(), now + HOUR, now + HOUR, _order(seed), cost=cost)
    return search(runner, QUERIES, parameters, start, now + HOUR)


def _order(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret


def test_arm_also_tries_without_kleidiai(monkeypatch: pytest.MonkeyPatch) -> None:
    """KleidiAI is a candidate on ARM64 alone, by onnxruntime's own name of the switch."""
    for arm in (True, False):
        monkeypatch.setattr("w2v_edge.latency.tuning.parameters.is_arm64", lambda arm=arm: arm)
        names = [parameter.name for parameter in session_parameters("cpu")]
        assert ("kleidiai" in names) is arm
        assert names[-2:] == ["spinning", "block_base"]


def test_slow_cores_are_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the default leaves slow cores out, all of them are tried."""
    module = "w2v_edge.latency.tuning.parameters"
    monkeypatch.setattr(f"{module}.usable_cores", lambda: 8)
    monkeypatch.setattr(f"{module}.default_threads", lambda: 4)
    assert session_parameters("cpu")[0].values == ("1", "2", "8")


def test_what_only_luck_favours_is_not_taken() -> None:
    """Of searches where nothing is better, at most one in 20 finds something, and that little."""
    found = [simulate(lambda _: 1.0, seed) for seed in range(300)]
    lucky = [one for one in found if one.tuning != Tuning()]
    assert len(lucky) <= 0.05 * len(found)
    # A search that never looks any closer would pass as well.
    assert any(attempt.confirmed for one in found for attempt in one.attempts)


def test_worse_values_are_never_taken() -> None:
    """A value that costs 3 % is not taken, whatever other processes do."""

    def cost(tuning: Tuning) -> float:
        return 1.03 if tuning.spinning == "never" else 1.0

    assert not [seed for seed in range(200) if simulate(cost, seed).tuning.spinning == "never"]


def test_what_gains_nothing_is_not_taken_along() -> None:
    """Beside a parameter that gains much, one that gains nothing is left alone 19 times of 20."""

    def cost(tuning: Tuning) -> float:
        return 1 / 1.5 if tuning.spinning == "never" else 1.0

    found = [simulate(cost, seed).tuning for seed in range(200)]
    assert sum(one.spinning == "never" for one in found) > 190
    assert sum(one.block_base == 4 for one in found) <= 10
    assert sum(one.batch_seconds is not None for one in found) <= 10


def test_the_order_in_a_round_has_no_effect() -> None:
    """If every second process is faster, nothing is found."""
    turns = itertools.count()

    def cost(_: Tuning) -> float:
        return 1 - 0.1 * (next(turns) % 2)

    found = [simulate(cost, seed, PARAMETERS[1:2]).tuning for seed in range(100)]
    assert sum(one != Tuning() for one in found) <= 5


def test_what_is_better_is_found() -> None:
    """A fifth is found nearly always, for the parameter that has it, and the gain is about that."""

    def cost(tuning: Tuning) -> float:
        return 1 / 1.2 if tuning.spinning == "never" else 1.0

    found = [simulate(cost, seed) for seed in range(100)]
    right = [one for one in found if one.tuning.spinning == "never"]
    assert len(right) >= 90
    gains = [one.gain for one in right]
    assert all(one is not None for one in gains)
    assert np.median([one.times for one in gains if one]) == pytest.approx(1.2, rel=0.02)


def test_gains_are_told_from_fresh_rounds() -> None:
    """The interval of a gain covers the true one in 95 of 100 searches, chosen by luck or not."""

    def cost(tuning: Tuning) -> float:
        return 1 / 1.08 if tuning.batch_seconds == 12 else 1.0

    gains = [one.gain for seed in range(300) if (one := simulate(cost, seed)).gain]
    covered = [one.low <= 1.08 <= one.high for one in gains if one]
    assert len(covered) > 100
    assert np.mean(covered) > 0.9


def test_knobs_add_up() -> None:
    """Each parameter starts from the best settings before it, so that gains add up."""

    def cost(tuning: Tuning) -> float:
        never, blocks = tuning.spinning == "never", tuning.block_base == 4
        return 1.0 / (1 + 0.3 * never) / (1 + 0.3 * (never and blocks))

    found = [simulate(cost, seed).tuning for seed in range(20)]
    assert sum(one == Tuning(spinning="never", block_base=4) for one in found) >= 17


def test_unconfirmed_gains_are_dropped() -> None:
    """A gain that the final measurement does not confirm is dropped."""
    calls = iter(range(10**6))

    def cost(tuning: Tuning) -> float:
        # The first process, three rounds of three values, and twelve of two come before.
        early = next(calls) < 1 + 3 * 3 + 12 * 2
        return 1 / 1.5 if tuning.spinning == "never" and early else 1.0

    start = Tuning(block_base=4)
    found = simulate(cost, 0, PARAMETERS[:1], start)
    assert found.tuning == start
    attempt = next(one for one in found.attempts if one.value == "never")
    assert attempt.confirmed is not None
    assert attempt.confirmed.low > 1.2
    assert attempt.result == "in doubt"


def test_a_value_that_fails_is_left_out() -> None:
    """A failing value is reported and skipped; failing defaults are an error."""

    def cost(tuning: Tuning) -> float:
        if tuning.spinning == "never":
            raise W2VEdgeError("no such thing here")
        return 1 / 1.3 if tuning.spinning == "in_runs" else 1.0

    found = simulate(cost, 3, PARAMETERS[:1])
    by_value = {one.value: one for one in found.attempts}
    assert by_value["never"].result == "failed"
    assert by_value["never"].detail == "no such thing here"
    assert found.tuning.spinning == "in_runs"
    with pytest.raises(W2VEdgeError, match="no such thing"):
        simulate(cost, 0, start=Tuning(spinning="never"))


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.5, 3.65, 8.0])
def test_the_time_is_kept(seconds: float) -> None:
    """No more processes are run than fit, and nothing is taken that was not confirmed."""
    clock = Clock()
    runner = Clocked(Job("", CASE, "", 0.0), "", Path(), seconds, seconds, _order(0), clock=clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.perf_counter", lambda: clock.now)
        found = search(runner, QUERIES, PARAMETERS, Tuning(), seconds)
    # The first process is what tells how long one takes.
    assert clock.now <= max(seconds, 0.1) + 1e-6
    assert [one.knob for one in found.attempts].count("batch_seconds") == 3
    tried = [one for one in found.attempts if one.result != "no time"]
    assert bool(tried) == (seconds > 3)
    assert (found.gain is None) == (found.tuning == Tuning())
    for one in tried:
        assert one.result != "taken" or one.confirmed is not None
    if tried:
        assert found.tuning.spinning == "never"
        assert found.gain is not None
        assert found.gain.rounds >= MIN_PAIRS


@dataclass
class Clock:
    now: float = 0.0


@dataclass
class Clocked(TrialRunner):
    """Takes 0.1 s a process, of a clock of its own."""

    clock: Clock = field(default_factory=Clock)

    def _time_ms(self, tuning: Tuning) -> float:
        self.cost_s = 0.1
        self.clock.now += 0.1
        return (1 / 1.3 if tuning.spinning == "never" else 1.0) * self.shuffler.gauss(1, 0.001)


def test_gains_are_paired() -> None:
    """Noise common to a pair is not in the interval, and the scale of times has no effect."""
    slow = np.array([1, 5, 2, 9, 3, 7.0])
    found = gain((1.2 * slow).tolist(), slow.tolist())
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 1.2, 1.2))
    noisy = gain(slow[::-1].tolist(), slow.tolist())
    assert noisy.value == pytest.approx(1)
    assert noisy.low < 0.5
    assert noisy.high == pytest.approx(1 / noisy.low)


def test_too_few_pairs_are_refused() -> None:
    """Fewer pairs than an interval requires are a typed error, also under `python -O`."""
    with pytest.raises(InputError, match=f"expected at least {MIN_PAIRS}"):
        gain([1.0] * 5, [1.0] * 5)


def with_planted_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes find the module `planted_trial`."""
    path = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


def test_planted_effects_are_found_in_processes(
    bundle: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real processes, planted gains are taken and planted losses are not."""
    planted = {
        QUERIES: {"never": 0.75, "in_runs": 1.2, "block_base": 1.1, "threads": 1.3},
        LISTS: {"12": 0.8, "3": 1.1, "0": 1.4},
    }
    monkeypatch.setenv("PLANTED", json.dumps(planted))
    # Noise is small: few processes tell.
    monkeypatch.setattr("w2v_edge.latency.tuning.search.CONFIRM", MIN_PAIRS)
    monkeypatch.setattr("w2v_edge.latency.tuning.search.EXPLORE", 1)
    with_planted_trial(monkeypatch)
    outcome = tune(
        bundle("tiny"), TuningRequest(seconds=(0.5,), time_s=HOUR), task="planted_trial:run_trial"
    )
    assert outcome.tuning == Tuning(spinning="never", batch_seconds=12.0)
    assert [one.what for one in outcome.gains] == [QUERIES, LISTS]
    assert outcome.gains[0].low > 1.3
    assert outcome.gains[1].times == pytest.approx(1 / 0.8, rel=0.02)
    assert {one.result for one in outcome.attempts} == {"taken", "no gain"}


def test_nothing_is_tuned_that_makes_results_less_exact() -> None:
    """No option is tried that the defaults set for the sake of exact results."""
    exact = {"use_tf32", "trt_fp16_enable", "precision", "ModelFormat"}
    for row in TABLE.values():
        assert not exact & set(row.tunable)
        for key, values in row.tunable.items():
            assert row.options.get(key) not in values


@pytest.mark.parametrize("slow_from", [0, 1, 5, 12])
def test_a_process_that_never_ends_is_ended(slow_from: int) -> None:
    """If a process hangs, the defaults stay, and each attempt is reported."""
    turns = itertools.count()

    def cost(tuning: Tuning) -> float:
        if next(turns) >= slow_from:
            raise OutOfTimeError
        return 1 / 1.3 if tuning.spinning == "never" else 1.0

    found = simulate(cost, 0)
    assert found.tuning == Tuning()
    assert found.gain is None
    tried = [(one.knob, one.value) for one in found.attempts]
    assert sorted(tried) == sorted(
        (parameter.name, value) for parameter in PARAMETERS for value in parameter.values
    )
    assert not [one for one in found.attempts if one.result == "taken"]


def test_an_arena_ends_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs is ended at the time that was set."""
    monkeypatch.setenv("PLANTED", "hang")
    with_planted_trial(monkeypatch)
    now = time.perf_counter()
    job = Job("", CASE, "", 0.0)
    runner = TrialRunner(job, "planted_trial:run_trial", tmp_path, now, now + 2, _order(0))
    with pytest.raises(OutOfTimeError):
        runner.begin(Tuning())
