"""The identity of a device."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from w2v_edge import strict
from w2v_edge.latency.compare_reports import same_device
from w2v_edge.latency.device.fingerprint import (
    container,
    describe_cpu,
    describe_device,
    is_virtual,
)
from w2v_edge.latency.report.machine_records import Cpu, Device, Gpu
from w2v_edge.providers.machine import device_identity, parse_sysctl

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz
cpu MHz\t\t: 2800.000
flags\t\t: fpu sse2 ssse3 fma f16c avx avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni
vmx flags\t: vnmi preemption_timer

processor\t: 1
model name\t: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz
flags\t\t: fpu sse2 ssse3 fma f16c avx avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni
"""

RASPBERRY_PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd0b

Revision\t: d04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""

BIG_LITTLE = """processor\t: 0
Features\t: fp asimd asimddp sve2
CPU implementer\t: 0x41
CPU part\t: 0xd05
processor\t: 4
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""

MACOS = """machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
"""

CPU = Cpu("A", "x86_64", ("avx",), 4, 4, 4, (0, 1, 2, 3), None, "powersave", 400.0, 4000.0)

CPU_CHANGES: list[dict[str, Any]] = [
    {"model": "B"},
    {"features": ()},
    {"usable_cores": 3},
    {"architecture": "aarch64"},
]

CARD = Gpu("NVIDIA T4", "550.54", 16e3)


def test_an_intel_laptop(tmp_path: Path) -> None:
    """Model, instruction sets of matrix products, governor and range are those of the system."""
    _write(tmp_path, {"proc/cpuinfo": INTEL})
    for core in range(os.cpu_count() or 1):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        _write(
            tmp_path,
            {
                f"{folder}/scaling_governor": "powersave\n",
                f"{folder}/cpuinfo_min_freq": "400000\n",
                f"{folder}/cpuinfo_max_freq": "4700000\n",
            },
        )
    cpu = describe_cpu(tmp_path)
    assert cpu.model == "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz"
    assert cpu.features == (
        *("avx", "avx2", "fma", "f16c"),
        *("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni"),
    )
    assert (cpu.governor, cpu.min_mhz, cpu.max_mhz) == ("powersave", 400.0, 4700.0)
    assert is_virtual(tmp_path) is False


def test_an_arm_board(tmp_path: Path) -> None:
    """ARM's designs are numbers: they get their names, and the board's beside them."""
    _write(
        tmp_path,
        {
            "proc/cpuinfo": RASPBERRY_PI_5,
            "sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        },
    )
    cpu = describe_cpu(tmp_path)
    assert cpu.model == "Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)"
    assert cpu.features == ("asimd", "asimddp", "asimdhp", "fphp")
    # Such a processor has no word for being virtual.
    assert is_virtual(tmp_path) is None


def test_cores_that_differ(tmp_path: Path) -> None:
    """Both core designs are named, and features are those of all cores."""
    _write(tmp_path, {"proc/cpuinfo": BIG_LITTLE})
    cpu = describe_cpu(tmp_path)
    assert cpu.model == "Cortex-A55 + Cortex-A76"
    assert cpu.features == ("asimd", "asimddp")


def test_a_virtual_machine(tmp_path: Path) -> None:
    """The processor's hypervisor flag identifies a virtual machine."""
    _write(tmp_path, {"proc/cpuinfo": INTEL.replace("sse2", "sse2 hypervisor")})
    assert is_virtual(tmp_path) is True


def test_lines_of_macos() -> None:
    """The lines of sysctl are read by name."""
    values = parse_sysctl(MACOS)
    assert values["machdep.cpu.brand_string"] == "Apple M2"
    assert values["hw.optional.arm.FEAT_SME"] == "0"


CONTAINERS = [
    ({}, {}, None),
    ({"proc/1/cgroup": "0::/init.scope\n"}, {}, None),
    ({".dockerenv": ""}, {}, "docker"),
    ({"run/.containerenv": ""}, {}, "podman"),
    ({"proc/1/cgroup": "4:cpu,cpuacct:/docker/0123abcd\n0::/\n"}, {}, "docker"),
    ({"proc/1/cgroup": "0::/kubepods.slice/cri-containerd-01.scope\n"}, {}, "kubernetes"),
    ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
    ({}, {"container": "systemd-nspawn"}, "systemd-nspawn"),
]


@pytest.mark.parametrize(("files", "environment", "kind"), CONTAINERS)
def test_containers(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], kind: str | None
) -> None:
    """A container is recognised by the files of its runtime."""
    _write(tmp_path, files)
    assert container(tmp_path, environment) == kind


def test_the_same_device_twice() -> None:
    """A device has one identity, that of its tuned settings, and its record can be read again."""
    device = describe_device()
    assert device.identity == describe_device().identity == device_identity()
    assert len(device.identity) == 16
    assert strict.from_plain(Device, strict.to_plain(device)) == device
    assert {"w2v-edge", "numpy"} <= device.packages.keys()
    assert device.onnxruntime in device.packages.values()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_core_taken_away() -> None:
    """Fewer cores are another device."""
    cores = os.sched_getaffinity(0)
    # Workers of a test run have a share of the cores: all that may be had are asked for.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        everything = os.sched_getaffinity(0)
        if len(everything) == 1:
            pytest.skip("this machine has one core only")
        before = describe_device()
        os.sched_setaffinity(0, set(sorted(everything)[1:]))
        after = describe_device()
    finally:
        os.sched_setaffinity(0, cores)
    assert len(after.cpu.affinity) == len(before.cpu.affinity) - 1
    assert after.identity != before.identity


def test_what_makes_another_device() -> None:
    """Processor, cores, memory, its limit, GPUs and system make another device; nothing else.

    The hash does not decide: reports of earlier releases derived it from other fields.
    """
    device = replace(
        describe_device(),
        cpu=CPU,
        memory_mb=16e3,
        memory_limit_mb=None,
        gpus=(CARD,),
        system="Linux 6",
    )
    changes: list[dict[str, Any]] = [
        *({"cpu": replace(CPU, **change)} for change in CPU_CHANGES),
        {"memory_mb": 8e3},
        {"memory_limit_mb": 2e3},
        {"gpus": ()},
        {"system": "Windows 11"},
    ]
    for change in changes:
        assert not same_device(device, replace(device, **change)), change
    later = replace(
        device,
        identity="of an earlier release",
        cpu=replace(CPU, governor="performance", max_mhz=None),
        gpus=(replace(CARD, driver="560.1"),),
        memory_mb=15_990.0,
        system="Linux 7",
    )
    assert same_device(device, later)


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    """Without readable files, the device is described by Python's own values."""
    device = describe_device(tmp_path)
    assert device.cpu.features == ()
    assert device.cpu.governor is None
    assert device.virtual is None
    assert device.identity != describe_device().identity or sys.platform != "linux"


def _write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
