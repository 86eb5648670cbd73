"""What this process takes of memory."""

from __future__ import annotations

import platform
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_mb() -> float | None:
    """Return what is resident now, in 10^6 bytes; None where the system does not say."""
    return _of_status("VmRSS") or _of_psutil("rss")


def peak_mb() -> float | None:
    """Return the most that was ever resident, in 10^6 bytes; None where nobody says."""
    return _of_status("VmHWM") or _of_psutil("peak_wset") or _of_rusage()


def _of_status(field: str) -> float | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith(f"{field}:")]
    return round(int(found[0][1]) * 1024 / 1e6, 3) if found else None


def _of_psutil(field: str) -> float | None:
    try:
        import psutil
    except ImportError:
        return None
    size = getattr(psutil.Process().memory_info(), field, None)
    return None if size is None else round(size / 1e6, 3)


def _of_rusage() -> float | None:
    # On Linux it may be that of the process that started this one.
    if platform.system() == "Linux":
        return None
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(round(most * (1 if platform.system() == "Darwin" else 1024) / 1e6, 3))
