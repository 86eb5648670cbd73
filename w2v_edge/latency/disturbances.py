"""What of a machine's state makes figures doubtful."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from statistics import median

from w2v_edge.latency.conditions import Conditions, Disturbance, Sample
from w2v_edge.latency.report import Trial

LOAD_CORES = 0.15
"""Cores kept busy by others, on average. An idle desktop keeps some hundredths busy, and clocks of
CPU time are good for half of this in one sample."""

LOAD_SHARE = 0.01
"""Likewise of all cores: a machine of 64 has daemons for more than one of 2."""

LOAD_CORE_S = 0.3
"""Work of others in all, in seconds of a core. A daemon that wakes up for 100 ms is a part of any
machine; a process that is busy for a second is not, and has this also where it gets but a third of
a core."""

STEAL_SHARE = 0.02
"""Of the cores' time, that the host took."""

STEAL_CORE_S = 0.05
"""Steal in all: a few ticks of its clock."""

FREQUENCY_SHARE = 0.05
"""How far a frequency may be from its median: less is within what turbo steps do."""

FREQUENCY_SAMPLES = 3
"""How long at least: importing modules, before matrix products begin, may run faster for a second
on processors that slow down for wide instructions."""

ENOUGH_SAMPLES = 5
"""For a median."""

GPU_BUSY = 0.5
"""Share of time from which a GPU's frequency is that of its work: idle ones save power."""


def find_disturbances(samples: Sequence[Sample], cores: int) -> tuple[Disturbance, ...]:
    """Return what was too much, by time.

    Args:
        samples: in the order of time; what grew is since the sample before.
        cores: that this process may run on.
    """
    found = [
        *_load(samples, cores),
        *_steal(samples, cores),
        *_frequency(samples),
        *_gpu_frequency(samples),
        *_quota(samples),
        *_heat(samples),
        *_battery(samples),
    ]
    return tuple(sorted(found, key=lambda one: (one.begin_s, one.end_s)))


def unstable(trials: Iterable[Trial], conditions: Conditions) -> tuple[str, ...]:
    """Return what disturbed some of a case's trials, with its time; empty for a quiet run."""
    spans = [(trial.begin_s, trial.end_s) for trial in trials]
    return tuple(
        f"at {one.begin_s:.1f} to {one.end_s:.1f} s {one.detail}"
        for one in conditions.disturbances
        if any(one.begin_s < end and one.end_s > begin for begin, end in spans)
    )


def quiet(trials: Iterable[Trial], conditions: Conditions) -> tuple[Trial, ...]:
    """Return the trials that nothing disturbed."""
    return tuple(trial for trial in trials if not unstable([trial], conditions))


class _Run:
    """Neighbouring samples, with the time each of them is about."""

    def __init__(self, samples: Sequence[Sample], indices: list[int]) -> None:
        self.indices = indices
        self.samples = [samples[index] for index in indices]
        self.begin_s = samples[max(0, indices[0] - 1)].at_s
        self.end_s = samples[indices[-1]].at_s
        self._lengths = [samples[i].at_s - samples[max(0, i - 1)].at_s for i in indices]

    def total(self, value: Callable[[Sample], float | None]) -> float:
        """Return a rate's sum over time."""
        pairs = zip(self.samples, self._lengths, strict=True)
        return sum((value(sample) or 0.0) * length for sample, length in pairs)

    def mean(self, value: Callable[[Sample], float | None]) -> float:
        """Return a rate's mean over time."""
        return self.total(value) / ((self.end_s - self.begin_s) or 1.0)


def _runs(samples: Sequence[Sample], over: Callable[[int], bool]) -> list[_Run]:
    marks = [over(index) for index in range(len(samples))]
    groups = groupby(range(len(samples)), key=marks.__getitem__)
    return [_Run(samples, list(indices)) for marked, indices in groups if marked]


