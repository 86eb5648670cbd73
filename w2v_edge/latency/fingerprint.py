"""On what machine, and with what of onnxruntime, a benchmark runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from importlib import metadata
from pathlib import Path

from w2v_edge.latency.device import Cpu, Device, Gpu
from w2v_edge.latency.nvidia import gpus
from w2v_edge.latency.processor import describe_cpu, is_virtual
from w2v_edge.latency.sysfs import ROOT, text
from w2v_edge.providers.installation import import_onnxruntime, installed_wheels
from w2v_edge.providers.machine import cgroup_memory, total_memory

DIGITS = 16

RUNTIMES = {
    "docker": "docker",
    "containerd": "containerd",
    "kubepods": "kubernetes",
    "libpod": "podman",
    "lxc": "lxc",
}
"""Kinds of container by a word of their control groups' paths."""


def describe_device(root: Path = ROOT) -> Device:
    """Return what a report says of the machine; what the system does not say is left out.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    ort = import_onnxruntime()
    cpu, memory, limit, cards = describe_cpu(root), total_memory(), cgroup_memory(), gpus()
    build_info = getattr(ort, "get_build_info", str)
    return Device(
        identity=identity(cpu, memory, limit, cards),
        cpu=cpu,
        memory_mb=_megabytes(memory),
        memory_limit_mb=_megabytes(limit),
        gpus=cards,
        system=_system(),
        container=container(root),
        virtual=is_virtual(root),
        python=platform.python_version(),
        onnxruntime=str(ort.__version__),
        onnxruntime_build=str(build_info()),
        providers=tuple(ort.get_available_providers()),
        packages=_packages(),
    )


def identity(
    cpu: Cpu, memory: int | None, limit: int | None, cards: tuple[Gpu, ...], system: str = ""
) -> str:
    """Return a hash of what makes a device another one: 16 hexadecimal digits.

    A kernel, a driver or an onnxruntime of another release is still the same device, and so is
    one that was started again. Memory is rounded up to the GiB that were built in: what the kernel
    keeps of it for itself differs.
    """
    what = {
        "model": cpu.model,
        "architecture": cpu.architecture,
        "features": sorted(cpu.features),
        "usable_cores": cpu.usable_cores,
        "memory_gib": None if memory is None else math.ceil(memory / 2**30),
        "limit": limit,
        "gpus": sorted(gpu.name for gpu in cards),
        "system": system or platform.system(),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:DIGITS]


def container(root: Path = ROOT, environment: dict[str, str] | None = None) -> str | None:
    """Return what kind of container this is, None for none that shows."""
    environment = dict(os.environ) if environment is None else environment
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    # Podman, systemd-nspawn and LXC set it.
    if environment.get("container"):
        return environment["container"]
    groups = text(root / "proc/1/cgroup")
    # Docker within Kubernetes has both words in it: the outer one comes first in a path.
    named = sorted((groups.find(word), kind) for word, kind in RUNTIMES.items() if word in groups)
    if named:
        return named[0][1]
    if (root / ".dockerenv").exists():
        return "docker"
    return "podman" if (root / "run/.containerenv").exists() else None


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


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6
