"""What a watch sees of the machine, with real processes."""

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

import pytest

from w2v_edge.latency.conditions import Conditions, Sample
from w2v_edge.latency.cpu_time import has_children_files, machine_time, own_time
from w2v_edge.latency.sensors import Sensors
from w2v_edge.latency.watch import Watch

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
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "91000\n",
    "sys/class/hwmon/hwmon1/name": "coretemp\n",
    "sys/class/hwmon/hwmon1/temp1_label": "Package id 0\n",
    "sys/class/hwmon/hwmon1/temp1_input": "71000\n",
    "sys/class/hwmon/hwmon1/temp2_label": "Core 0\n",
    "sys/class/hwmon/hwmon1/temp2_input": "70000\n",
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/AC/online": "1\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/status": "Full\n",
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

RASPBERRY_PI = {
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "62322\n",
}

AMD = {
    "sys/class/hwmon/hwmon2/name": "k10temp\n",
    "sys/class/hwmon/hwmon2/temp1_label": "Tctl\n",
    "sys/class/hwmon/hwmon2/temp1_input": "65250\n",
    "sys/class/hwmon/hwmon2/temp3_label": "Tccd1\n",
    "sys/class/hwmon/hwmon2/temp3_input": "80000\n",
}


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
    """A busy process that is none of ours is marked as load, over the time that it took."""
    with _stranger() as since, _watch() as watch:
        time.sleep(0.1)
        _until(lambda: _sum(watch.conditions(), lambda sample: sample.others) > 1.0, since)
    loads = [one for one in watch.conditions().disturbances if one.kind == "load"]
    assert loads
    assert all(one.end_s - one.begin_s >= 0.5 for one in loads)
    assert "other processes kept" in loads[0].detail


def test_no_time_is_counted_twice_or_lost_when_a_child_ends() -> None:
    """The own time never falls and never jumps, however often it is read while children end."""
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


@pytest.mark.parametrize("stat", [None, "77 (a) b) X 1 1 1 0 -1 0 0 0 0 0 500 20 0 0 20"])
def test_a_child_that_is_just_going_is_no_figure(tmp_path: Path, stat: str | None) -> None:
    """Between a child's end and its time being its parent's there is no figure, never a wrong one.

    A name may have blanks and brackets in it.
    """
    me = f"{os.getpid()}"
    _write(tmp_path, {f"{me}/task/{me}/children": "77 "})
    if stat is not None:
        _write(tmp_path, {"77/stat": stat, "77/task/77/children": ""})
    assert own_time(tmp_path) is None
    _write(tmp_path, {"77/stat": "77 (a) b) S 1 1 1 0 -1 0 0 0 0 0 500 20 30 40 20"})
    _write(tmp_path, {"77/task/77/children": ""})
    own = own_time(tmp_path)
    without = time.process_time() + sum(os.times()[2:4])
    assert own is not None
    assert own.living == {77}
    of_the_child = (500 + 20 + 30 + 40) / os.sysconf("SC_CLK_TCK")
    assert own.seconds - without == pytest.approx(of_the_child, abs=0.1)


def test_a_child_waited_for_meanwhile_is_read_again(tmp_path: Path) -> None:
    """A child that was seen living, and is its parent's by the end, counts once.

    The list of children is a pipe, so that the child is waited for at that very moment.
    """
    me = f"{os.getpid()}"
    _write(tmp_path, {f"{me}/task/{me}/none": "", "77/task/77/children": ""})
    _write(tmp_path, {"77/stat": "77 (a) S 1 1 1 0 -1 0 0 0 0 0 5000 0 0 0 20"})
    children = tmp_path / me / "task" / me / "children"
    os.mkfifo(children)
    child = subprocess.Popen([sys.executable, "-c", WORK.format(seconds=0.1)])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def answer() -> None:
        with children.open("w") as pipe:
            child.wait()
            children.with_name("none").replace(children)
            pipe.write("77")

    threading.Thread(target=answer, daemon=True).start()
    before = time.process_time() + sum(os.times()[2:4])
    own = own_time(tmp_path)
    assert own is not None
    assert own.living == frozenset()
    assert own.seconds - before < 5000 / os.sysconf("SC_CLK_TCK")


def test_without_lists_of_children(tmp_path: Path) -> None:
    """Where the kernel does not list children by parent, all processes are read instead."""
    assert not has_children_files(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", WORK.format(seconds=0.2) + "input()"],
                             stdin=subprocess.PIPE)  # fmt: skip
    try:
        listed = own_time(tmp_path)
        assert listed is not None
        assert child.pid in listed.living
    finally:
        child.communicate(b"\n")


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
    """The fastest core that may be used, the package's heat, each counter once, mains."""
    _write(tmp_path, LAPTOP)
    sensors = Sensors((0, 1), tmp_path)
    assert sensors.mhz() == 4200.0
    assert sensors.temperature_c() == 71.0
    assert sensors.thermal_events() == 10 + 3 + 4
    assert sensors.on_battery() is False
    _write(tmp_path, {"sys/class/power_supply/AC/online": "0\n"})
    assert sensors.on_battery() is True


@pytest.mark.parametrize(
    ("files", "mhz", "temperature"),
    [(RASPBERRY_PI, 1500.0, 62.322), (AMD, None, 65.25)],
    ids=["Raspberry Pi", "AMD"],
)
def test_sensors_of_others(
    tmp_path: Path, files: dict[str, str], mhz: float | None, temperature: float
) -> None:
    """Machines name their sensors differently; what one lacks is None."""
    _write(tmp_path, files)
    sensors = Sensors((0,), tmp_path)
    assert sensors.mhz() == mhz
    assert sensors.temperature_c() == pytest.approx(temperature)
    assert sensors.thermal_events() is None


def test_a_battery_without_mains_says_itself(tmp_path: Path) -> None:
    """Where no mains are shown the battery's own state counts; a mouse's battery is none."""
    battery = "sys/class/power_supply/BAT1"
    _write(tmp_path, {f"{battery}/type": "Battery\n", f"{battery}/status": "Discharging\n"})
    assert Sensors((0,), tmp_path).on_battery() is True


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    """Nothing that can be read is nothing known, and no error."""
    sensors = Sensors((), tmp_path)
    assert sensors.mhz() is None
    assert sensors.temperature_c() is None
    assert sensors.thermal_events() is None


def test_sensors_that_go_away(tmp_path: Path) -> None:
    """A source that was there and is not any more is None from then on."""
    _write(tmp_path, LAPTOP)
    sensors = Sensors((0,), tmp_path)
    shutil.rmtree(tmp_path / "sys")
    assert sensors.mhz() is None
    assert sensors.temperature_c() is None
    assert sensors.thermal_events() is None


@contextmanager
def _watch(interval_s: float = 0.5) -> Iterator[Watch]:
    with Watch(time.monotonic, interval_s) as watch:
        yield watch


@contextmanager
def _stranger() -> Iterator[float]:
    """A busy process whose parent has ended: it is nobody's descendant here."""
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


def _sum(conditions: Conditions, value: Callable[[Sample], float | None]) -> float:
    """A rate over the time between samples."""
    samples = conditions.samples
    pairs = pairwise(samples)
    return sum((value(now) or 0.0) * (now.at_s - before.at_s) for before, now in pairs)


def _write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
