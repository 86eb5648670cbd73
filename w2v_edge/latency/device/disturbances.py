"""Disturbances: states of the machine that make figures unreliable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from statistics import median

from w2v_edge.latency.report.machine_records import Conditions, Disturbance, MachineSample
from w2v_edge.latency.report.records import Trial

LOAD_CORES = 0.15
"""Mean number of cores kept busy by other processes. An idle desktop keeps a few hundredths busy;
the resolution of one sample is half of this limit."""

LOAD_SHARE = 0.01
"""The same limit as a fraction of all cores: 64 cores run more daemons than 2."""

LOAD_CORE_S = 0.3
"""Total CPU time of other processes, in core seconds. Any machine has daemons that wake up for
100 ms; a process that is busy for a second exceeds this even with a third of a core."""

STEAL_SHARE = 0.02
"""Fraction of the cores' time taken by the hypervisor."""

STEAL_CORE_S = 0.05
"""Total steal, in core seconds: a few ticks of its clock."""

FREQUENCY_SHARE = 0.05
"""Relative deviation of a frequency from its median; turbo steps are smaller."""

FREQUENCY_SAMPLES = 3
"""Minimum length: processors that slow down for wide instructions run faster for a second while
modules are imported."""

ENOUGH_SAMPLES = 5
"""Samples required for a median."""

GPU_BUSY = 0.5
"""Utilization from which a GPU's frequency is compared: idle GPUs save power."""


def find_disturbances(samples: Sequence[MachineSample], cores: int) -> tuple[Disturbance, ...]:
    """Return the disturbances in order of time.

    Args:
        samples: in order of time; counters hold the increase since the previous sample.
        cores: number of cores this process may run on.
    """
    found = [
        *_load(samples, cores),
        *_steal(samples, cores),
        *_frequency(samples),
        *_gpu_frequency(samples),
        *_quota(samples),
        *_heat(samples),
        *_battery(samples),
        *_background(samples),
    ]
    return tuple(sorted(found, key=lambda one: (one.begin_s, one.end_s)))


def unstable(trials: Iterable[Trial], conditions: Conditions) -> tuple[str, ...]:
    """Return the disturbances during a case's trials, with times; empty for a quiet run."""
    spans = [(trial.begin_s, trial.end_s) for trial in trials]
    return tuple(
        f"at {one.begin_s:.1f} to {one.end_s:.1f} s {one.detail}"
        for one in conditions.disturbances
        if any(one.begin_s < end and one.end_s > begin for begin, end in spans)
    )


def undisturbed(trials: Iterable[Trial], conditions: Conditions) -> tuple[Trial, ...]:
    """Return the trials without a disturbance."""
    return tuple(trial for trial in trials if not unstable([trial], conditions))


class _Run:
    """Consecutive samples over a limit, with the time interval each of them covers."""

    def __init__(self, samples: Sequence[MachineSample], indices: list[int]) -> None:
        self.indices = indices
        self.samples = [samples[index] for index in indices]
        self.begin_s = samples[max(0, indices[0] - 1)].at_s
        self.end_s = samples[indices[-1]].at_s
        self._lengths = [samples[i].at_s - samples[max(0, i - 1)].at_s for i in indices]

    def total(self, value: Callable[[MachineSample], float | None]) -> float:
        """Return the integral of a rate over time."""
        pairs = zip(self.samples, self._lengths, strict=True)
        return sum((value(sample) or 0.0) * length for sample, length in pairs)

    def mean(self, value: Callable[[MachineSample], float | None]) -> float:
        """Return the mean of a rate over time."""
        return self.total(value) / ((self.end_s - self.begin_s) or 1.0)


def _runs(samples: Sequence[MachineSample], over: Callable[[int], bool]) -> list[_Run]:
    marks = [over(index) for index in range(len(samples))]
    groups = groupby(range(len(samples)), key=marks.__getitem__)
    return [_Run(samples, list(indices)) for marked, indices in groups if marked]


