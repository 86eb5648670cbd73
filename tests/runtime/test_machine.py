"""Limits of CPU and memory for this process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

import w2v_edge
from w2v_edge.data import TINY_INT8
from w2v_edge.providers import machine
from w2v_edge.providers.machine import (
    available_memory,
    cgroup_cores,
    cgroup_memory,
    default_threads,
    fast_cores,
    throttle_files,
    throttled_s,
    total_memory,
    usable_cores,
)

MAX = "9223372036854771712"

CORES = [
    ({"cpu.max": "150000 100000\n"}, "0::/", 1.5),
    ({"cpu.max": "max 100000\n"}, "0::/", None),
    ({"cpu.max": "nonsense"}, "0::/", None),
    ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/", 0.5),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/", None),
    ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "0\n"}, "1:cpu:/", None),
    ({"cpu/cpu.cfs_quota_us": "50000\n"}, "1:cpu:/", None),
    ({}, "", None),
    # A group's own quota, and a smaller one of a group around it; those beside it do not count.
    ({"a/b/cpu.max": "300000 100000", "a/c/cpu.max": "10000 100000"}, "0::/a/b", 3.0),
    ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "200000 100000"}, "0::/a/b", 2.0),
    ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
    (
        {
            "cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
            "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        },
        "5:memory:/x\n4:cpu,cpuacct:/a/b\n0::/",
        2.0,
    ),
    # In a container, the path may be that of the host, of which only the top is to be seen.
    ({"cpu.max": "100000 100000"}, "0::/docker/0123", 1.0),
    ({"cpu.max": "100000 100000"}, "0::/../../other", 1.0),
]


@pytest.mark.parametrize(("files", "membership", "cores"), CORES)
def test_cpu_quotas(
    tmp_path: Path, files: dict[str, str], membership: str, cores: float | None
) -> None:
    """The smallest CPU quota of the control group and its parents applies, in v1 and v2."""
    _write(tmp_path, files, membership)
    assert cgroup_cores(tmp_path / "root", tmp_path / "membership") == cores


@pytest.mark.parametrize(
    ("files", "membership", "limit"),
    [
        ({"memory.max": "1000000\n"}, "0::/", 1_000_000),
        ({"memory.max": "max\n"}, "0::/", None),
        ({"a/b/memory.max": "5000", "a/memory.max": "4000"}, "0::/a/b", 4_000),
        ({"memory/memory.limit_in_bytes": MAX}, "1:memory:/", None),
        (
            {"memory/memory.limit_in_bytes": MAX, "memory/a/memory.limit_in_bytes": "7000"},
            "1:memory:/a\n2:cpu:/b",
            7_000,
        ),
        ({}, "nonsense", None),
    ],
)
def test_memory_limits(
    tmp_path: Path, files: dict[str, str], membership: str, limit: int | None
) -> None:
    """The smallest memory limit of the control group and its parents applies."""
    _write(tmp_path, files, membership)
    assert cgroup_memory(tmp_path / "root", tmp_path / "membership") == limit


MEMINFO = "MemTotal:  9000 kB\nMemAvailable:    5000 kB\nBuffers: 7 kB\n"


@pytest.mark.parametrize(
    ("meminfo", "files", "available"),
    [
        (MEMINFO, {}, 5_000 * 1024),
        ("", {}, None),
        ("MemAvailable: much", {}, None),
        (MEMINFO, {"memory.max": "max"}, 5_000 * 1024),
        (MEMINFO, {"memory.max": "3000", "memory.current": "1000"}, 2_000),
        (
            MEMINFO,
            {
                "memory.max": "3000",
                "memory.current": "2000",
                "memory.stat": "anon 5\nactive_file 300\ninactive_file 400\nshmem 9\n",
            },
            1_700,
        ),
        (MEMINFO, {"memory.max": "3000", "memory.current": "4000"}, 0),
        ("", {"memory.max": "3000"}, 3_000),
    ],
)
def test_available_memory(
    tmp_path: Path, meminfo: str, files: dict[str, str], available: int | None
) -> None:
    """What is free, on the machine and in the control group; pages of files count as free."""
    _write(tmp_path, files, "0::/")
    (tmp_path / "meminfo").write_text(meminfo)
    found = available_memory(tmp_path / "root", tmp_path / "membership", tmp_path / "meminfo")
    assert found == available


THROTTLED = [
    ({"cpu.stat": "usage_usec 900\nnr_throttled 3\nthrottled_usec 250000\n"}, "0::/", 0.25),
    ({"cpu.stat": "usage_usec 900\nuser_usec 500\n"}, "0::/", None),
    ({}, "", None),
    # Each group on the way up has a quota of its own that may hold it back.
    (
        {"a/b/cpu.stat": "throttled_usec 1000000", "a/cpu.stat": "throttled_usec 500000"},
        "0::/a/b",
        1.5,
    ),
    (
        {
            "cpu,cpuacct/a/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 2000000000\n",
            "cpu,cpuacct/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
        },
        "4:cpu,cpuacct:/a\n0::/",
        2.0,
    ),
]


@pytest.mark.parametrize(("files", "membership", "seconds"), THROTTLED)
def test_throttling(
    tmp_path: Path, files: dict[str, str], membership: str, seconds: float | None
) -> None:
    """Throttled time is summed over the control group and its parents, in v1 and v2."""
    _write(tmp_path, files, membership)
    found = throttle_files(tmp_path / "root", tmp_path / "membership")
    assert throttled_s(found) == (None if seconds is None else pytest.approx(seconds))


def test_a_controller_of_two_names_counts_once(tmp_path: Path) -> None:
    """A controller reached by two names is counted once."""
    _write(tmp_path, {"cpu,cpuacct/a/cpu.stat": "throttled_time 2000000000"}, "4:cpu,cpuacct:/a")
    (tmp_path / "root/cpu").symlink_to("cpu,cpuacct")
    found = throttle_files(tmp_path / "root", tmp_path / "membership")
    assert throttled_s(found) == pytest.approx(2.0)


def test_this_process() -> None:
    """On any machine there is at least one core and a plausible memory limit."""
    assert usable_cores() >= 1
    memory = total_memory()
    assert memory is None or memory > 2**26
    limit = cgroup_memory()
    assert limit is None or limit > 2**20


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_counts() -> None:
    """The CPU affinity limits the usable cores."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
        assert w2v_edge.load(TINY_INT8).threads == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert 1 <= usable_cores() <= len(allowed)


