"""What a machine says of its heat, its frequency and its power, read anew for each sample.

Which files there are is found out once, so that a reading is cheap: reading all that a machine
has can take longer than a short query.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from w2v_edge.latency.sysfs import ROOT, is_battery, number, numbered, numbers, text

MOST_CORES = 16
"""Of how many cores the frequency is read, spread over those that may be used."""

CHIPS = {"coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal"}
"""Drivers of sensors in a processor, by the names that they give themselves."""

ZONES = {"x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal", "cpu0-thermal"}
"""Thermal zones of a processor, for machines that have no such driver."""

WHOLE = ("Package id", "Tctl", "Tdie")
"""Labels of sensors that stand for the whole processor: one of them is enough."""


class Sensors:
    """The sensors of one machine; what it does not have is None."""

    def __init__(self, cores: tuple[int, ...], root: Path = ROOT) -> None:
        self._root = root
        self._frequencies = _frequency_files(cores, root)
        self._temperatures = _temperature_files(root)
        self._throttles = _throttle_files(root)
        supplies = numbered(root / "sys/class/power_supply", "*")
        self._mains = [s / "online" for s in supplies if text(s / "type") in {"Mains", "USB"}]
        self._batteries = [s / "status" for s in supplies if is_battery(s)]

    def mhz(self) -> float | None:
        """Return the frequency of the fastest core.

        The "MHz" of /proc/cpuinfo is none: on a virtual machine it never changes.
        """
        return max((khz / 1e3 for khz in numbers(self._frequencies)), default=None)

    def temperature_c(self) -> float | None:
        """Return the hottest temperature of the processor."""
        return max((value / 1e3 for value in numbers(self._temperatures)), default=None)

    def thermal_events(self) -> int | None:
        """Return how often cores and packages have slowed down for heat since the start."""
        counts = numbers(self._throttles)
        return int(sum(counts)) if counts else None

    def on_battery(self) -> bool | None:
        """Tell whether no mains are plugged in; None where there is neither battery nor mains."""
        if not self._batteries:
            return False if numbers(self._mains) else _battery_by_psutil()
        online = numbers(self._mains)
        if online:
            return not any(online)
        return any(text(status) == "Discharging" for status in self._batteries)


def available_mb() -> float | None:
    """Return the memory that can be had without swapping, in 10^6 bytes."""
    try:
        return float(psutil.virtual_memory().available) / 1e6
    except (psutil.Error, OSError, RuntimeError):
        return None


def _frequency_files(cores: tuple[int, ...], root: Path) -> list[Path]:
    folder = root / "sys/devices/system/cpu"
    chosen = cores[:: -(-len(cores) // MOST_CORES) or 1]
    files = (folder / f"cpu{core}/cpufreq/scaling_cur_freq" for core in chosen)
    return [path for path in files if number(path) is not None]


def _temperature_files(root: Path) -> list[Path]:
    found: list[Path] = []
    for chip in numbered(root / "sys/class/hwmon", "hwmon*"):
        if text(chip / "name") in CHIPS:
            inputs = numbered(chip, "temp*_input")
            whole = [path for path in inputs if _label(path).startswith(WHOLE)]
            found += whole or inputs
    if found:
        return found
    zones = numbered(root / "sys/class/thermal", "thermal_zone*")
    return [zone / "temp" for zone in zones if text(zone / "type") in ZONES]


def _label(path: Path) -> str:
    return text(path.with_name(path.name.replace("_input", "_label")))


def _throttle_files(root: Path) -> list[Path]:
    """Each package and each core counts once, however many logical cores show its counter."""
    found: dict[tuple[str, ...], Path] = {}
    for cpu in numbered(root / "sys/devices/system/cpu", "cpu[0-9]*"):
        package = text(cpu / "topology/physical_package_id")
        core = text(cpu / "topology/core_id") or cpu.name
        counters = cpu / "thermal_throttle"
        found.setdefault(("package", package), counters / "package_throttle_count")
        found.setdefault(("core", package, core), counters / "core_throttle_count")
    return [path for path in found.values() if number(path) is not None]


def _battery_by_psutil() -> bool | None:
    """Systems without such files: macOS, Windows, FreeBSD."""
    try:
        battery = getattr(psutil, "sensors_battery", lambda: None)()
    except (psutil.Error, OSError, RuntimeError, NotImplementedError):
        return None
    plugged = None if battery is None else battery.power_plugged
    return None if plugged is None else not plugged
