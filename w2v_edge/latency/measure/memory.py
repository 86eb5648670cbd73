"""Memory of this process, and the bytes that it has read, as the system counts them."""

from __future__ import annotations

import platform
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
IO = Path("/proc/self/io")

RESET_PEAK = "5"
"""Written to `clear_refs`, it makes the current resident memory the peak (proc(5))."""


class StagePeaks:
    """Peak resident memory of consecutive stages of this process.

    Attributes:
        mb: peak by stage, in 10^6 bytes; empty if the system does not report it.
        reset: whether the peak was reset before each stage; otherwise a stage's peak is that of
            the process so far.
    """

    def __init__(self, first: str) -> None:
        """Begin with a stage that began with the process."""
        self.mb: dict[str, float] = {}
        self.reset = True
        self._stage = first

    def begin(self, stage: str) -> None:
        """End the current stage, and begin the next one."""
        self.end()
        self._stage = stage
        try:
            RESET.write_text(RESET_PEAK)
        except OSError:
            self.reset = False

    def end(self) -> None:
        """End the current stage."""
        peak = peak_mb()
        if peak is not None:
            self.mb[self._stage] = peak


def resident_mb() -> float | None:
    """Return the resident memory of this process in 10^6 bytes; None if it is not reported."""
    return _from_status("VmRSS") or _from_psutil("rss")


def peak_mb() -> float | None:
    """Return the peak resident memory of this process in 10^6 bytes; None if not reported."""
    return _from_status("VmHWM") or _from_psutil("peak_wset") or _from_rusage()


def bytes_read() -> tuple[int | None, int | None]:
    """Return the bytes read by system calls, and those that came from storage; None if unknown."""
    try:
        lines = dict(line.split(": ") for line in IO.read_text().splitlines())
    except (OSError, ValueError):
        return None, None
    read, stored = (lines.get(name, "") for name in ("rchar", "read_bytes"))
    return (int(read) if read.isdigit() else None), (int(stored) if stored.isdigit() else None)


def _from_status(field: str) -> float | None:
    """Read /proc: importing psutil would change the figure, and it has no peak on Linux."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith(f"{field}:")]
    return round(int(found[0][1]) * 1024 / 1e6, 3) if found else None


def _from_psutil(field: str) -> float | None:
    try:
        import psutil
    except ImportError:
        return None
    size = getattr(psutil.Process().memory_info(), field, None)
    return None if size is None else round(size / 1e6, 3)


def _from_rusage() -> float | None:
    # On Linux this may be the peak of the parent process, before exec.
    if platform.system() == "Linux":
        return None
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(round(peak * (1 if platform.system() == "Darwin" else 1024) / 1e6, 3))
