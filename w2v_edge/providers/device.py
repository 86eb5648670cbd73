"""Which device this is, for what was measured on one: told without any package."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from pathlib import Path

from w2v_edge.providers.machine import usable_cores

DIGITS = 16
SYSCTL_S = 5.0

NAMES = ("model name", "cpu model", "CPU implementer", "CPU part")
"""Keys of /proc/cpuinfo that say which processor it is; that of ARM has none but numbers."""


def device_identity(root: Path = Path("/")) -> str:
    """Return a hash of the processor, the cores of it that may be used, GPUs and system.

    It is 16 hexadecimal digits. A device of the same make has the same.
    """
    what = {
        "processor": _processor(root),
        "architecture": platform.machine(),
        "usable_cores": usable_cores(),
        "gpus": _gpus(root),
        "system": platform.system(),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _processor(root: Path) -> list[str]:
    """Return names of all kinds of core, each once."""
    named = _values(root / "proc/cpuinfo", NAMES)
    return named or [_brand() or platform.processor()]


def _gpus(root: Path) -> list[str]:
    """Return the models of NVIDIA GPUs, which only Linux tells without a library."""
    files = (root / "proc/driver/nvidia/gpus").glob("*/information")
    return sorted(name for file in files for name in _values(file, ("Model",)))


def _values(path: Path, keys: tuple[str, ...]) -> list[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return sorted({value.strip() for key, _, value in pairs if key.strip() in keys})


def _brand() -> str:
    """Return what macOS calls its processor; nothing elsewhere."""
    if platform.system() != "Darwin":
        return ""
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            timeout=SYSCTL_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
