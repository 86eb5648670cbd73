"""Thresholds of disturbances of a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from w2v_edge.latency.device.disturbances import find_disturbances, unstable
from w2v_edge.latency.report.machine_records import Conditions, Disturbance, MachineSample
from w2v_edge.latency.report.records import Trial

TRIAL = Trial(2.0, 4.0, 20.0, 90.0, 50.0, 30.0, (), (20.0,), 1.0, 10.0)


def _samples(**series: list[Any]) -> list[MachineSample]:
    """A sample each half second, of one list of values a field."""
    length = max(map(len, series.values()))
    rows = [{name: values[i] for name, values in series.items()} for i in range(length)]
    return [MachineSample(index / 2, **row) for index, row in enumerate(rows)]


QUIET: dict[str, dict[str, Any]] = {
    "idle": {"others": [None, *[0.02] * 20], "steal": [None, *[0.0] * 20]},
    "a tick of steal": {"steal": [None, 0.0, 0.04, 0.0, 0.02, 0.0]},
    "a daemon wakes up": {"others": [None, 0.02, 0.3, 0.02, 0.02, 0.4, 0.0]},
    "nothing to be read": {"others": [None] * 8},
    "on battery all the time": {"on_battery": [True] * 8},
    "no battery": {"on_battery": [None] * 8},
    "no quota in force": {"throttled_ms": [0.0] * 8, "thermal_events": [0] * 8},
    "an idle governor before": {
        "mhz": [800.0, 800.0, 800.0, *[3000.0] * 8],
        "own": [None, 0.0, 0.0, *[1.0] * 8],
    },
    "turbo by busy cores": {"mhz": [4800.0, 4200.0] * 8, "own": [1.0, 4.0] * 8},
    "a second of imports": {"mhz": [3300.0, 3300.0, *[3000.0] * 8], "own": [1.0] * 10},
    "steps of turbo": {"mhz": [3000.0, 3100.0] * 6, "own": [2.0] * 12},
    "a GPU between trials": {
        "gpu_mhz": [*[210.0] * 4, *[1700.0] * 8],
        "gpu_busy": [*[0.0] * 4, *[0.9] * 8],
    },
}


def test_a_quiet_machine_is_not_marked() -> None:
    """Usual background activity is not a disturbance."""
    for series in QUIET.values():
        assert find_disturbances(_samples(**series), cores=2) == ()


LOUD: list[tuple[dict[str, Any], Disturbance]] = [
    (
        {"others": [None, 0.0, 0.5, 1.0, 0.5, 0.0]},
        Disturbance(0.5, 2.0, "load", "other processes kept 0.7 of 2 cores busy"),
    ),
    (
        {"others": [None, 0.0, 0.4, 0.4, 0.0]},
        Disturbance(0.5, 1.5, "load", "other processes kept 0.4 of 2 cores busy"),
    ),
    (
        {"others": [None, *[0.2] * 10]},
        Disturbance(0.0, 5.0, "load", "other processes kept 0.2 of 2 cores busy"),
    ),
    (
        {"steal": [None, 0.0, 0.2, 0.1, 0.0]},
        Disturbance(0.5, 1.5, "steal", "the hypervisor took 0.15 of 2 cores"),
    ),
    (
        {"mhz": [*[3000.0] * 8, *[2000.0] * 3], "own": [1.9] * 11},
        Disturbance(3.5, 5.0, "frequency", "the processor ran at 2000 MHz instead of 3000 MHz"),
    ),
    (
        {"gpu_mhz": [*[1700.0] * 8, *[1200.0] * 3], "gpu_busy": [0.9] * 11},
        Disturbance(3.5, 5.0, "frequency", "the GPU ran at 1200 MHz instead of 1700 MHz"),
    ),
    (
        {"throttled_ms": [0.0, 0.0, 70.0, 50.0, 0.0]},
        Disturbance(0.5, 1.5, "quota", "a CPU quota throttled the benchmark for 120 ms"),
    ),
    (
        {"thermal_events": [0, 0, 1, 0]},
        Disturbance(0.5, 1.0, "temperature", "the processor throttled for heat once"),
    ),
    (
        {"on_battery": [False, False, True, True]},
        Disturbance(0.5, 1.5, "battery", "on battery for a part of the benchmark"),
    ),
]


def test_each_disturbance_is_marked_once() -> None:
    """Each disturbance is marked once, with its reason."""
    for series, expected in LOUD:
        found = find_disturbances(_samples(**series), cores=2)
        assert [replace(one, detail="") for one in found] == [replace(expected, detail="")]
        assert found == (expected,)


def test_quiet_between_is_not_merged() -> None:
    """Two disturbances with quiet between them stay two, in their order."""
    found = find_disturbances(_samples(others=[None, 1.0, 1.0, 0.0, 0.0, 0.9, 0.9]), cores=2)
    assert [(one.begin_s, one.end_s) for one in found] == [(0.0, 1.0), (2.0, 3.0)]


def test_many_cores_have_more_daemons() -> None:
    """Background load is judged relative to the number of cores."""
    samples = _samples(others=[None, *[0.4] * 8])
    assert len(find_disturbances(samples, cores=2)) == 1
    assert find_disturbances(samples, cores=64) == ()


def test_no_samples_no_disturbances() -> None:
    """Without samples there are no disturbances."""
    assert find_disturbances((), cores=1) == ()


def test_trials_are_unstable_by_what_overlaps_them() -> None:
    """A case is unstable by the disturbances that overlap its trials, and no others."""
    cases: list[tuple[float, float, bool]] = [
        (0.0, 2.0, False),
        (4.0, 5.0, False),
        (0.0, 2.5, True),
        (3.5, 9.0, True),
        (2.5, 3.0, True),
    ]
    for begin, end, overlaps in cases:
        conditions = Conditions((), (Disturbance(begin, end, "load", "others were busy"),))
        reasons = unstable([TRIAL], conditions)
        assert reasons == ((f"at {begin:.1f} to {end:.1f} s others were busy",) if overlaps else ())
        assert unstable([], conditions) == ()
