"""How long the machine's cores were busy, and how much of that was this benchmark's own doing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")

ATTEMPTS = 4
"""A process ends while it is looked at once in a great while, and not four times in a row."""

BEFORE_COMM = 2
"""Fields of /proc/<pid>/stat up to the name, which may have blanks and brackets in it."""


@dataclass(frozen=True)
class MachineTime:
    """Seconds that cores spent since the machine's start, summed over cores.

    Attributes:
        busy: with anything, without what the host took away.
        steal: waiting for the host.
        total: with all, idle time too.
    """

    busy: float
    steal: float
    total: float


@dataclass(frozen=True)
class OwnTime:
    """CPU time of this process and of all its descendants, living and ended.

    Attributes:
        seconds: in all.
        living: numbers of the living descendants.
    """

    seconds: float
    living: frozenset[int]


def machine_time(cores: tuple[int, ...]) -> MachineTime | None:
    """Return the time of the cores with these numbers, of all cores for none."""
    try:
        times = psutil.cpu_times(percpu=True)
    except (psutil.Error, OSError, RuntimeError):
        return None
    chosen = [times[core] for core in cores if core < len(times)] or times
    # Time of guests is within user and nice; interrupts on Windows are within system.
    fields = "user nice system idle iowait irq softirq steal".split()
    spent = {field: sum(getattr(each, field, 0.0) for each in chosen) for field in fields}
    total = sum(spent.values())
    busy = total - spent["idle"] - spent["iowait"] - spent["steal"]
    return MachineTime(busy, spent["steal"], total)


def own_time(proc: Path = PROC) -> OwnTime | None:
    """Return the CPU time of this process and its descendants, None where it cannot be had.

    When a process is waited for, its time goes over to its parent: a reading around that moment
    would count it twice, or not at all. So it is looked whether the parent's part stayed the same
    meanwhile, and read again where it did not.
    """
    for _ in range(ATTEMPTS):
        before = os.times()
        try:
            living = _by_proc(proc, os.getpid()) if has_children_files(proc) else _by_psutil()
        except (_MovedError, psutil.Error, OSError, ValueError, IndexError):
            continue
        after = os.times()
        ended = after.children_user + after.children_system
        if ended == before.children_user + before.children_system:
            seconds = time.process_time() + ended + sum(living.values())
            return OwnTime(seconds, frozenset(living))
    return None


def has_children_files(proc: Path = PROC) -> bool:
    """Tell whether the kernel lists children by parent; else all processes have to be read."""
    pid = os.getpid()
    return (proc / f"{pid}/task/{pid}/children").exists()


class _MovedError(Exception):
    """Processes ended while they were read."""


def _by_proc(proc: Path, parent: int) -> dict[int, float]:
    """Return the CPU time of each living descendant with that of its ended children."""
    found: dict[int, float] = {}
    for child in _children(proc, parent):
        _, ended = _times(proc, child)
        found |= _by_proc(proc, child)
        own, still = _times(proc, child)
        if ended != still:
            raise _MovedError
        found[child] = own + ended
    return found


def _children(proc: Path, pid: int) -> list[int]:
    tasks = (proc / f"{pid}/task").iterdir()
    return [int(child) for task in tasks for child in _read(task / "children").split()]


def _read(path: Path) -> str:
    """A thread may end before its file is read; its children go over to another one."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _MovedError from error


def _times(proc: Path, pid: int) -> tuple[float, float]:
    """Return a process's own time, and that of those of its children that it waited for."""
    fields = _read(proc / f"{pid}/stat").rpartition(")")[2].split()
    # Its time may be its parent's already, or may not.
    if fields[0] in {"X", "x"}:
        raise _MovedError
    user, system, children_user, children_system = (
        int(fields[index - BEFORE_COMM - 1]) / TICKS for index in (14, 15, 16, 17)
    )
    return user + system, children_user + children_system


TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _by_psutil() -> dict[int, float]:
    found = {}
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        found[child.pid] = sum(times[:4])
    return found
