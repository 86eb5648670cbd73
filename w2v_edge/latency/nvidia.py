"""NVIDIA's GPUs, by its management library where `pynvml` is installed, else by `nvidia-smi`."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import Any

from w2v_edge.latency.device import Gpu

MIB = 2**20
NVIDIA_SMI_S = 10.0
"""A driver that hangs must not hang the benchmark; a first call loads the driver, some seconds."""


@cache
def management_library() -> Any | None:
    """Return the module `pynvml`, ready for use; None without it, or without a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def gpus() -> tuple[Gpu, ...]:
    """Return the machine's GPUs, none where nothing says of any."""
    library = management_library()
    return by_command() if library is None else _by_library()


def handles() -> list[Any]:
    """Return the library's handle of each GPU."""
    library = management_library()
    if library is None:
        return []
    count = ask("nvmlDeviceGetCount") or 0
    each = (ask("nvmlDeviceGetHandleByIndex", index) for index in range(int(count)))
    return [handle for handle in each if handle is not None]


def ask(function: str, *arguments: Any) -> Any | None:
    """Return what a function of the library says, None where it does not say."""
    library = management_library()
    if library is None:
        return None
    try:
        return getattr(library, function)(*arguments)
    except (AttributeError, library.NVMLError):
        return None


def clock_mhz(handle: Any) -> float | None:
    """Return the frequency of a GPU's multiprocessors in MHz."""
    return _float(ask("nvmlDeviceGetClockInfo", handle, 1))  # NVML_CLOCK_SM


def temperature_c(handle: Any) -> float | None:
    """Return a GPU's temperature in degrees Celsius."""
    return _float(ask("nvmlDeviceGetTemperature", handle, 0))  # NVML_TEMPERATURE_GPU


def busy(handle: Any) -> float | None:
    """Return the share of the last moments, up to a second, in which a GPU worked."""
    rates = ask("nvmlDeviceGetUtilizationRates", handle)
    return None if rates is None else float(rates.gpu) / 100


def energy_j(handle: Any) -> float | None:
    """Return the joules a GPU took since its driver was loaded."""
    millijoules = _float(ask("nvmlDeviceGetTotalEnergyConsumption", handle))
    return None if millijoules is None else millijoules / 1e3


def by_command(command: str = "nvidia-smi") -> tuple[Gpu, ...]:
    """Return the GPUs that `nvidia-smi` lists, none where it is not there or does not work."""
    path = shutil.which(command)
    if path is None:
        return ()
    fields = "--query-gpu=name,driver_version,memory.total"
    try:
        done = subprocess.run(  # noqa: S603
            [path, fields, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NVIDIA_SMI_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines()]
    if done.returncode:
        return ()
    return tuple(Gpu(row[0], row[1], _mebibytes(row[2])) for row in rows if len(row) == len("ndm"))


def _by_library() -> tuple[Gpu, ...]:
    driver = _name(ask("nvmlSystemGetDriverVersion"))
    found = []
    for handle in handles():
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
        size = None if memory is None else float(memory.total) / 1e6
        found.append(Gpu(_name(ask("nvmlDeviceGetName", handle)), driver, size))
    return tuple(found)


def _name(value: object) -> str:
    """Older releases of the library say bytes."""
    if value is None:
        return "unknown"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _mebibytes(field: str) -> float | None:
    try:
        return float(field) * MIB / 1e6
    except ValueError:
        return None