def _load(samples: Sequence[MachineSample], cores: int) -> list[Disturbance]:
    limit = max(LOAD_CORES, LOAD_SHARE * cores)
    runs = _runs(samples, lambda index: (samples[index].others or 0.0) > limit)
    found = []
    for run in runs:
        if run.total(lambda sample: sample.others) > LOAD_CORE_S:
            busy = run.mean(lambda sample: sample.others)
            detail = f"other processes kept {busy:.1f} of {_cores(cores)} busy"
            found.append(Disturbance(run.begin_s, run.end_s, "load", detail))
    return found


def _steal(samples: Sequence[MachineSample], cores: int) -> list[Disturbance]:
    runs = _runs(samples, lambda index: (samples[index].steal or 0.0) > STEAL_SHARE * cores)
    found = []
    for run in runs:
        if run.total(lambda sample: sample.steal) > STEAL_CORE_S:
            taken = run.mean(lambda sample: sample.steal)
            detail = f"the hypervisor took {taken:.2f} of {_cores(cores)}"
            found.append(Disturbance(run.begin_s, run.end_s, "steal", detail))
    return found


def _frequency(samples: Sequence[MachineSample]) -> list[Disturbance]:
    """Compare samples with the same number of busy cores: turbo depends on it."""
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
    return _deviations(samples, [s.mhz for s in samples], expected, "the processor")


def _gpu_frequency(samples: Sequence[MachineSample]) -> list[Disturbance]:
    works = [(sample.gpu_busy or 0.0) >= GPU_BUSY for sample in samples]
    found = [s.gpu_mhz for s, working in zip(samples, works, strict=True) if working]
    values = [mhz for mhz in found if mhz is not None]
    usual = median(values) if len(values) >= ENOUGH_SAMPLES else None
    expected = [usual if working else None for working in works]
    return _deviations(samples, [sample.gpu_mhz for sample in samples], expected, "the GPU")


def _deviations(
    samples: Sequence[MachineSample],
    values: list[float | None],
    expected: list[float | None],
    what: str,
) -> list[Disturbance]:
    def deviates(index: int) -> bool:
        value, usual = values[index], expected[index]
        if value is None or usual is None:
            return False
        return abs(value - usual) > FREQUENCY_SHARE * usual

    found = []
    for run in _runs(samples, deviates):
        if len(run.samples) < FREQUENCY_SAMPLES:
            continue
        was = median(value for i in run.indices if (value := values[i]) is not None)
        usual = median(value for i in run.indices if (value := expected[i]) is not None)
        detail = f"{what} ran at {was:.0f} MHz instead of {usual:.0f} MHz"
        found.append(Disturbance(run.begin_s, run.end_s, "frequency", detail))
    return found


def _quota(samples: Sequence[MachineSample]) -> list[Disturbance]:
    found = []
    for run in _runs(samples, lambda index: (samples[index].throttled_ms or 0.0) > 0):
        held = sum(sample.throttled_ms or 0.0 for sample in run.samples)
        detail = f"a CPU quota throttled the benchmark for {held:.0f} ms"
        found.append(Disturbance(run.begin_s, run.end_s, "quota", detail))
    return found


def _heat(samples: Sequence[MachineSample]) -> list[Disturbance]:
    found = []
    for run in _runs(samples, lambda index: (samples[index].thermal_events or 0) > 0):
        times = sum(sample.thermal_events or 0 for sample in run.samples)
        often = "once" if times == 1 else f"{times} times"
        detail = f"the processor throttled for heat {often}"
        found.append(Disturbance(run.begin_s, run.end_s, "temperature", detail))
    return found


def _battery(samples: Sequence[MachineSample]) -> list[Disturbance]:
    """Only a change counts: a benchmark that runs on battery throughout is consistent."""
    states = {sample.on_battery for sample in samples if sample.on_battery is not None}
    if states != {True, False}:
        return []
    return [
        Disturbance(run.begin_s, run.end_s, "battery", "on battery for a part of the benchmark")
        for run in _runs(samples, lambda index: bool(samples[index].on_battery))
    ]


def _background(samples: Sequence[MachineSample]) -> list[Disturbance]:
    return [
        Disturbance(run.begin_s, run.end_s, "background", "the page was in the background")
        for run in _runs(samples, lambda index: bool(samples[index].in_background))
    ]


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"
