"""What processor a machine has, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

from w2v_edge.latency.device import Cpu
from w2v_edge.latency.sysfs import ROOT, number, text
from w2v_edge.providers.machine import cgroup_cores, usable_cores

FEATURES = (
    # x86, by /proc/cpuinfo; macOS writes some of them with dots and capitals.
    *"avx avx2 fma f16c avx512f avx512dq avx512bw avx512vl avx512_vnni avx512_bf16".split(),
    *"avx512_fp16 avx_vnni avx_vnni_int8 amx_tile amx_int8 amx_bf16 amx_fp16".split(),
    # ARM, by /proc/cpuinfo: neon is the name of 32 bit for asimd.
    *"neon asimd asimddp asimdhp fphp i8mm bf16 sve sve2 svei8mm svebf16 sme sme2".split(),
    # ARM, by macOS.
    *"feat_dotprod feat_fp16 feat_i8mm feat_bf16 feat_sme feat_sme2".split(),
)
"""Instruction sets that matter to matrix products, in the order they are shown."""

ARM_PARTS = {
    "0xc07": "Cortex-A7",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse V1",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd49": "Neoverse N2",
    "0xd4d": "Cortex-A715",
    "0xd4f": "Neoverse V2",
    "0xd80": "Cortex-A520",
    "0xd81": "Cortex-A720",
}
"""Names of ARM's own designs (implementer 0x41), which /proc/cpuinfo gives by number alone."""

SYSCTL_S = 5.0


def describe_cpu(root: Path = ROOT) -> Cpu:
    """Return what the system says of its processor and of this process's share of it."""
    lines = cpuinfo(root)
    apple = _sysctl("machdep.cpu.brand_string", "hw.optional") if not lines else {}
    affinity = affinity_cores()
    first = affinity[0] if affinity else 0
    frequency = root / f"sys/devices/system/cpu/cpu{first}/cpufreq"
    low, high = _range(frequency)
    return Cpu(
        model=_model(lines, root) or apple.get("machdep.cpu.brand_string") or platform.processor(),
        architecture=platform.machine(),
        features=_features(lines, apple),
        cores=psutil.cpu_count() or 1,
        physical_cores=psutil.cpu_count(logical=False),
        usable_cores=usable_cores(),
        affinity=affinity,
        quota=cgroup_cores(),
        governor=text(frequency / "scaling_governor") or None,
        min_mhz=low,
        max_mhz=high,
    )


def is_virtual(root: Path = ROOT) -> bool | None:
    """Tell whether the processor says that it is a virtual one; None where it has no such word."""
    flags = cpuinfo(root).get("flags")
    if flags:
        return "hypervisor" in flags[0].split()
    present = _sysctl("kern.hv_vmm_present").get("kern.hv_vmm_present")
    return None if present is None else present == "1"


def affinity_cores() -> tuple[int, ...]:
    """Return the numbers of the cores this process may run on; empty where there is no such thing.

    That of macOS is a hint of which threads share a cache, and no such thing.
    """
    try:
        return tuple(sorted(psutil.Process().cpu_affinity()))
    except (AttributeError, psutil.Error, OSError):
        return ()


def cpuinfo(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the values of each key of /proc/cpuinfo, each value once, in their order."""
    found: dict[str, list[str]] = {}
    for line in text(root / "proc/cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        values = found.setdefault(key.strip(), []) if colon else []
        if value.strip() not in values:
            values.append(value.strip())
    return found


def _model(lines: dict[str, list[str]], root: Path) -> str:
    names = lines.get("model name") or lines.get("cpu model") or _arm_designs(lines)
    board = text(root / "sys/firmware/devicetree/base/model") or "".join(lines.get("Model", []))
    name = " + ".join(names)
    return f"{name} ({board})" if name and board else name or board


def _arm_designs(lines: dict[str, list[str]]) -> list[str]:
    makers = lines.get("CPU implementer", [])
    parts = lines.get("CPU part", [])
    if makers == ["0x41"]:
        return [ARM_PARTS.get(part, f"ARM {part}") for part in parts]
    return [f"implementer {maker} part {part}" for maker in makers for part in parts]


def _features(lines: dict[str, list[str]], apple: dict[str, str]) -> tuple[str, ...]:
    # Of cores that differ, only what all have counts.
    each = [set(words.split()) for words in lines.get("flags") or lines.get("Features") or []]
    has = set.intersection(*each) if each else set()
    has |= {_plain(name) for name, value in apple.items() if value == "1"}
    return tuple(feature for feature in FEATURES if feature in has)


def _plain(name: str) -> str:
    """`hw.optional.avx2_0` is `avx2`, `hw.optional.arm.FEAT_I8MM` is `feat_i8mm`."""
    return name.rpartition(".")[2].lower().removesuffix("_0")


def _range(folder: Path) -> tuple[float | None, float | None]:
    low, high = (number(folder / f"cpuinfo_{end}_freq") for end in ("min", "max"))
    if low is None and high is None:
        with_range = getattr(psutil, "cpu_freq", lambda: None)
        try:
            frequency = with_range()
        except (OSError, RuntimeError, NotImplementedError):
            return None, None
        # What psutil does not know is 0.
        return (frequency.min or None, frequency.max or None) if frequency else (None, None)
    return low and low / 1e3, high and high / 1e3


def _sysctl(*names: str) -> dict[str, str]:
    """Return what macOS says by these names and below them; nothing on other systems."""
    if platform.system() != "Darwin":
        return {}
    try:
        done = subprocess.run(  # noqa: S603
            ["/usr/sbin/sysctl", *names],
            capture_output=True,
            text=True,
            timeout=SYSCTL_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_sysctl(done.stdout)


def parse_sysctl(output: str) -> dict[str, str]:
    """Return the values of the lines `name: value`."""
    pairs = (line.partition(": ") for line in output.splitlines())
    return {name: value for name, colon, value in pairs if colon}
