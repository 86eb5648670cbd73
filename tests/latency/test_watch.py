"""The watch of the machine, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from w2v_edge.latency.device.sensors import Sensors, machine_time, own_time
from w2v_edge.latency.device.watch import Watch
from w2v_edge.latency.report.machine_records import Conditions, MachineSample

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts of /proc")

WORK = """
import time
while time.process_time() < {seconds}:
    pass
"""
"""Ends by the work that it did: on a busy machine that takes longer, and is as much."""

LAPTOP = {
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "800000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "4200000\n",
    "sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq": "4700000\n",
    "sys/devices/system/cpu/cpufreq/boost": "1\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/status": "Full\n",
    "sys/class/power_supply/hidpp_battery_0/type": "Battery\n",
    "sys/class/power_supply/hidpp_battery_0/scope": "Device\n",
    "sys/class/power_supply/hidpp_battery_0/status": "Discharging\n",
} | {
    # Two logical cores on each core, all on one package: each shows its package's counter.
    f"sys/devices/system/cpu/cpu{cpu}/{name}": f"{value}\n"
    for cpu in range(4)
    for name, value in {
        "topology/physical_package_id": 0,
        "topology/core_id": cpu % 2,
        "thermal_throttle/core_throttle_count": 3 + cpu % 2,
        "thermal_throttle/package_throttle_count": 10,
    }.items()
}


def _heat(label: str, current: float) -> SimpleNamespace:
    return SimpleNamespace(label=label, current=current)


TEMPERATURES = [
    (
        {
            "nvme": [_heat("Composite", 91.0)],
            "coretemp": [_heat("Package id 0", 71.0), _heat("Core 0", 75.0)],
        },
        71.0,
    ),
    ({"k10temp": [_heat("Tctl", 65.25), _heat("Tccd1", 80.0)]}, 65.25),
    ({"cpu-thermal": [_heat("", 62.3)]}, 62.3),
    ({"acpitz": [_heat("", 20.0)], "x86_pkg_temp": [_heat("", 55.0)]}, 55.0),
    ({"iwlwifi_1": [_heat("", 40.0)]}, None),
]


def test_work_of_our_own_is_no_disturbance() -> None:
    """What children do counts as the benchmark's own, also while one after the other ends.

    Others may be at work on this machine, so it is sums that are compared: what was counted as
    others' cannot be more than what the machine did without our children's work.
    """
    cores = tuple(sorted(os.sched_getaffinity(0)))
    machine, own = machine_time(cores), own_time()
    with _watch() as watch:
        for _ in range(8):
            _work(0.2)
        _work(0.2, below=True)
    after, own_after = machine_time(cores), own_time()
    assert machine is not None
    assert after is not None
    assert own is not None
    assert own_after is not None
    ours = own_after.seconds - own.seconds
    assert ours >= 1.8
    counted = _sum(watch.conditions(), lambda sample: sample.own)
    others = _sum(watch.conditions(), lambda sample: sample.others)
    assert counted == pytest.approx(ours, abs=0.4)
    assert others <= after.busy - machine.busy - ours + 0.4


def test_work_of_others_is_a_disturbance() -> None:
    """Another busy process is marked as load for the time that it ran."""
    with _stranger() as since, _watch() as watch:
        time.sleep(0.1)
        _until(lambda: _sum(watch.conditions(), lambda sample: sample.others) > 1.0, since)
    loads = [one for one in watch.conditions().disturbances if one.kind == "load"]
    assert loads
    assert all(one.end_s - one.begin_s >= 0.5 for one in loads)
    assert "other processes kept" in loads[0].detail


def test_no_time_is_counted_twice_or_lost_when_a_child_ends() -> None:
    """The benchmark's own time never decreases or jumps while children end."""
    before = own_time()
    readings = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            readings.append((time.monotonic(), own_time(), time.monotonic()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(4):
            _work(0.4)
    finally:
        done.set()
        reader.join()
    assert before is not None
    known = [(at, own.seconds, end) for at, own, end in readings if own is not None]
    assert len(known) > len(readings) / 2
    limit = len(os.sched_getaffinity(0))
    for (at, earlier, _), (_, later, end) in pairwise(known):
        # Clocks tick 100 times a second, for each of the parts that are added; a child that is
        # counted twice, or not, makes more.
        assert -0.2 <= later - earlier <= limit * (end - at) + 0.2
    last = own_time()
    assert last is not None
    assert last.seconds - before.seconds >= 1.5


def test_a_child_not_waited_for_still_counts() -> None:
    """A child that has ended keeps its time until its parent has waited for it."""
    before = own_time()
    child = subprocess.Popen([sys.executable, "-c", WORK.format(seconds=0.3)])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    ended = own_time()
    child.wait()
    waited_for = own_time()
    assert before is not None
    assert ended is not None
    assert waited_for is not None
    assert ended.seconds - before.seconds >= 0.28
    # Counted once: the second account is the first, with what the tests did meanwhile.
    assert waited_for.seconds - ended.seconds < (ended.seconds - before.seconds) / 2
    assert child.pid in ended.living
    assert child.pid not in waited_for.living


def test_a_child_that_ends_meanwhile_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is waited for while CPU times are read counts once."""
    child = subprocess.Popen([sys.executable, "-c", WORK.format(seconds=0.3)])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    before = time.process_time() + sum(os.times()[2:4])
    children = psutil.Process.children

    def and_wait(self: psutil.Process, recursive: bool = False) -> Any:
        found = children(self, recursive)
        child.wait()
        return found

    monkeypatch.setattr(psutil.Process, "children", and_wait)
    own = own_time()
    assert own is not None
    assert own.living == frozenset()
    assert 0.28 <= own.seconds - before < 0.55


def test_samples_are_in_order_and_of_all_of_the_time() -> None:
    """There is a sample before the first thing done and one after the last, in order of time."""
    with _watch(0.05) as watch:
        assert len(watch.conditions().samples) >= 1
        time.sleep(0.2)
        end = time.monotonic()
    samples = watch.conditions().samples
    times = [sample.at_s for sample in samples]
    assert times == sorted(times)
    assert times[-1] >= end
    assert samples[0].others is None
    assert samples[-1].available_mb is not None
    assert watch.cpu_s > 0


def test_sensors_of_a_laptop(tmp_path: Path) -> None:
    """The fastest usable core, each throttling counter and the battery are read once."""
    _write(tmp_path, LAPTOP)
    sensors = Sensors((0, 1), tmp_path)
    assert sensors.mhz() == 4200.0
    assert sensors.thermal_events() == 10 + 3 + 4
    assert sensors.on_battery() is False
    _write(tmp_path, {"sys/class/power_supply/BAT0/status": "Discharging\n"})
    assert sensors.on_battery() is True
    shutil.rmtree(tmp_path / "sys")
    assert (sensors.mhz(), sensors.thermal_events()) == (None, None)


def test_temperatures_are_those_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's sensor counts, or else the hottest of a processor's driver or zone."""
    for found, expected in TEMPERATURES:
        monkeypatch.setattr(psutil, "sensors_temperatures", lambda found=found: found)
        assert Sensors(()).temperature_c() == expected
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert Sensors(()).temperature_c() is None


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    """A missing sensor gives None, not an error."""
    sensors = Sensors((), tmp_path)
    assert (sensors.mhz(), sensors.thermal_events(), sensors.on_battery()) == (None, None, None)


@contextmanager
def _watch(interval_s: float = 0.5) -> Iterator[Watch]:
    with Watch(time.monotonic, interval_s) as watch:
        yield watch


@contextmanager
def _stranger() -> Iterator[float]:
    """Start a busy process that is no descendant of this one."""
    code = "import os\nprint(os.getpid(), flush=True)\n" + WORK.format(seconds=60)
    starter = (
        "import subprocess, sys; "
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.wait()
        try:
            yield time.monotonic()
        finally:
            os.kill(pid, signal.SIGKILL)


def _until(reached: Callable[[], bool], since: float, limit_s: float = 40.0) -> None:
    while not reached() and time.monotonic() - since < limit_s:
        time.sleep(0.1)


def _work(seconds: float, *, below: bool = False) -> None:
    """Work in a child, or in a child of a child."""
    command = [sys.executable, "-c", WORK.format(seconds=seconds)]
    if below:
        command = [sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"]
    subprocess.run(command, check=True)


def _sum(conditions: Conditions, value: Callable[[MachineSample], float | None]) -> float:
    """A rate over the time between samples."""
    samples = conditions.samples
    pairs = pairwise(samples)
    return sum((value(now) or 0.0) * (now.at_s - before.at_s) for before, now in pairs)


def _write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
