"""The benchmark in C, cross-compiled for ARM64, on an emulated Raspberry Pi 4."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture
def root(emulated: Path, tmp_path: Path) -> Path:
    """The root of a board whose first core alone is fast, in a control group with limits."""
    first, *others = sorted(os.sched_getaffinity(0))
    cores = "sys/devices/system/cpu/cpu"
    made = shutil.copytree(PROCESSORS[0].root(emulated), tmp_path / "root", symlinks=True)
    for name, text in (
        ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/memory.max", "4000000000\n"),
        ("sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B\0"),
        (f"{cores}{first}/cpu_capacity", "1024\n"),
        *((f"{cores}{x}/cpu_capacity", "400\n") for x in others),
        (f"{cores}{first}/cpufreq/scaling_governor", "ondemand\n"),
        (f"{cores}{first}/cpufreq/cpuinfo_max_freq", "1800000\n"),
    ):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def test_the_report_is_that_of_the_emulated_device(
    program: Path, emulated: Path, root: Path, tmp_path: Path
) -> None:
    """It names the processor and its limits, and has figures of every stage."""
    soundfile.write(tmp_path / "clip.wav", np.load(emulated / "bundles" / CLIP), 16_000)
    report = tmp_path / "report.json"
    options = ["--audio", str(tmp_path / "clip.wav"), "--report", str(report), "--rounds", "3"]
    options += ["--min-steady-seconds", "0.01", "--seconds", "0.2"]
    command = PROCESSORS[0].program(emulated, str(program), str(TINY_INT8), *options, root=root)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    found = read_report(report)
    cpu = found.device.cpu
    assert cpu.architecture == ARM
    assert cpu.model == "Cortex-A72 (Raspberry Pi 4 Model B)"
    assert cpu.features == ("asimd",)
    assert (cpu.governor, cpu.max_mhz) == ("ondemand", 1800)
    assert cpu.quota == 1.5
    assert cpu.usable_cores == min(2, len(cpu.affinity))
    assert found.device.memory_limit_mb == 4000
    assert [x.case.graph for x in found.cases] == ["encoder", "tokenizer"]
    assert {x.case.threads for x in found.cases} == {1}
    for result in found.cases:
        assert result.summary is not None
        assert result.summary.queries >= 9
        assert result.summary.load_ms.value > 0
    assert program.stat().st_size < LARGEST_BYTES
