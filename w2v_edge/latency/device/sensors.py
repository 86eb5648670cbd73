"""Sensors of the machine: frequency, temperature, battery, throttling, and CPU time.

psutil reads what it can. Files are read directly where psutil does not offer the value or where
reading it would disturb the benchmark, as noted below.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from w2v_edge.providers.machine import ROOT, batteries, read_number, read_text

MAX_CORES = 16
"""Number of cores whose frequency is read, spread over the usable ones."""

CHIPS = {"coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal"}
"""Sensor drivers of processors."""

ZONES = {"x86_pkg_temp", "soc-thermal", "cpu0-thermal"}
"""Thermal zones of processors, on machines without such a driver."""

PACKAGE_LABELS = ("Package id", "Tctl", "Tdie")
"""Labels of sensors for the whole processor: one of them is enough."""

ATTEMPTS = 4
"""Readings of CPU time before giving up; a process rarely ends during two in a row."""


class Sensors:
    """Sensors of one machine; a reading is None if the machine lacks the sensor.

    Args:
        cores: numbers of the cores whose frequency is read.
        root: root of the file system; tests pass the files of another machine.
    """

    def __init__(self, cores: tuple[int, ...], root: Path = ROOT) -> None:
        chosen = cores[:: -(-len(cores) // MAX_CORES) or 1]
        folder = root / "sys/devices/system/cpu"
        # psutil.cpu_freq reads /proc/cpuinfo too, which interrupts every core of a large machine.
        self._frequencies = _readable(
            folder / f"cpu{core}/cpufreq/scaling_cur_freq" for core in chosen
        )
        self._throttles = _throttle_files(folder)
        self._batteries = batteries(root)

    def mhz(self) -> float | None:
        """Return the frequency of the fastest core in MHz.

        The "MHz" of /proc/cpuinfo is not used: on a virtual machine it never changes.
        """
        return max((khz / 1e3 for khz in _numbers(self._frequencies)), default=None)

    def temperature_c(self) -> float | None:
        """Return the temperature of the processor's hottest sensor in degrees Celsius."""
        try:
            found = psutil.sensors_temperatures()
        except (AttributeError, psutil.Error, OSError, RuntimeError, ValueError):
            return None
        by_chip = [sensors for name, sensors in found.items() if name in CHIPS]
        by_chip = by_chip or [sensors for name, sensors in found.items() if name in ZONES]
        values = []
        for sensors in by_chip:
            package = [x for x in sensors if x.label.startswith(PACKAGE_LABELS)]
            values += [float(x.current) for x in package or sensors]
        return max(values, default=None)

    def thermal_events(self) -> int | None:
        """Return the number of thermal throttling events since boot."""
        counts = _numbers(self._throttles)
        return int(sum(counts)) if counts else None

    def on_battery(self) -> bool | None:
        """Return whether the machine runs on its battery; None if it has none."""
        if self._batteries:
            return any(
                read_text(battery / "status") == "Discharging" for battery in self._batteries
            )
        if platform.system() == "Linux":
            return None  # psutil would take the battery of a mouse for the machine's.
        try:
            battery = psutil.sensors_battery()
        except (AttributeError, psutil.Error, OSError, RuntimeError, NotImplementedError):
            return None
        plugged = None if battery is None else battery.power_plugged
        return None if plugged is None else not plugged


def available_mb() -> float | None:
    """Return the memory available without swapping, in 10^6 bytes."""
    try:
        return float(psutil.virtual_memory().available) / 1e6
    except (psutil.Error, OSError, RuntimeError):
        return None


def _readable(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if read_number(path) is not None]


def _numbers(paths: Iterable[Path]) -> list[float]:
    return [value for value in map(read_number, paths) if value is not None]


def _throttle_files(folder: Path) -> list[Path]:
    """Return one counter per package and per core: several logical cores show the same one."""
    found: dict[tuple[str, ...], Path] = {}
    for cpu in sorted(folder.glob("cpu[0-9]*")):
        package = read_text(cpu / "topology/physical_package_id")
        core = read_text(cpu / "topology/core_id") or cpu.name
        counters = cpu / "thermal_throttle"
        found.setdefault(("package", package), counters / "package_throttle_count")
        found.setdefault(("core", package, core), counters / "core_throttle_count")
    return _readable(found.values())


@dataclass(frozen=True)
class MachineTime:
    """CPU time of cores since boot, in seconds, summed over cores.

    Attributes:
        busy: executing, without steal.
        steal: waiting for the hypervisor.
        total: all, including idle time.
    """

    busy: float
    steal: float
    total: float


@dataclass(frozen=True)
class OwnTime:
    """CPU time of this process and all its descendants, living and ended.

    Attributes:
        seconds: total.
        living: process ids of the living descendants.
    """

    seconds: float
    living: frozenset[int]


def machine_time(cores: tuple[int, ...]) -> MachineTime | None:
    """Return the CPU time of the cores with these numbers; of all cores for an empty tuple."""
    try:
        times = psutil.cpu_times(percpu=True)
    except (psutil.Error, OSError, RuntimeError):
        return None
    chosen = [times[core] for core in cores if core < len(times)] or times
    # Guest time is included in user and nice; on Windows interrupts are included in system.
    fields = "user nice system idle iowait irq softirq steal".split()
    spent = {field: sum(getattr(each, field, 0.0) for each in chosen) for field in fields}
    total = sum(spent.values())
    busy = total - spent["idle"] - spent["iowait"] - spent["steal"]
    return MachineTime(busy, spent["steal"], total)


def own_time() -> OwnTime | None:
    """Return the CPU time of this process and its descendants; None if it cannot be read.

    When a process is waited for, its time moves to its parent: a reading at that moment would
    count it twice or not at all. Such a reading is repeated.
    """
    for _ in range(ATTEMPTS):
        before = os.times()
        try:
            # Parents come before their children, so that a time which moves up meanwhile raises
            # an error (the child is gone) and is not counted twice.
            children = psutil.Process().children(recursive=True)
            living = {child.pid: float(sum(child.cpu_times()[:4])) for child in children}
        except (psutil.Error, OSError):
            continue
        after = os.times()
        ended = after.children_user + after.children_system
        if ended == before.children_user + before.children_system:
            seconds = time.process_time() + ended + sum(living.values())
            return OwnTime(seconds, frozenset(living))
    return None
