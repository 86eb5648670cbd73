"""Counters of energy: over the files that machines have."""

from __future__ import annotations

from pathlib import Path

import pytest

from w2v_edge.latency.device import nvidia
from w2v_edge.latency.measure.energy import BatteryPower, open_counter

RANGE = 262_143_328_850

# An Intel laptop: a package with its zones, the platform, and a package's second face.
LAPTOP = {
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": f"{RANGE}\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "4000000\n",
    "sys/class/powercap/intel-rapl:1/name": "psys\n",
    "sys/class/powercap/intel-rapl:1/energy_uj": "9000000\n",
    "sys/class/powercap/intel-rapl-mmio:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl-mmio:0/energy_uj": "5000000\n",
}

SECOND_PACKAGE = {
    "sys/class/powercap/intel-rapl:1/name": "package-1\n",
    "sys/class/powercap/intel-rapl:1/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:1/max_energy_range_uj": f"{RANGE}\n",
}

BATTERY = {
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/status": "Discharging\n",
}


def test_packages_alone_count(tmp_path: Path) -> None:
    """Zones within a package, the platform's, and a package's second interface are left out."""
    _write(tmp_path, LAPTOP)
    counter = open_counter(root=tmp_path)
    assert counter is not None
    _write(tmp_path, {path: "7500000\n" for path in LAPTOP if path.endswith("energy_uj")})
    assert counter.joules() == pytest.approx(2.5)
    assert counter.source == "RAPL package 0"


def test_packages_are_summed(tmp_path: Path) -> None:
    """The energy of all processor packages is summed."""
    _write(tmp_path, LAPTOP | SECOND_PACKAGE)
    counter = open_counter(root=tmp_path)
    assert counter is not None
    _write(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": "6000000"})
    _write(tmp_path, {"sys/class/powercap/intel-rapl:1/energy_uj": "4000000"})
    assert counter.joules() == pytest.approx(4.0)
    assert counter.source == "RAPL packages 0, 1"


def test_a_wrap_around_is_no_loss(tmp_path: Path) -> None:
    """A counter that wraps around continues, however often."""
    energy = "sys/class/powercap/intel-rapl:0/energy_uj"
    _write(tmp_path, LAPTOP | {energy: f"{RANGE - 1_000_000}"})
    counter = open_counter(root=tmp_path)
    assert counter is not None
    _write(tmp_path, {energy: "2000000"})
    assert counter.joules() == pytest.approx(3.0)
    _write(tmp_path, {energy: f"{RANGE - 1_000_000}"})
    counter.joules()
    _write(tmp_path, {energy: "500000"})
    assert counter.joules() == pytest.approx(3.0 + (RANGE - 3_000_000) / 1e6 + 1.5)


@pytest.mark.parametrize("unreadable", [{}, {"sys/class/powercap/intel-rapl:1/energy_uj": ""}])
def test_unreadable_counters_are_not_used(tmp_path: Path, unreadable: dict[str, str]) -> None:
    """Without counters, or if one cannot be read, there is no counter."""
    _write(tmp_path, (LAPTOP | SECOND_PACKAGE | unreadable) if unreadable else {})
    assert open_counter(root=tmp_path) is None
    assert open_counter("cuda", {"device_id": "99"}, tmp_path) is None


@pytest.mark.parametrize(
    ("before", "after", "joules"),
    [
        ({"energy_now": "50000000"}, {"energy_now": "49990000"}, 36.0),
        (
            {"charge_now": "4000000", "voltage_now": "12000000"},
            {"charge_now": "3999000", "voltage_now": "11900000"},
            43.2,
        ),
        ({"energy_now": "50000000"}, {"energy_now": "50000000"}, 0.0),
    ],
    ids=["energy", "charge", "not yet said anew"],
)
def test_a_battery_that_is_emptied_counts(
    tmp_path: Path, before: dict[str, str], after: dict[str, str], joules: float
) -> None:
    """A battery counts its discharge in joules, for the whole machine."""
    folder = "sys/class/power_supply/BAT0/"
    _write(tmp_path, BATTERY | {folder + name: value for name, value in before.items()})
    counter = open_counter(root=tmp_path)
    assert counter is not None
    _write(tmp_path, {folder + name: value for name, value in after.items()})
    assert counter.joules() == pytest.approx(joules)
    assert counter.source == "battery, whole machine"


def test_power_is_summed_over_time(tmp_path: Path) -> None:
    """A battery that reports power only is integrated over time."""
    power = tmp_path / "power_now"
    times = iter([100.0, 110.0])
    power.write_text("10000000\n")
    counter = BatteryPower(power, lambda: next(times))
    power.write_text("-20000000\n")
    assert counter.joules() == pytest.approx(150.0)


def test_a_charger_makes_a_battery_useless(tmp_path: Path) -> None:
    """A battery that is not emptied counts nothing, nor does that of a mouse."""
    energy = {"sys/class/power_supply/BAT0/energy_now": "50000000"}
    charging = {"sys/class/power_supply/BAT0/status": "Charging\n"}
    mouse = {"sys/class/power_supply/BAT0/scope": "Device\n"}
    _write(tmp_path / "charged", BATTERY | energy | charging)
    _write(tmp_path / "mouse", BATTERY | energy | mouse)
    assert open_counter(root=tmp_path / "charged") is None
    assert open_counter(root=tmp_path / "mouse") is None


class FakeNvml:
    """Two GPUs of one model; the second one has used 5 J before."""

    NVMLError = RuntimeError

    def __init__(self, models: tuple[str, str] = ("T4", "T4")) -> None:
        self.models = models
        self.millijoules = [1000, 5000]

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's names
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.models[handle]

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:  # noqa: N802
        return f"GPU-{'ab'[handle]}123".encode()

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        return self.millijoules[handle]


@pytest.mark.parametrize(
    ("options", "visible", "index"),
    [
        ({}, None, 0),
        ({"device_id": "1"}, None, 1),
        ({"device_id": "0"}, "1", 1),
        ({"device_id": "1"}, "1,0", 0),
        ({}, "GPU-b12", 1),
        ({"device_id": "1"}, "1", None),
        ({"device_id": "2"}, None, None),
        ({"device_id": "-1"}, None, None),
        ({"device_id": "first"}, None, None),
        ({}, "MIG-GPU-b123/1/0", None),
        ({}, "", None),
    ],
)
def test_the_selected_gpu_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    visible: str | None,
    index: int | None,
) -> None:
    """`device_id` selects among the devices that CUDA sees; an unknown device counts nothing."""
    library = FakeNvml()
    monkeypatch.setattr(nvidia, "management_library", lambda: library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    counter = open_counter("cuda", options, tmp_path)
    if index is None:
        assert counter is None
        return
    assert counter is not None
    assert counter.source == f"NVML GPU {index}"
    library.millijoules = [x + 2000 * (i + 1) for i, x in enumerate(library.millijoules)]
    assert counter.joules() == pytest.approx(2 * (index + 1))


def test_gpus_of_different_models_need_a_known_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default CUDA orders GPUs by speed, NVML by bus: only a stated order maps the numbers."""
    library = FakeNvml(("T4", "H100"))
    monkeypatch.setattr(nvidia, "management_library", lambda: library)
    options = {"device_id": "1"}
    assert nvidia.gpu_of(options, {}) is None
    assert nvidia.gpu_of(options, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (1, 1)
    assert nvidia.gpu_of(options, {"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"}) == (0, 0)


def test_this_machine() -> None:
    """On any machine, opening is no error and counters never decrease."""
    counter = open_counter("cuda")
    if counter is not None:
        assert 0.0 <= counter.joules() <= counter.joules()


def _write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
