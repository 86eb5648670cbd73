"""The search for better settings: explore, confirm in fresh rounds, confirm all of it at the end.

The best of many candidates in a few rounds is often the luckiest. Therefore a candidate is accepted
only if fresh rounds, in which it was not selected, show a significant gain.

Gains are estimated from pairs: the times of base and candidate in one round. A disturbance of the
machine affects both of a pair, and their order within a round is random, so under the null
hypothesis the logarithm of a pair's ratio is symmetric around 0. That is all the signed-rank
statistic assumes; drift and outliers do not invalidate its intervals.

Hodges and Lehmann, "Estimates of location based on rank tests" (1963).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.latency.report.records import Estimate
from w2v_edge.latency.tuning.parameters import Parameter
from w2v_edge.latency.tuning.trials import OutOfTimeError, TrialRunner
from w2v_edge.providers.tuned import Gain
from w2v_edge.providers.tuning import Tuning

EXPLORE = 3
"""Rounds in which all values of a parameter are explored."""

CONFIRM = 12
"""Rounds of a confirmation; at least `MIN_PAIRS` if the time is short."""

MIN_GAIN = 1.01
"""A smaller gain does not justify a setting."""

MIN_PAIRS = 6
"""Number of pairs required for a 95 % interval."""

Result = Literal["taken", "no gain", "less", "in doubt", "failed", "no time"]


@dataclass(frozen=True)
class Attempt:
    """A candidate value and its result.

    Attributes:
        what: the workload that was timed.
        knob: name of the parameter.
        value: the candidate value.
        result: `taken`; `no gain`; `less` gain than another value of the parameter; `in doubt`,
            not confirmed by fresh rounds; `failed`; or `no time` to try it.
        explored: speed relative to the best settings before it, from the exploration.
        confirmed: the same from fresh rounds; null if it was not confirmed.
        detail: the error of a failed candidate.
    """

    what: str
    knob: str
    value: str
    result: Result
    explored: float | None = None
    confirmed: Estimate | None = None
    detail: str = ""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        tuning: the best settings.
        attempts: the candidates.
        gain: speed relative to the defaults; None if the defaults are kept.
    """

    tuning: Tuning
    attempts: tuple[Attempt, ...]
    gain: Gain | None


def processes(parameters: Sequence[Parameter]) -> int:
    """Return the maximum number of processes of a search."""
    return (
        sum(EXPLORE * (len(parameter.values) + 1) + 2 * CONFIRM for parameter in parameters)
        + 3 * CONFIRM
    )


def search(
    runner: TrialRunner, what: str, parameters: Sequence[Parameter], start: Tuning, until: float
) -> SearchResult:
    """Search one parameter after another, each starting from the best settings so far.

    Args:
        runner: measures candidates.
        what: name of the workload.
        parameters: parameters, most promising first.
        start: settings to start from.
        until: end of the search, by `time.perf_counter`.

    Raises:
        W2VEdgeError: `start` does not run.
    """
    best, attempts = start, list[Attempt]()
    try:
        runner.begin(start)
        for parameter in parameters:
            # Reserve time for the last rounds, without which nothing is accepted.
            last = MIN_PAIRS * (len(_distinct([Tuning(), start])) + 1)
            best, tried = _turn(runner, what, parameter, best, until - last * runner.cost_s)
            attempts += tried
        found, gained = _confirm_all(runner, what, start, best)
    except OutOfTimeError:
        found, gained = start, None
        done = {attempt.knob for attempt in attempts}
        left = [parameter for parameter in parameters if parameter.name not in done]
        attempts += [Attempt(what, x.name, value, "no time") for x in left for value in x.values]
    if found != best:
        attempts = [replace(x, result="in doubt") if x.result == "taken" else x for x in attempts]
    return SearchResult(found, tuple(attempts), gained)