def _load(samples: Sequence[Sample], cores: int) -> list[Disturbance]:
    limit = max(LOAD_CORES, LOAD_SHARE * cores)
    runs = _runs(samples, lambda index: (samples[index].others or 0.0) > limit)
    found = []
    for run in runs:
        if run.total(lambda sample: sample.others) > LOAD_CORE_S:
            busy = run.mean(lambda sample: sample.others)
            detail = f"other processes kept {busy:.1f} of {_cores(cores)} busy"
            found.append(Disturbance(run.begin_s, run.end_s, "load", detail))
    return found


def _steal(samples: Sequence[Sample], cores: int) -> list[Disturbance]:
    runs = _runs(samples, lambda index: (samples[index].steal or 0.0) > STEAL_SHARE * cores)
    found = []
    for run in runs:
        if run.total(lambda sample: sample.steal) > STEAL_CORE_S:
            taken = run.mean(lambda sample: sample.steal)
            detail = f"the host took {taken:.2f} of {_cores(cores)}"
            found.append(Disturbance(run.begin_s, run.end_s, "steal", detail))
    return found


def _frequency(samples: Sequence[Sample]) -> list[Disturbance]:
    """Samples are compared with those of as many busy cores: turbo goes by their number."""
    busy: dict[int, list[float]] = {}
    for sample in samples:
        if sample.mhz is not None and sample.own is not None:
            busy.setdefault(round(sample.own), []).append(sample.mhz)
    usual = {
        cores: median(values)
        for cores, values in busy.items()
        if cores > 0 and len(values) >= ENOUGH_SAMPLES
    }
    expected = [None if s.own is None else usual.get(round(s.own)) for s in samples]
    return _moved(samples, [s.mhz for s in samples], expected, "the processor")


def _gpu_frequency(samples: Sequence[Sample]) -> list[Disturbance]:
    works = [(sample.gpu_busy or 0.0) >= GPU_BUSY for sample in samples]
    found = [s.gpu_mhz for s, working in zip(samples, works, strict=True) if working]
    values = [mhz for mhz in found if mhz is not None]
    usual = median(values) if len(values) >= ENOUGH_SAMPLES else None
    expected = [usual if working else None for working in works]
    return _moved(samples, [sample.gpu_mhz for sample in samples], expected, "the GPU")


def _moved(
    samples: Sequence[Sample],
    values: list[float | None],
    expected: list[float | None],
    what: str,
) -> list[Disturbance]:
    def away(index: int) -> bool:
        value, usual = values[index], expected[index]
        if value is None or usual is None:
            return False
        return abs(value - usual) > FREQUENCY_SHARE * usual

    found = []
    for run in _runs(samples, away):
        if len(run.samples) < FREQUENCY_SAMPLES:
            continue
        was = median(value for i in run.indices if (value := values[i]) is not None)
        usual = median(value for i in run.indices if (value := expected[i]) is not None)
        detail = f"{what} ran at {was:.0f} MHz instead of {usual:.0f} MHz"
        found.append(Disturbance(run.begin_s, run.end_s, "frequency", detail))
    return found


def _quota(samples: Sequence[Sample]) -> list[Disturbance]:
    found = []
    for run in _runs(samples, lambda index: (samples[index].throttled_ms or 0.0) > 0):
        held = sum(sample.throttled_ms or 0.0 for sample in run.samples)
        detail = f"a quota held cores back for {held:.0f} ms"
        found.append(Disturbance(run.begin_s, run.end_s, "quota", detail))
    return found


def _heat(samples: Sequence[Sample]) -> list[Disturbance]:
    found = []
    for run in _runs(samples, lambda index: (samples[index].thermal_events or 0) > 0):
        times = sum(sample.thermal_events or 0 for sample in run.samples)
        often = "once" if times == 1 else f"{times} times"
        detail = f"the processor slowed down for heat {often}"
        found.append(Disturbance(run.begin_s, run.end_s, "temperature", detail))
    return found


def _battery(samples: Sequence[Sample]) -> list[Disturbance]:
    """A run that is all on battery is steady: only a change makes its parts differ."""
    states = {sample.on_battery for sample in samples if sample.on_battery is not None}
    if states != {True, False}:
        return []
    return [
        Disturbance(run.begin_s, run.end_s, "battery", "it ran on its battery, else on mains")
        for run in _runs(samples, lambda index: bool(samples[index].on_battery))
    ]


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"
