"""Prepares emulated processors in a folder: python -m tests.emulated.prepare FOLDER.

Downloads QEMU, an ARM64 Python and a compiler for ARM64 from Debian, and wheels from the package
index. Nothing is installed on this machine, and no root is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.apps import header
from tests.emulated import debian
from tests.emulated.processors import ARM, CROSS, PROCESSORS, Processor

REPOSITORY = Path(__file__).parents[2]
PYTHON = ("python3.11-minimal:arm64", "libpython3.11-stdlib:arm64", "libstdc++6:arm64")
"""Python 3.11 of Debian 12 and what onnxruntime links."""

EMULATOR = "qemu-user-static:amd64"

COMPILER = (
    *"gcc-12-aarch64-linux-gnu cpp-12-aarch64-linux-gnu binutils-aarch64-linux-gnu".split(),
    *"libbinutils libisl23 libmpc3 libmpfr6 libgmp10 libzstd1 libjansson4 zlib1g".split(),
)
"""The compiler for ARM64 and its libraries, on amd64."""

TARGET = (
    *"libgcc-12-dev-arm64-cross libgcc-s1-arm64-cross".split(),
    *"libc6-dev-arm64-cross libc6-arm64-cross linux-libc-dev-arm64-cross".split(),
)
"""What it links, on any architecture."""

PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


def main(folder: Path) -> None:
    """Prepare what is missing; the wheel of the current source is made and installed anew."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "root/usr/bin/python3.11").exists():
        debian.update(folder)
        debian.unpack(folder, "qemu", EMULATOR, dependencies=False)
        debian.unpack(folder, "root", *PYTHON)
    if not (folder / CROSS).exists():
        debian.update(folder)
        packages = (*(f"{name}:amd64" for name in COMPILER), *TARGET)
        debian.unpack(folder, "cross", *packages, dependencies=False)
    header.unpack(folder / "onnxruntime")
    for processor in PROCESSORS:
        if processor.machine == ARM:
            _root(folder, processor)
    # Only the guest script: pytest and PyTorch are not installed on the emulated machine.
    script = folder / "tests/tests/emulated"
    script.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("guest.py"), script)
    wheels = folder / "wheels"
    _wheels(wheels)
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    # The emulated machine's own pip chooses and unpacks the wheels.
    (pip,) = wheels.glob("pip-*.whl")
    (wheel,) = wheels.glob("w2v_edge-*.whl")
    options = ["--quiet", "--no-index", "--no-compile", "--root-user-action=ignore"]
    options += [f"--find-links={wheels}", f"--target={site}"]
    install = [f"{pip}/pip", "install", *options, f"{wheel}[cpu,cli]"]
    _run(PROCESSORS[1].command(folder, *install), cwd=folder)
    print(f"{folder}: ready")


def _root(folder: Path, processor: Processor) -> None:
    """Make a processor's root: Debian's folders, and its own description of the processor."""
    root = processor.root(folder)
    cores = root / "sys/devices/system/cpu"
    for made in (root / "proc", cores):
        made.mkdir(parents=True, exist_ok=True)
    for name in ("usr", "lib", "etc"):
        _link(root / name, folder / "root" / name)
    (root / "proc/cpuinfo").write_text(processor.cpuinfo)
    for name in ("possible", "present"):
        (cores / name).write_text("0\n")


def _wheels(folder: Path) -> None:
    """Build this project's wheel, and download the ARM64 wheels that it needs."""
    for old in folder.glob("w2v_edge-*.whl"):
        old.unlink()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    _run([*build, str(REPOSITORY)], stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("w2v_edge-*.whl")
    options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    options += ["--python-version=3.11", "--implementation=cp", f"--dest={folder}"]
    options += [f"--platform={name}" for name in PLATFORMS]
    constraints = f"--constraint={REPOSITORY / 'constraints.txt'}"
    download = [sys.executable, "-m", "pip", "download", *options, constraints]
    _run([*download, f"{wheel}[cpu,cli]", "pip"])


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _run(command: list[str], *, cwd: Path | None = None, stdout: int | None = None) -> None:
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
    subprocess.run(command, check=True, cwd=cwd, stdout=stdout, env=environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
