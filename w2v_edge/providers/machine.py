"""The machine: the cores and memory that this process may use, and the identity of the device.

Uses the standard library only: the runtime chooses its threads and finds tuned settings with it.
The latency reports use the same identity, so that a report and a tuning name a device alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath

ROOT = Path("/")
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

FAST = 0.5
"""Speed of a fast core, as a share of the fastest one's."""

UNLIMITED = 2**60
"""Control groups of version 1 write about 2**63 where memory is unlimited."""

IDENTITY_DIGITS = 16
PROCESSOR_KEYS = ("model name", "cpu model", "CPU implementer", "CPU part")
"""Keys of /proc/cpuinfo that name the processor; ARM gives numbers only."""

SYSCTL_TIMEOUT_S = 5.0


def usable_cores() -> int:
    """Return the number of cores this process may keep busy: affinity and cgroup quota.

    A fractional quota counts as the next whole number: of 1.5 cores, two are used 3/4 of the time.
    """
    quota = cgroup_cores()
    limit = len(_allowed_cores())
    return max(1, limit if quota is None else min(limit, math.ceil(quota)))


def default_threads(root: Path = ROOT) -> int:
    """Return the intra-op threads used by default: one for each usable core that is fast.

    onnxruntime splits the work of an operator evenly: where cores are unlike, as in phones, all
    would wait for the slowest.
    """
    return min(usable_cores(), fast_cores(root))


def fast_cores(root: Path = ROOT) -> int:
    """Return how many cores of this process's affinity are at least half as fast as the fastest.

    Linux says so on ARM, in cpu_capacity; where it does not, all cores are alike.
    """
    cores = _allowed_cores()
    found = [read_number(root / f"sys/devices/system/cpu/cpu{x}/cpu_capacity") for x in cores]
    speeds = [speed for speed in found if speed is not None]
    if len(speeds) < len(cores):
        return len(cores)
    return sum(speed >= FAST * max(speeds) for speed in speeds)


