"""Joules, by the counters that a machine has; each covers more than the process that asks.

Used within a measured process: the standard library, and `pynvml` where it is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from w2v_edge.latency import nvidia
from w2v_edge.latency.sysfs import ROOT, is_battery, number, numbered, text

GPU_PROVIDERS = {"cuda", "tensorrt"}

HOUR_S = 3600.0


class Counter(Protocol):
    """Counts joules from when it was opened.

    Attributes:
        source: what counts, and so what is covered.
    """

    source: str

    def joules(self) -> float:
        """Return the joules so far."""


def open_counter(provider: str = "cpu", gpu: int = 0, root: Path = ROOT) -> Counter | None:
    """Return the best counter there is: of the processor and the GPU, else of the battery.

    Args:
        provider: execution provider; the GPU counts for `cuda` and `tensorrt`.
        gpu: number of the GPU.
        root: folder of the machine's files.
    """
    parts: list[Counter] = []
    packages = _package_files(root)
    if packages:
        parts.append(Rapl(packages))
    if provider in GPU_PROVIDERS:
        handle = dict(enumerate(nvidia.handles())).get(gpu)
        if handle is not None and nvidia.energy_j(handle) is not None:
            parts.append(GpuEnergy(handle, gpu))
    return Both(parts) if parts else _battery(root)


class Rapl:
    """The processor's own counters, one a package; they wrap around every hour or so."""

    def __init__(self, folders: list[Path]) -> None:
        names = [text(folder / "name").removeprefix("package-") for folder in folders]
        self.source = f"RAPL {'package' if len(names) == 1 else 'packages'} {', '.join(names)}"
        self._folders = {folder: _energy(folder) for folder in folders}
        self._joules = 0.0

    def joules(self) -> float:
        """Return the joules of all packages so far."""
        for folder, before in self._folders.items():
            now = _energy(folder)
            if now is None or before is None:
                continue
            wrap = number(folder / "max_energy_range_uj") or 0.0
            self._joules += max(0.0, now - before if now >= before else now - before + wrap) / 1e6
            self._folders[folder] = now
        return self._joules


class GpuEnergy:
    """A GPU with its memory."""

    def __init__(self, handle: Any, index: int) -> None:
        self.source = f"NVML GPU {index}"
        self._handle = handle
        self._zero = nvidia.energy_j(handle) or 0.0
        self._joules = 0.0

    def joules(self) -> float:
        """Return the joules of the GPU so far."""
        now = nvidia.energy_j(self._handle)
        self._joules = self._joules if now is None else now - self._zero
        return self._joules


class BatteryCharge:
    """What a battery has lost; it says so anew every few seconds at most."""

    source = "battery, whole machine"

    def __init__(self, left: Callable[[], float | None]) -> None:
        self._left = left
        self._zero = left() or 0.0
        self._joules = 0.0

    def joules(self) -> float:
        """Return the joules of the whole machine so far."""
        left = self._left()
        self._joules = self._joules if left is None else max(0.0, self._zero - left)
        return self._joules


class BatteryPower:
    """A battery that says its power alone: the mean of two readings, by the time between them."""

    source = "battery's power, whole machine"

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._at, self._watts = clock(), self._power() or 0.0
        self._joules = 0.0

    def joules(self) -> float:
        """Return the joules of the whole machine so far."""
        now, power = self._clock(), self._power()
        watts = self._watts if power is None else power
        self._joules += (now - self._at) * (watts + self._watts) / 2
        self._at, self._watts = now, watts
        return self._joules

    def _power(self) -> float | None:
        microwatts = number(self._file)
        # Some drivers show what flows out as negative.
        return None if microwatts is None else abs(microwatts) / 1e6


class Both:
    """Several counters of different parts."""

    def __init__(self, parts: list[Counter]) -> None:
        self.source = " + ".join(part.source for part in parts)
        self._parts = parts

    def joules(self) -> float:
        """Return the joules of all parts so far."""
        return sum(part.joules() for part in self._parts)


def _package_files(root: Path) -> list[Path]:
    """Return the zones of whole packages that may be read: all of them, or none.

    Zones within them would count twice, as would that of the platform, `psys`. Reading takes the
    rights of root since 2020.
    """
    zones = numbered(root / "sys/class/powercap", "intel-rapl:*")
    packages = [zone for zone in zones if text(zone / "name").startswith("package")]
    return packages if all(_energy(zone) is not None for zone in packages) else []


def _energy(zone: Path) -> float | None:
    return number(zone / "energy_uj")


def _battery(root: Path) -> Counter | None:
    """Return the counter of the battery that is being emptied; none where mains do the work."""
    supplies = numbered(root / "sys/class/power_supply", "*")
    used = [s for s in supplies if is_battery(s) and text(s / "status") == "Discharging"]
    for battery in used:
        for left in (_by_energy(battery), _by_charge(battery)):
            if left() is not None:
                return BatteryCharge(left)
        if number(battery / "power_now") is not None:
            return BatteryPower(battery / "power_now")
    return None


def _by_energy(battery: Path) -> Callable[[], float | None]:
    def left() -> float | None:
        microwatt_hours = number(battery / "energy_now")
        return None if microwatt_hours is None else microwatt_hours / 1e6 * HOUR_S

    return left


def _by_charge(battery: Path) -> Callable[[], float | None]:
    # Voltage falls while it works: with that of each reading, a fall would count as charge.
    volts = number(battery / "voltage_now")

    def left() -> float | None:
        microampere_hours = number(battery / "charge_now")
        if microampere_hours is None or volts is None:
            return None
        return microampere_hours / 1e6 * volts / 1e6 * HOUR_S

    return left
