"""NVIDIA GPUs, by the management library NVML (`pynvml`, installed by the extra `gpu`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from w2v_edge.latency.report.machine_records import Gpu

PROVIDERS = {"cuda", "tensorrt"}
"""Execution providers that run on an NVIDIA GPU; their option `device_id` selects it."""


@cache
def management_library() -> Any | None:
    """Return the initialized module `pynvml`; None without it or without a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def query(function: str, *arguments: Any) -> Any | None:
    """Return the result of a function of the library; None if it is not available."""
    library = management_library()
    if library is None:
        return None
    try:
        return getattr(library, function)(*arguments)
    except (AttributeError, library.NVMLError):
        return None


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of the machine; empty without the library."""
    driver = _text(query("nvmlSystemGetDriverVersion"))
    found = []
    for handle in _handles():
        memory = query("nvmlDeviceGetMemoryInfo", handle)
        size = None if memory is None else float(memory.total) / 1e6
        found.append(Gpu(_text(query("nvmlDeviceGetName", handle)), driver, size))
    return tuple(found)


def gpu_of(
    options: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> tuple[int, Any] | None:
    """Return the NVML index and handle of the GPU that a provider's `device_id` selects.

    CUDA counts the devices listed in CUDA_VISIBLE_DEVICES; NVML counts all of them, by PCI bus.

    Args:
        options: provider options; without `device_id`, the first visible device is selected.
        environment: environment variables; default: those of this process.

    Returns:
        None if there is no such GPU, or if it cannot be identified: a MIG instance, or GPUs of
        different models that CUDA does not order by bus (CUDA_DEVICE_ORDER=PCI_BUS_ID).
    """
    environment = os.environ if environment is None else environment
    handles = _handles()
    order = environment.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    models = {_text(query("nvmlDeviceGetName", handle)) for handle in handles}
    by_number = len(models) <= 1 or order == "PCI_BUS_ID"
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    names = list(map(str, range(len(handles)))) if visible is None else visible.split(",")
    try:
        name = names[_device_id(options)].strip()
    except (ValueError, IndexError):
        return None
    for index, handle in enumerate(handles):
        uuid = _text(query("nvmlDeviceGetUUID", handle))
        # CUDA accepts unambiguous prefixes of a UUID.
        if (by_number and name == str(index)) or (
            name.startswith("GPU-") and uuid.startswith(name)
        ):
            return index, handle
    return None


def clock_mhz(handle: Any) -> float | None:
    """Return the frequency of a GPU's multiprocessors in MHz."""
    return _float(query("nvmlDeviceGetClockInfo", handle, 1))  # NVML_CLOCK_SM


def temperature_c(handle: Any) -> float | None:
    """Return a GPU's temperature in degrees Celsius."""
    return _float(query("nvmlDeviceGetTemperature", handle, 0))  # NVML_TEMPERATURE_GPU


def utilization(handle: Any) -> float | None:
    """Return the fraction of the last moments, up to a second, in which a GPU was busy."""
    rates = query("nvmlDeviceGetUtilizationRates", handle)
    return None if rates is None else float(rates.gpu) / 100


def energy_j(handle: Any) -> float | None:
    """Return the energy a GPU has used since its driver was loaded, in joules."""
    millijoules = _float(query("nvmlDeviceGetTotalEnergyConsumption", handle))
    return None if millijoules is None else millijoules / 1e3


def _handles() -> list[Any]:
    count = query("nvmlDeviceGetCount") or 0
    each = (query("nvmlDeviceGetHandleByIndex", index) for index in range(int(count)))
    return [handle for handle in each if handle is not None]


def _device_id(options: Mapping[str, str]) -> int:
    number = int(options.get("device_id", "0"))
    if number < 0:
        raise ValueError(number)
    return number


def _text(value: object) -> str:
    """Decode bytes, which older releases of the library return."""
    if value is None:
        return "unknown"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
