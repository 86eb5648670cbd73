"""What this process may use of the machine: cores and memory, also within control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

UNLIMITED = 2**60
"""Version 1 writes a number of about 2**63 for no limit of memory."""


def usable_cores() -> int:
    """Return how many cores this process may keep busy: affinity and cgroup quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_cores()
    limit = cores or 1
    return max(1, limit if quota is None else min(limit, math.ceil(quota)))


def cgroup_cores(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """Return the smallest CPU quota of this process's control groups in cores, None for none."""
    return _smallest(root, membership, {"cpu"}, _cores)


def cgroup_memory(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Return the smallest memory limit of this process's control groups in bytes."""
    limit = _smallest(root, membership, {"memory"}, _memory)
    return None if limit is None else int(limit)


def throttle_files(root: Path = ROOT, membership: Path = MEMBERSHIP) -> list[Path]:
    """Return the files that say how long quotas held back this process's control groups."""
    found = (group / "cpu.stat" for group in _groups(root, membership, {"cpu"}))
    # A controller's folder may have two names, one a link to the other.
    distinct = dict.fromkeys(path.resolve() for path in found)
    return [path for path in distinct if _throttled(path) is not None]


def throttled_s(files: list[Path]) -> float | None:
    """Return for how many seconds quotas held cores back so far; None where no file says so."""
    times = [time for time in map(_throttled, files) if time is not None]
    return sum(times) if times else None


def total_memory() -> int | None:
    """Return bytes of memory of the machine, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _smallest(
    root: Path, membership: Path, controllers: set[str], read: Callable[[Path], float | None]
) -> float | None:
    """A limit of a group holds for all groups in it: the smallest of the way up counts."""
    found = (read(group) for group in _groups(root, membership, controllers))
    return min((limit for limit in found if limit is not None), default=None)


def _groups(root: Path, membership: Path, controllers: set[str]) -> Iterator[Path]:
    """Yield this process's group and those around it, up to the root of each hierarchy."""
    yield from dict.fromkeys([root, *(root / controller for controller in sorted(controllers))])
    try:
        lines = membership.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        named, _, path = rest.partition(":")
        if named and not controllers & set(named.split(",")):
            continue
        # Version 2 names no controller; beside version 1 it lies in a folder of its own.
        tops = [root / named, *(root / x for x in named.split(","))] if named else [root]
        # A path seen from outside of the container's own namespace goes up first.
        inner = PurePosixPath(*(x for x in PurePosixPath(path).parts if x not in {"/", ".."}))
        for top in tops:
            yield from (top / group for group in (inner, *inner.parents))


def _cores(group: Path) -> float | None:
    both = _text(group / "cpu.max").split()
    if not both:
        both = [_text(group / f"cpu.cfs_{x}_us") for x in ("quota", "period")]
    try:
        quota, period = map(int, both)
        cores = quota / period
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _memory(group: Path) -> float | None:
    text = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    try:
        limit = int(text)
    except ValueError:
        return None
    return limit if 0 < limit < UNLIMITED else None


def _throttled(path: Path) -> float | None:
    """Version 2 counts microseconds, version 1 nanoseconds."""
    words = _text(path).split()
    values = dict(zip(words[::2], words[1::2], strict=False))
    for key, unit in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
        try:
            return int(values[key]) * unit
        except (KeyError, ValueError):
            continue
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
