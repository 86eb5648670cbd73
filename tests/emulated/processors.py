"""The emulated processors, and how Python runs on one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ARM = "aarch64"
X86 = "x86_64"
LIMIT_S = 900
CROSS = Path("cross/usr/bin/aarch64-linux-gnu-gcc-12")
"""The compiler for ARM64, in the folder of `tests.emulated.prepare`."""

HOST = "host"
"""Name of this machine's own processor."""


@dataclass(frozen=True)
class Processor:
    """An emulated processor.

    Attributes:
        name: what onnxruntime's kernels go by, for the tests' names.
        machine: `platform.machine()` there.
        cpu: QEMU's name of it, with properties.
        described: devices that have it.
        features: the line `Features` of its /proc/cpuinfo; ARM only.
        part: its part number; ARM only.
    """

    name: str
    machine: str
    cpu: str
    described: str
    features: str = ""
    part: str = ""

    def root(self, folder: Path) -> Path:
        """Return the folder that the emulated programs see as `/`, where it has the file."""
        return folder / "roots" / self.name

    def command(self, folder: Path, *arguments: str) -> list[str]:
        """Return the command that runs the emulated Python with `arguments`."""
        python = self.root(folder) / "usr/bin/python3.11" if self.machine == ARM else sys.executable
        return self.program(folder, str(python), *arguments)

    def program(self, folder: Path, *command: str, root: Path | None = None) -> list[str]:
        """Return the command that runs a program for this processor, with a root of its own."""
        qemu = str(folder / f"qemu/usr/bin/qemu-{self.machine}-static")
        seen = ["-L", str(root or self.root(folder))] if self.machine == ARM else []
        return [qemu, "-cpu", self.cpu, *seen, *command]

    @property
    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo, without which onnxruntime does not start on ARM."""
        return (
            f"processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: {self.features}\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {self.part}\nCPU revision\t: 0\n\n"
        )


_V80 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
_V86 = f"{_V82} jscvt fcma sha3 sm3 sm4 sha512 asimdfhm dit uscat ilrcpc flagm i8mm bf16"

# Authenticated pointers cost QEMU more than all else, and change no result.
PROCESSORS = (
    Processor("armv8.0", ARM, "cortex-a72", "Raspberry Pi 4", _V80, "0xd08"),
    Processor("dotprod", ARM, "cortex-a76", "Raspberry Pi 5, phones since 2018", _V82, "0xd0b"),
    Processor("i8mm", ARM, "max,pauth=off,sve=off", "phones since 2021", _V86, "0xd47"),
    Processor(
        "sve",
        ARM,
        "max,pauth=off,sve-max-vq=1",
        "servers such as Graviton4",
        f"{_V86} sve sve2 svei8mm svebf16",
        "0xd4f",
    ),
    Processor("sse4", X86, "Nehalem", "x86 without AVX"),
    Processor("avx2", X86, "Haswell", "x86 with AVX2, without VNNI"),
)


def run(folder: Path, processor: Processor | None, *arguments: str) -> str:
    """Run Python on a processor, and return what it prints.

    Args:
        folder: folder of `tests.emulated.prepare`.
        processor: None is this machine's own.
        arguments: of Python.

    Raises:
        RuntimeError: it failed; the message is its stderr.
    """
    own = [sys.executable, *arguments]
    command = own if processor is None else processor.command(folder, *arguments)
    arm = processor is not None and processor.machine == ARM
    # On ARM the installed wheel is run, with these tests beside it; elsewhere the source.
    paths = [folder / "site", folder / "tests"] if arm else [REPOSITORY]
    path = os.pathsep.join(map(str, paths))
    environment = os.environ | {"PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1"}
    if processor is not None and processor.machine == X86:
        # On AMD hosts numpy's OpenBLAS takes an emulated Nehalem for a processor with AVX.
        environment["OPENBLAS_CORETYPE"] = processor.cpu
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=folder,
        env=environment,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def outputs_file(folder: Path, processor: Processor | None) -> Path:
    """Return the file of the outputs on a processor, which the tests leave."""
    return folder / "outputs" / f"{processor.name if processor else HOST}.npz"