def _turn(
    runner: TrialRunner, what: str, parameter: Parameter, best: Tuning, until: float
) -> tuple[Tuning, list[Attempt]]:
    """Try the values of one parameter; return the best settings and the attempts."""
    fit = max(0, (runner.affordable(1, until) - 2 * MIN_PAIRS) // EXPLORE - 1)
    values, left = parameter.values[:fit], parameter.values[fit:]
    tunings = {value: parameter.set(best, value) for value in values}
    skipped = [Attempt(what, parameter.name, value, "no time") for value in left]
    if not values:
        return best, skipped
    base, *others = runner.rounds([best, *tunings.values()], EXPLORE, f"trying {parameter.name}")
    attempts = {
        value: _explored(Attempt(what, parameter.name, value, "no gain"), base, times)
        for value, times in zip(values, others, strict=True)
    }
    for value, attempt in attempts.items():
        if attempt.explored is None:
            why = runner.failures[repr(tunings[value])]
            attempts[value] = replace(attempt, result="failed", detail=why)
    promising = [x for x in attempts.values() if x.result == "less"]
    if promising:
        first = max(promising, key=lambda x: x.explored or 0.0)
        attempts[first.value] = _confirmed(runner, first, best, tunings[first.value], until)
        if attempts[first.value].result == "taken":
            best = tunings[first.value]
    return best, [*attempts.values(), *skipped]


def _explored(attempt: Attempt, base: list[float], times: list[float]) -> Attempt:
    """Record an exploration; a promising value is `less` until it is confirmed."""
    if not times:
        return attempt
    explored = ratio(base, times)
    return replace(attempt, explored=explored, result="less" if explored > MIN_GAIN else "no gain")


def _confirmed(
    runner: TrialRunner, attempt: Attempt, best: Tuning, candidate: Tuning, until: float
) -> Attempt:
    """Confirm the best value of an exploration in fresh rounds."""
    count = min(CONFIRM, runner.affordable(2, until))
    if count < MIN_PAIRS:
        return replace(attempt, result="no time")
    base, times = runner.rounds([best, candidate], count, f"confirming {attempt.knob}")
    if not times:
        return replace(attempt, result="failed", detail=runner.failures[repr(candidate)])
    confirmed = gain(base, times)
    result: Result = "taken" if confirmed.low > MIN_GAIN else "in doubt"
    return replace(attempt, confirmed=confirmed, result=result)


def _confirm_all(
    runner: TrialRunner, what: str, start: Tuning, best: Tuning
) -> tuple[Tuning, Gain | None]:
    """Measure the best settings against the defaults and against the start.

    The start is kept unless the best settings are significantly faster.
    """
    tunings = _distinct([Tuning(), start, best])
    count = min(CONFIRM, runner.affordable(len(tunings), runner.deadline))
    if len(tunings) == 1 or count < MIN_PAIRS:
        return start, None
    measured = runner.rounds(tunings, count, "confirming all settings")
    times = {repr(x): y for x, y in zip(tunings, measured, strict=True)}
    if best != start and not (times[repr(best)] and _faster(times, start, best)):
        best = start
    if best == Tuning() or not times[repr(best)]:
        return start, None
    gained = gain(times[repr(Tuning())], times[repr(best)])
    return best, Gain(what, gained.value, gained.low, gained.high, count)


def _faster(times: dict[str, list[float]], start: Tuning, best: Tuning) -> bool:
    return bool(times[repr(start)]) and gain(times[repr(start)], times[repr(best)]).low > 1


def _distinct(tunings: Sequence[Tuning]) -> list[Tuning]:
    return list({repr(x): x for x in tunings}.values())


def ratio(base: Sequence[float], candidate: Sequence[float]) -> float:
    """Return how many times as fast a candidate is, by times of the same rounds."""
    return math.exp(float(np.median(_walsh_averages(base, candidate))))


def gain(base: Sequence[float], candidate: Sequence[float]) -> Estimate:
    """Return how many times as fast a candidate is, with its 95 % interval.

    Args:
        base: times by round, at least `MIN_PAIRS`.
        candidate: times in the same rounds.

    Raises:
        InputError: there are too few rounds for an interval.
    """
    if len(base) < MIN_PAIRS:
        raise InputError(f"found {len(base)} pairs of times, expected at least {MIN_PAIRS}")
    averages = _walsh_averages(base, candidate)
    cut = _excluded(len(base))
    low, high = float(averages[cut]), float(averages[-1 - cut])
    return Estimate(ratio(base, candidate), math.exp(low), math.exp(high))


def _walsh_averages(base: Sequence[float], candidate: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the sorted means of all pairs of log ratios, including each with itself."""
    logs = np.log(np.array(base)) - np.log(np.array(candidate))
    first, second = np.triu_indices(len(logs))
    return np.sort((logs[first] + logs[second]) / 2)


def _excluded(pairs: int) -> int:
    """Return the number of Walsh averages outside of the 95 % interval, at either end."""
    # Distribution of the signed-rank statistic: the number of the 2 ** pairs sign patterns by the
    # sum of their positive ranks.
    ways = np.ones(1)
    for rank in range(1, pairs + 1):
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways
        longer[rank:] += ways
        ways = longer
    below = np.cumsum(ways) / 2.0**pairs
    return int(np.searchsorted(below, 0.025, side="right")) - 1
