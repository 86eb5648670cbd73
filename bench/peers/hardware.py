"""Description of the machine."""

from __future__ import annotations

import datetime as dt
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
PACKAGES = (
    "w2v-edge torch transformers onnx onnxscript onnxruntime openvino nncf ctranslate2 executorch "
    "numpy matplotlib".split()
)


@cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the CPU, as Linux names them; empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def describe() -> dict[str, Any]:
    """Describe hardware, system, versions and date."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "flags": [x for x in FLAGS if x in cpu_flags()],
        "memory_gb": round(total_memory() / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "load_before": load(),
    }


def versions() -> dict[str, str]:
    """Return the versions of all compared packages."""
    return {x: _version(x) for x in PACKAGES}


def load() -> list[float]:
    """Return load averages over 1, 5 and 15 minutes."""
    return [round(x, 2) for x in os.getloadavg()]


def total_memory() -> int:
    """Return the total memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """Return the available memory in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    return 0


def resident(field: str) -> float:
    """Return a figure of this process, `VmRSS` or its peak `VmHWM`, in MB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(field)) / 1024


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith(field)), "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
