"""Energy counters of the machine; each covers more than this process.

Used in measured processes, without psutil: it has no energy counter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from w2v_edge.latency.device import nvidia
from w2v_edge.providers.machine import ROOT, batteries, read_number, read_text

HOUR_S = 3600.0


class Counter(Protocol):
    """Counts energy from when it was opened.

    Attributes:
        source: name of the counter, which tells what it covers.
    """

    source: str

    def joules(self) -> float:
        """Return the energy so far, in joules."""


def open_counter(
    provider: str = "cpu", options: Mapping[str, str] | None = None, root: Path = ROOT
) -> Counter | None:
    """Return the best available counter: processor and GPU, or else battery.

    Args:
        provider: execution provider; for `cuda` and `tensorrt`, the GPU is counted.
        options: provider options; `device_id` selects the GPU.
        root: root of the file system; tests pass the files of another machine.
    """
    parts: list[Counter] = []
    packages = _package_folders(root)
    if packages:
        parts.append(Rapl(packages))
    if provider in nvidia.PROVIDERS:
        gpu = nvidia.gpu_of(options or {})
        if gpu is not None and nvidia.energy_j(gpu[1]) is not None:
            parts.append(GpuEnergy(gpu[1], gpu[0]))
    return SummedCounters(parts) if parts else _battery(root)


class Rapl:
    """The processor's counters (RAPL), one per package; they wrap around about every hour."""

    def __init__(self, folders: list[Path]) -> None:
        names = [read_text(folder / "name").removeprefix("package-") for folder in folders]
        self.source = f"RAPL {'package' if len(names) == 1 else 'packages'} {', '.join(names)}"
        self._folders = {folder: _energy(folder) for folder in folders}
        self._joules = 0.0

    def joules(self) -> float:
        """Return the energy of all packages so far, in joules."""
        for folder, before in self._folders.items():
            now = _energy(folder)
            if now is None or before is None:
                continue
            wrap = read_number(folder / "max_energy_range_uj") or 0.0
            self._joules += max(0.0, now - before if now >= before else now - before + wrap) / 1e6
            self._folders[folder] = now
        return self._joules


class GpuEnergy:
    """A GPU including its memory."""

    def __init__(self, handle: Any, index: int) -> None:
        self.source = f"NVML GPU {index}"
        self._handle = handle
        self._zero = nvidia.energy_j(handle) or 0.0
        self._joules = 0.0

    def joules(self) -> float:
        """Return the energy of the GPU so far, in joules."""
        now = nvidia.energy_j(self._handle)
        self._joules = self._joules if now is None else now - self._zero
        return self._joules


class BatteryCharge:
    """The energy a battery has lost; it updates every few seconds at most."""

    source = "battery, whole machine"

    def __init__(self, left: Callable[[], float | None]) -> None:
        self._left = left
        self._zero = left() or 0.0
        self._joules = 0.0

    def joules(self) -> float:
        """Return the energy of the whole machine so far, in joules."""
        left = self._left()
        self._joules = self._joules if left is None else max(0.0, self._zero - left)
        return self._joules


class BatteryPower:
    """A battery that reports power only: the mean of two readings times the time between them."""

    source = "battery's power, whole machine"

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._at, self._watts = clock(), self._power() or 0.0
        self._joules = 0.0

    def joules(self) -> float:
        """Return the energy of the whole machine so far, in joules."""
        now, power = self._clock(), self._power()
        watts = self._watts if power is None else power
        self._joules += (now - self._at) * (watts + self._watts) / 2
        self._at, self._watts = now, watts
        return self._joules

    def _power(self) -> float | None:
        microwatts = read_number(self._file)
        # Some drivers report discharge as negative.
        return None if microwatts is None else abs(microwatts) / 1e6


class SummedCounters:
    """The sum of counters of different components."""

    def __init__(self, parts: list[Counter]) -> None:
        self.source = " + ".join(part.source for part in parts)
        self._parts = parts

    def joules(self) -> float:
        """Return the energy of all components so far, in joules."""
        return sum(part.joules() for part in self._parts)


def _package_folders(root: Path) -> list[Path]:
    """Return the zones of packages, if all of them are readable; otherwise none.

    Zones within a package, and the platform's zone `psys`, would count twice. Since 2020, reading
    requires root.
    """
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    packages = [zone for zone in zones if read_text(zone / "name").startswith("package")]
    return packages if all(_energy(zone) is not None for zone in packages) else []


def _energy(zone: Path) -> float | None:
    return read_number(zone / "energy_uj")


def _battery(root: Path) -> Counter | None:
    """Return the counter of a discharging battery; None on mains power."""
    for battery in batteries(root):
        if read_text(battery / "status") != "Discharging":
            continue
        for left in (_by_energy(battery), _by_charge(battery)):
            if left() is not None:
                return BatteryCharge(left)
        if read_number(battery / "power_now") is not None:
            return BatteryPower(battery / "power_now")
    return None


def _by_energy(battery: Path) -> Callable[[], float | None]:
    def left() -> float | None:
        microwatt_hours = read_number(battery / "energy_now")
        return None if microwatt_hours is None else microwatt_hours / 1e6 * HOUR_S

    return left


def _by_charge(battery: Path) -> Callable[[], float | None]:
    # Voltage drops under load: with a new reading each time, the drop would count as charge.
    volts = read_number(battery / "voltage_now")

    def left() -> float | None:
        microampere_hours = read_number(battery / "charge_now")
        if microampere_hours is None or volts is None:
            return None
        return microampere_hours / 1e6 * volts / 1e6 * HOUR_S

    return left
