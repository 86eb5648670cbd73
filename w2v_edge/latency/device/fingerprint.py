"""The machine and the software a benchmark runs on, as recorded in its report."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import psutil

from w2v_edge.latency.device import nvidia
from w2v_edge.latency.report.machine_records import Cpu, Device
from w2v_edge.providers.installation import import_onnxruntime, installed_wheels
from w2v_edge.providers.machine import (
    ROOT,
    cgroup_cores,
    cgroup_memory,
    cpuinfo,
    device_identity,
    read_number,
    read_text,
    sysctl,
    total_memory,
    usable_cores,
)

FEATURES = (
    # x86, from /proc/cpuinfo; macOS writes some of them with dots and capitals.
    *"avx avx2 fma f16c avx512f avx512dq avx512bw avx512vl avx512_vnni avx512_bf16".split(),
    *"avx512_fp16 avx_vnni avx_vnni_int8 amx_tile amx_int8 amx_bf16 amx_fp16".split(),
    # ARM, from /proc/cpuinfo: neon is the 32-bit name of asimd.
    *"neon asimd asimddp asimdhp fphp i8mm bf16 sve sve2 svei8mm svebf16 sme sme2".split(),
    # ARM, from macOS.
    *"feat_dotprod feat_fp16 feat_i8mm feat_bf16 feat_sme feat_sme2".split(),
)
"""Instruction sets that matter for matrix products, in display order."""

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
"""Names of ARM's own designs (implementer 0x41): /proc/cpuinfo gives numbers only."""

CONTAINERS = {
    "docker": "docker",
    "containerd": "containerd",
    "kubepods": "kubernetes",
    "libpod": "podman",
    "lxc": "lxc",
}
"""Kinds of container by a word in the paths of their control groups."""


def describe_device(root: Path = ROOT) -> Device:
    """Describe the machine and its software; values the system does not report are null.

    Args:
        root: root of the file system; tests pass the files of another machine.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    ort = import_onnxruntime()
    memory, limit = total_memory(), cgroup_memory()
    return Device(
        identity=device_identity(root),
        cpu=describe_cpu(root),
        memory_mb=None if memory is None else memory / 1e6,
        memory_limit_mb=None if limit is None else limit / 1e6,
        gpus=nvidia.gpus(),
        system=_system(),
        container=container(root),
        virtual=is_virtual(root),
        python=platform.python_version(),
        onnxruntime=str(ort.__version__),
        onnxruntime_build=str(getattr(ort, "get_build_info", str)()),
        providers=tuple(ort.get_available_providers()),
        packages=_packages(),
    )


def describe_cpu(root: Path = ROOT) -> Cpu:
    """Describe the processor and the share of it that this process may use."""
    lines = cpuinfo(root)
    apple = {} if lines else sysctl("machdep.cpu.brand_string", "hw.optional")
    affinity = affinity_cores()
    folder = root / f"sys/devices/system/cpu/cpu{affinity[0] if affinity else 0}/cpufreq"
    low, high = _frequency_range(folder)
    return Cpu(
        model=_model(lines, root) or apple.get("machdep.cpu.brand_string") or platform.processor(),
        architecture=platform.machine(),
        features=_features(lines, apple),
        cores=psutil.cpu_count() or 1,
        physical_cores=psutil.cpu_count(logical=False),
        usable_cores=usable_cores(),
        affinity=affinity,
        quota=cgroup_cores(),
        governor=read_text(folder / "scaling_governor") or None,
        min_mhz=low,
        max_mhz=high,
    )


def is_virtual(root: Path = ROOT) -> bool | None:
    """Return whether the processor reports a hypervisor; None if it cannot tell."""
    flags = cpuinfo(root).get("flags")
    if flags:
        return "hypervisor" in flags[0].split()
    present = sysctl("kern.hv_vmm_present").get("kern.hv_vmm_present")
    return None if present is None else present == "1"


def affinity_cores() -> tuple[int, ...]:
    """Return the numbers of the cores this process may run on; empty without affinity support."""
    try:
        return tuple(sorted(psutil.Process().cpu_affinity()))
    except (AttributeError, psutil.Error, OSError):
        return ()


def container(root: Path = ROOT, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the kind of container this process runs in; None if none was detected."""
    environment = os.environ if environment is None else environment
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    # Set by Podman, systemd-nspawn and LXC.
    if environment.get("container"):
        return environment["container"]
    groups = read_text(root / "proc/1/cgroup")
    # Docker in Kubernetes has both words: the outer one comes first in the path.
    named = sorted((groups.find(word), kind) for word, kind in CONTAINERS.items() if word in groups)
    if named:
        return named[0][1]
    if (root / ".dockerenv").exists():
        return "docker"
    return "podman" if (root / "run/.containerenv").exists() else None


def _model(lines: dict[str, list[str]], root: Path) -> str:
    names = lines.get("model name") or lines.get("cpu model") or _arm_designs(lines)
    board = read_text(root / "sys/firmware/devicetree/base/model") or "".join(
        lines.get("Model", [])
    )
    name = " + ".join(names)
    return f"{name} ({board})" if name and board else name or board


def _arm_designs(lines: dict[str, list[str]]) -> list[str]:
    makers = lines.get("CPU implementer", [])
    parts = lines.get("CPU part", [])
    if makers == ["0x41"]:
        return [ARM_PARTS.get(part, f"ARM {part}") for part in parts]
    return [f"implementer {maker} part {part}" for maker in makers for part in parts]


def _features(lines: dict[str, list[str]], apple: dict[str, str]) -> tuple[str, ...]:
    # If cores differ, only what all of them support counts.
    each = [set(words.split()) for words in lines.get("flags") or lines.get("Features") or []]
    present = set.intersection(*each) if each else set()
    for name, value in apple.items():
        if value == "1":
            # `hw.optional.avx2_0` is `avx2`, `hw.optional.arm.FEAT_I8MM` is `feat_i8mm`.
            present.add(name.rpartition(".")[2].lower().removesuffix("_0"))
    return tuple(feature for feature in FEATURES if feature in present)


def _frequency_range(folder: Path) -> tuple[float | None, float | None]:
    """Return the lowest and highest frequency in MHz."""
    if platform.system() == "Linux":
        # Without these files psutil falls back to /proc/cpuinfo, which has no range.
        low, high = (read_number(folder / f"cpuinfo_{end}_freq") for end in ("min", "max"))
        return low and low / 1e3, high and high / 1e3
    try:
        frequency = psutil.cpu_freq()
    except (AttributeError, OSError, RuntimeError, NotImplementedError):
        return None, None
    # psutil writes 0 for unknown.
    return (frequency.min or None, frequency.max or None) if frequency else (None, None)


def _system() -> str:
    system = f"{platform.system()} {platform.release()}".strip()
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = platform.mac_ver()[0] and f"macOS {platform.mac_ver()[0]}"
    return f"{system} ({name})" if name else system


def _packages() -> dict[str, str]:
    found = {}
    for name in ("w2v-edge", "numpy", *installed_wheels()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