def cgroup_cores(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return the smallest CPU quota of this process's control groups in cores; None if unset."""
    return _smallest(root, membership, {"cpu"}, _cpu_quota)


def cgroup_memory(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return the smallest memory limit of this process's control groups in bytes."""
    limit = _smallest(root, membership, {"memory"}, _memory_limit)
    return None if limit is None else int(limit)


def available_memory(
    root: Path = CGROUPS, membership: Path = MEMBERSHIP, meminfo: Path = Path("/proc/meminfo")
) -> int | None:
    """Return the bytes that can be allocated; None if the system does not report it.

    Pages of files count as available, also within a control group.
    """
    words = read_text(meminfo).split()
    counts = dict(pairwise(words))
    free = _smallest(root, membership, {"memory"}, _memory_left)
    known = [] if free is None else [max(0, int(free))]
    if counts.get("MemAvailable:", "").isdigit():
        known.append(int(counts["MemAvailable:"]) * 1024)
    return min(known, default=None)


def throttle_files(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> list[Path]:
    """Return the files that count how long CPU quotas have throttled this process."""
    found = (group / "cpu.stat" for group in _groups(root, membership, {"cpu"}))
    # A controller's folder may have two names, one a link to the other.
    distinct = dict.fromkeys(path.resolve() for path in found)
    return [path for path in distinct if _throttled(path) is not None]


def throttled_s(files: list[Path]) -> float | None:
    """Return the seconds for which quotas have throttled cores; None if no file counts them."""
    times = [time for time in map(_throttled, files) if time is not None]
    return sum(times) if times else None


def total_memory() -> int | None:
    """Return the machine's memory in bytes, None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def device_identity(root: Path = ROOT) -> str:
    """Return the device's identity: a hash of processor, usable cores, GPUs and system.

    Devices of one make share an identity. Tuned settings and latency reports are keyed by it, so
    the hashed fields must not change between releases.

    Returns:
        16 hexadecimal digits.
    """
    lines = cpuinfo(root)
    processor = sorted({value for key in PROCESSOR_KEYS for value in lines.get(key, [])})
    if not processor:
        brand = "machdep.cpu.brand_string"
        processor = [sysctl(brand).get(brand) or platform.processor()]
    gpus = (root / "proc/driver/nvidia/gpus").glob("*/information")
    fields = {
        "processor": processor,
        "architecture": platform.machine(),
        "usable_cores": usable_cores(),
        "gpus": sorted(name for path in gpus for name in key_values(path).get("Model", [])),
        "system": platform.system(),
    }
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_DIGITS]


def cpuinfo(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the distinct values of each key of /proc/cpuinfo; empty on other systems."""
    return key_values(root / "proc/cpuinfo")


def key_values(path: Path) -> dict[str, list[str]]:
    """Return the distinct values of each key in a file of lines `key : value`, in order."""
    found: dict[str, list[str]] = {}
    for line in read_text(path).splitlines():
        key, colon, value = line.partition(":")
        values = found.setdefault(key.strip(), []) if colon else []
        if value.strip() not in values:
            values.append(value.strip())
    return found


def sysctl(*names: str) -> dict[str, str]:
    """Return macOS's values of these names and of the names below them; empty elsewhere."""
    if platform.system() != "Darwin":
        return {}
    try:
        done = subprocess.run(  # noqa: S603
            ["/usr/sbin/sysctl", *names],
            capture_output=True,
            text=True,
            timeout=SYSCTL_TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_sysctl(done.stdout)


def parse_sysctl(output: str) -> dict[str, str]:
    """Return the values of lines `name: value`."""
    pairs = (line.partition(": ") for line in output.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def read_text(path: Path) -> str:
    """Return a file's stripped text; empty if it cannot be read."""
    try:
        # Strings of a device tree end with a zero byte.
        return path.read_text(errors="replace").strip(" \t\r\n\0")
    except (OSError, ValueError):
        return ""


def read_number(path: Path) -> float | None:
    """Return the number in a file; None if it holds none."""
    try:
        return float(read_text(path))
    except ValueError:
        return None


def batteries(root: Path = ROOT) -> list[Path]:
    """Return the Linux folders of the machine's batteries, without those of a mouse or keyboard."""
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    return [
        supply
        for supply in supplies
        if read_text(supply / "type") == "Battery" and read_text(supply / "scope") != "Device"
    ]


def is_arm64() -> bool:
    """Return whether this Python runs on 64-bit ARM."""
    return platform.machine().lower() in {"aarch64", "arm64"}


def _allowed_cores() -> list[int]:
    """Return the numbers of the cores in this process's affinity; of all where it has none."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _smallest(
    root: Path, membership: Path, controllers: set[str], read: Callable[[Path], float | None]
) -> float | None:
    """Return the smallest limit on the path to the root: a group's limit binds its subgroups."""
    found = (read(group) for group in _groups(root, membership, controllers))
    return min((limit for limit in found if limit is not None), default=None)


def _groups(root: Path, membership: Path, controllers: set[str]) -> Iterator[Path]:
    """Yield this process's control groups and their parents, up to each hierarchy's root."""
    yield from dict.fromkeys([root, *(root / controller for controller in sorted(controllers))])
    for line in read_text(membership).splitlines():
        _, _, rest = line.partition(":")
        named, _, path = rest.partition(":")
        if named and not controllers & set(named.split(",")):
            continue
        # Version 2 names no controller; next to version 1 it is mounted in its own folder.
        tops = [root / named, *(root / x for x in named.split(","))] if named else [root]
        # From inside a container's namespace, the path may start with "..".
        inner = PurePosixPath(*(x for x in PurePosixPath(path).parts if x not in {"/", ".."}))
        for top in tops:
            yield from (top / group for group in (inner, *inner.parents))


def _cpu_quota(group: Path) -> float | None:
    both = read_text(group / "cpu.max").split()
    if not both:
        both = [read_text(group / f"cpu.cfs_{x}_us") for x in ("quota", "period")]
    try:
        quota, period = map(int, both)
        cores = quota / period
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _memory_limit(group: Path) -> float | None:
    text = read_text(group / "memory.max") or read_text(group / "memory.limit_in_bytes")
    try:
        limit = int(text)
    except ValueError:
        return None
    return limit if 0 < limit < UNLIMITED else None


def _memory_left(group: Path) -> float | None:
    limit = _memory_limit(group)
    if limit is None:
        return None
    counts = read_text(group / "memory.stat").split()
    files = sum(
        int(value)
        for name, value in zip(counts[::2], counts[1::2], strict=False)
        if name in {"inactive_file", "active_file"}
    )
    used = read_text(group / "memory.current") or read_text(group / "memory.usage_in_bytes")
    return limit - int(used) + files if used.strip().isdigit() else limit


def _throttled(path: Path) -> float | None:
    """Return seconds: version 2 counts microseconds, version 1 nanoseconds."""
    words = read_text(path).split()
    values = dict(zip(words[::2], words[1::2], strict=False))
    for key, unit in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
        try:
            return int(values[key]) * unit
        except (KeyError, ValueError):
            continue
    return None
