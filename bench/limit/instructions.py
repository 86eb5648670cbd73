"""What the processor's instructions allow: `instructions.c`, compiled and run here."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("instructions.c")


def instruction_peaks(threads: int) -> dict[str, float]:
    """Return the multiply-adds in a second by kind, such as `int8 avx512_vnni`.

    Needs a C compiler called `cc`, and x86-64 or ARM64.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/instructions"
        compiler = ["cc", "-O2", "-pthread", str(SOURCE), "-o", program]
        subprocess.run(compiler, check=True)  # noqa: S603 - our own source
        told = subprocess.check_output([program, str(threads)], text=True)  # noqa: S603
    rows = (line.rsplit(" ", 1) for line in told.splitlines())
    return {name: float(speed) for name, speed in rows}


def fastest(peaks: dict[str, float], arithmetic: str) -> tuple[str, float]:
    """Return the fastest kind for numbers such as `float32`, `int8`, `bf16`, and its speed."""
    kinds = {name: x for name, x in peaks.items() if name.split()[0] == arithmetic}
    name = max(kinds, key=kinds.__getitem__)
    return name, kinds[name]