@pytest.mark.parametrize(
    ("quota", "mask", "threads"),
    [
        ("150000 100000", 8, 2),
        ("50000 100000", 8, 1),
        ("100000 100000", 8, 1),
        ("101000 100000", 8, 2),
        ("250000 100000", 2, 2),
        ("max 100000", 1, 1),
        ("max 100000", 3, 3),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_threads_within_quota_and_mask(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    quota: str,
    mask: int,
    threads: int,
) -> None:
    """By default there is a thread for each core of the mask, up to the next whole quota."""
    if version == 2:
        _write(tmp_path, {"a/cpu.max": quota}, "0::/a")
    else:
        first, period = quota.replace("max", "-1").split()
        files = {"cpu/a/cpu.cfs_quota_us": first, "cpu/a/cpu.cfs_period_us": period}
        _write(tmp_path, files, "3:cpu:/a")
    _limit(monkeypatch, range(mask), tmp_path)
    assert usable_cores() == default_threads(tmp_path) == threads


PHONE = {0: 1024, 1: 800, 2: 800, 3: 800, 4: 250, 5: 250, 6: 250, 7: 250}


@pytest.mark.parametrize(
    ("capacities", "mask", "threads"),
    [
        (PHONE, range(8), 4),
        # In the background, Android leaves a process the slow cores, which are alike.
        (PHONE, (4, 5, 6), 3),
        (PHONE, (0,), 1),
        (PHONE, (3, 4), 1),
        (dict.fromkeys(range(4), 1024), range(4), 4),
        # Where one core's speed is unknown, all count.
        ({0: 1024, 1: 250}, range(3), 3),
        ({}, range(4), 4),
    ],
)
def test_slow_cores_get_no_thread(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capacities: dict[int, int],
    mask: Iterable[int],
    threads: int,
) -> None:
    """Cores of less than half the fastest one's speed are left out, within the affinity."""
    for core, capacity in capacities.items():
        path = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpu_capacity"
        path.parent.mkdir(parents=True)
        path.write_text(f"{capacity}\n")
    _write(tmp_path, {}, "0::/")
    _limit(monkeypatch, mask, tmp_path)
    assert fast_cores(tmp_path) == default_threads(tmp_path) == threads
    assert usable_cores() == len(list(mask))


def test_a_quota_below_the_fast_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller of quota and fast cores applies."""
    for core, capacity in PHONE.items():
        path = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpu_capacity"
        path.parent.mkdir(parents=True)
        path.write_text(str(capacity))
    _write(tmp_path, {"cpu.max": "250000 100000"}, "0::/")
    _limit(monkeypatch, PHONE, tmp_path)
    assert default_threads(tmp_path) == 3


def _limit(monkeypatch: pytest.MonkeyPatch, mask: Iterable[int], folder: Path) -> None:
    """Pretend an affinity, and control groups from files."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(mask), raising=False)
    quota = partial(cgroup_cores, folder / "root", folder / "membership")
    monkeypatch.setattr(machine, "cgroup_cores", quota)


def _write(folder: Path, files: dict[str, str], membership: str) -> None:
    (folder / "root").mkdir()
    (folder / "membership").write_text(membership)
    for name, text in files.items():
        path = folder / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
