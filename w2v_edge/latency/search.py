"""The search for better settings: explore, confirm in fresh rounds, and at last confirm it all.

What looks best of many in a few rounds often does by luck. So nothing is taken for what it did in
the rounds that it was chosen by: fresh ones have to say the same beyond doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from w2v_edge.latency.arena import Arena, OutOfTimeError
from w2v_edge.latency.gain import FEWEST, gain, is_better, promises, ratio
from w2v_edge.latency.knobs import Knob
from w2v_edge.latency.report import Estimate
from w2v_edge.providers.tuned import Gain
from w2v_edge.providers.tuning import Tuning

EXPLORE = 3
"""Rounds of all values of a knob."""

CONFIRM = 12
"""Rounds of the best one, and of all that was taken; where time is short, `FEWEST`."""

Result = Literal["taken", "no gain", "less", "in doubt", "failed", "no time"]


@dataclass(frozen=True)
class Attempt:
    """A setting that was tried, and what became of it.

    Attributes:
        what: was timed.
        knob: what was set.
        value: to what.
        result: `taken`; `no gain`; `less` than another value of the knob; `in doubt`, not
            confirmed by fresh rounds; `failed`; or not tried, as there was `no time`.
        explored: how many times as fast as what was best until then.
        confirmed: likewise in fresh rounds; null where it did not come to that.
        detail: what it failed of.
    """

    what: str
    knob: str
    value: str
    result: Result
    explored: float | None = None
    confirmed: Estimate | None = None
    detail: str = ""


@dataclass(frozen=True)
class Found:
    """What a search found: a tuning, what was tried, and what it gains over the defaults."""

    tuning: Tuning
    attempts: tuple[Attempt, ...]
    gain: Gain | None


def processes(knobs: Sequence[Knob]) -> int:
    """Return how many processes a search that lacks no time may take."""
    return sum(EXPLORE * (len(knob.values) + 1) + 2 * CONFIRM for knob in knobs) + 3 * CONFIRM


def search(arena: Arena, what: str, knobs: Sequence[Knob], start: Tuning, until: float) -> Found:
    """Try one knob after the other, each with the best of those before.

    Args:
        arena: where it is measured.
        what: is timed there, in words.
        knobs: to try, most promising first.
        start: what to begin with.
        until: when to be done, by `time.perf_counter`.

    Raises:
        W2VEdgeError: `start` does not run.
    """
    best, attempts = start, list[Attempt]()
    try:
        arena.begin(start)
        for knob in knobs:
            # Time is kept for the last rounds, without which nothing is taken.
            last = FEWEST * (len(_distinct([Tuning(), start])) + 1)
            best, tried = _turn(arena, what, knob, best, until - last * arena.cost_s)
            attempts += tried
        found, gained = _confirm_all(arena, what, start, best)
    except OutOfTimeError:
        found, gained = start, None
        done = {attempt.knob for attempt in attempts}
        left = [knob for knob in knobs if knob.name not in done]
        attempts += [Attempt(what, x.name, value, "no time") for x in left for value in x.values]
    if found != best:
        attempts = [replace(x, result="in doubt") if x.result == "taken" else x for x in attempts]
    return Found(found, tuple(attempts), gained)


def _turn(
    arena: Arena, what: str, knob: Knob, best: Tuning, until: float
) -> tuple[Tuning, list[Attempt]]:
    """Try the values of one knob; return the best tuning and what was tried."""
    fit = max(0, (arena.affordable(1, until) - 2 * FEWEST) // EXPLORE - 1)
    values, left = knob.values[:fit], knob.values[fit:]
    tunings = {value: knob.set(best, value) for value in values}
    skipped = [Attempt(what, knob.name, value, "no time") for value in left]
    if not values:
        return best, skipped
    base, *others = arena.rounds([best, *tunings.values()], EXPLORE, f"trying {knob.name}")
    attempts = {
        value: _explored(Attempt(what, knob.name, value, "no gain"), base, times)
        for value, times in zip(values, others, strict=True)
    }
    for value, attempt in attempts.items():
        if attempt.explored is None:
            why = arena.failures[repr(tunings[value])]
            attempts[value] = replace(attempt, result="failed", detail=why)
    promising = [x for x in attempts.values() if x.result == "less"]
    if promising:
        first = max(promising, key=lambda x: x.explored or 0.0)
        attempts[first.value] = _confirmed(arena, first, best, tunings[first.value], until)
        if attempts[first.value].result == "taken":
            best = tunings[first.value]
    return best, [*attempts.values(), *skipped]


def _explored(attempt: Attempt, base: list[float], times: list[float]) -> Attempt:
    """Note what a first look says; what promises something is `less` until it is confirmed."""
    if not times:
        return attempt
    explored = ratio(base, times)
    return replace(attempt, explored=explored, result="less" if promises(explored) else "no gain")


def _confirmed(
    arena: Arena, attempt: Attempt, best: Tuning, candidate: Tuning, until: float
) -> Attempt:
    """Measure the best of a first look again, in rounds that it was not chosen by."""
    count = min(CONFIRM, arena.affordable(2, until))
    if count < FEWEST:
        return replace(attempt, result="no time")
    base, times = arena.rounds([best, candidate], count, f"confirming {attempt.knob}")
    if not times:
        return replace(attempt, result="failed", detail=arena.failures[repr(candidate)])
    confirmed = gain(base, times)
    result: Result = "taken" if is_better(confirmed) else "in doubt"
    return replace(attempt, confirmed=confirmed, result=result)


def _confirm_all(
    arena: Arena, what: str, start: Tuning, best: Tuning
) -> tuple[Tuning, Gain | None]:
    """Measure all that was taken against the defaults, and against what was begun with.

    Where that says nothing beyond doubt, the latter stays.
    """
    tunings = _distinct([Tuning(), start, best])
    count = min(CONFIRM, arena.affordable(len(tunings), arena.deadline))
    if len(tunings) == 1 or count < FEWEST:
        return start, None
    measured = arena.rounds(tunings, count, "confirming all of it")
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
