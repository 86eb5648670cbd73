"""The private environment of a device: wheels for its processor and Python, chosen at the desk."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import w2v_edge
from w2v_edge.errors import RemoteError, one_line
from w2v_edge.files import replacing, replacing_folder

PACKAGE = "w2v-edge"
LEGACY_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""Older names of the manylinux tags, by minor version of glibc."""

INSTALL_BYTES = 50_000_000
"""Room that a run needs beside the copied files: reports, tensors and logs."""

UNUSED = "data/tiny/"
"""The trained model that ships is not needed by a device, which gets the bundle by name."""

OFFLINE = re.compile(r"connection|timed out|resolution", re.IGNORECASE)
MISSING_WHEEL = re.compile(r"No matching distribution found for (\S+)")


def platforms(facts: dict[str, Any]) -> list[str]:
    """Return the tags of wheels that a device runs, the best first.

    Args:
        facts: of the device's agent.

    Raises:
        RemoteError: no wheels exist for such a system.
    """
    machine, system = facts["machine"].lower(), facts["system"]
    if facts["implementation"] != "CPython":
        raise RemoteError(_without_wheels(facts["implementation"]))
    if system == "Darwin":
        major = int(facts["macos"].split(".")[0])
        return [f"macosx_{version}_0_{machine}" for version in range(major, 10, -1)]
    if system != "Linux":
        raise RemoteError(_without_wheels(system))
    if facts["bits"] == 32:  # noqa: PLR2004 - of a pointer
        raise RemoteError(_without_wheels(f"32-bit Python on {machine}"))
    if facts["libc"] == "musl":
        return [f"musllinux_1_{minor}_{machine}" for minor in (2, 1)]
    found = re.fullmatch(r"2\.(\d+).*", facts["libc_version"])
    if facts["libc"] != "glibc" or found is None:
        raise RemoteError(_without_wheels(f"C library {facts['libc'] or 'of an unknown kind'}"))
    tags = []
    for minor in range(int(found[1]), 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in LEGACY_TAGS:
            tags.append(f"{LEGACY_TAGS[minor]}_{machine}")
    return tags


def requirements(extras: Sequence[str]) -> list[str]:
    """Return the requirements of this package and of some of its extras."""
    found = []
    for line in metadata.requires(PACKAGE) or ():
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra is None or extra[1] in extras:
            found.append(requirement)
    return sorted(set(found))


def download(facts: dict[str, Any], extras: Sequence[str], cache: Path) -> list[Path]:
    """Download the wheels that a device needs, or find them in the cache.

    Args:
        facts: of the device's agent.
        extras: of this package.
        cache: folder of this user's wheels, by device.

    Returns:
        The wheels.

    Raises:
        RemoteError: there are none for the device, or pip fails.
    """
    major, minor, *_ = facts["python"].split(".")
    wanted = requirements(extras)
    options = ["--python-version", f"{major}.{minor}", "--implementation", "cp"]
    for abi in (f"cp{major}{minor}{facts['abi_flags']}", "abi3", "none"):
        options += ["--abi", abi]
    for tag in platforms(facts):
        options += ["--platform", tag]
    folder = cache / _hashed([*options, *wanted])
    if not folder.is_dir():
        with replacing_folder(folder, force=True) as temporary:
            _pip(["--dest", str(temporary), *options, *wanted], facts)
    return sorted(folder.glob("*.whl"))


def own_wheel(cache: Path) -> Path:
    """Pack this package, as it is installed or checked out here, into a wheel.

    The same files give the same bytes, so that devices need not get it again.
    """
    root = Path(w2v_edge.__file__).parent
    files = {
        f"w2v_edge/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    version = metadata.version(PACKAGE)
    described = f"w2v_edge-{version}.dist-info/METADATA"
    files[described] = (metadata.distribution(PACKAGE).read_text("METADATA") or "").encode()
    path = cache / f"w2v_edge-{version}-py3-none-any.whl"
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, content in files.items():
            if not name.startswith(f"w2v_edge/{UNUSED}"):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def unpacked_size(wheels: Sequence[Path]) -> int:
    """Return the size of the files of wheels in bytes."""
    total = 0
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            total += sum(entry.file_size for entry in archive.infolist())
    return total


def _pip(arguments: list[str], facts: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    done = subprocess.run(  # noqa: S603 - the user's own pip
        [*command, "--disable-pip-version-check", "--no-input", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        return
    lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip()]
    absent = MISSING_WHEEL.search(done.stderr)
    if absent is not None and not OFFLINE.search(done.stderr):
        raise RemoteError(_without_wheels(_kind(facts), absent[1]))
    last = one_line(RuntimeError(lines[-1] if lines else f"exit code {done.returncode}"))
    raise RemoteError(f"cannot get wheels for {_kind(facts)}: pip says: {last}")


def _kind(facts: dict[str, Any]) -> str:
    libc = " ".join(filter(None, (facts["libc"], facts["libc_version"])))
    return f"Python {facts['python']} on {facts['machine']} with {libc}"


def _without_wheels(kind: str, what: str = "onnxruntime") -> str:
    return (
        f"found {kind}, for which there is no wheel of {what}; install the packages there by other "
        "means, and name that Python with --use PYTHON"
    )


def _hashed(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:16]
