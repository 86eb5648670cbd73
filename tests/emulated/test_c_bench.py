"""The benchmark in C, cross-compiled for ARM64, on an emulated Raspberry Pi 4."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.apps.header import INCLUDE
from tests.emulated.guest import CLIP
from tests.emulated.processors import ARM, CROSS, PROCESSORS, REPOSITORY
from w2v_edge.data import TINY_INT8
from w2v_edge.latency.report.files import read_report

LARGEST_BYTES = 100_000


@pytest.fixture
def program(emulated: Path, tmp_path: Path) -> Path:
    """The program, with its only dependency besides the C library beside it."""
    (library,) = (emulated / "site/onnxruntime/capi").glob("libonnxruntime.so*")
    out = tmp_path / "c"
    settings = (
        f"CC={emulated / CROSS} --sysroot={emulated / 'cross'}",
        f"ORT_INCLUDE={emulated / 'onnxruntime' / INCLUDE}",
        f"OUT={out}",
        "ORT_LIBRARY=",
    )
    make = ["make", "-C", str(REPOSITORY / "export/apps/c"), *settings, f"{out}/w2v-edge-bench"]
    libraries = str(emulated / "cross/usr/lib/x86_64-linux-gnu")
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    subprocess.run(make, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=300)
    (out / "libonnxruntime.so").symlink_to(library)
    return out / "w2v-edge-bench"


def test_the_report_is_that_of_the_emulated_device(
    program: Path, emulated: Path, tmp_path: Path
) -> None:
    """It names the processor, and has figures of every stage."""
    processor = PROCESSORS[0]
    soundfile.write(tmp_path / "clip.wav", np.load(emulated / "bundles" / CLIP), 16_000)
    report = tmp_path / "report.json"
    options = ["--audio", str(tmp_path / "clip.wav"), "--report", str(report), "--rounds", "3"]
    options += ["--min-steady-seconds", "0.01", "--seconds", "0.2", "--threads", "1"]
    command = processor.program(emulated, str(program), str(TINY_INT8), *options)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    found = read_report(report)
    assert found.device.cpu.architecture == ARM
    assert found.device.cpu.model.startswith("Cortex-A72")
    assert "asimd" in found.device.cpu.features
    assert [x.case.graph for x in found.cases] == ["encoder", "tokenizer"]
    for result in found.cases:
        assert result.summary is not None
        assert result.summary.queries >= 9
        assert result.summary.load_ms.value > 0
    assert program.stat().st_size < LARGEST_BYTES
