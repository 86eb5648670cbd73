"""Bundles and a real recording for programs in other languages, and a way to run those."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import pytest
import soundfile

from w2v_edge.audio import Waveform, read_audio

APPS = Path(__file__).parents[2] / "export/apps"

INCLUDE = Path(os.environ.get("ORT_INCLUDE", "/usr/include/onnxruntime"))
LIBRARY = os.environ.get("ORT_LIBRARY") or next(
    map(str, Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*")), ""
)


@dataclass(frozen=True)
class Clip:
    """A WAV file of 16-bit speech, and the waveform that Python reads from it."""

    path: Path
    waveform: Waveform


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A recording of the package at 16 kHz."""
    from w2v_edge import data

    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    speech = read_audio(data.DEMO_CLIP, 16_000)
    soundfile.write(path, speech, 16_000, subtype="PCM_16")
    return Clip(path, read_audio(path, 16_000))


@pytest.fixture(scope="session")
def units_bundle(
    shared_folder: Path,
    checkpoint: Callable[[str], Path],
    locked: Callable[[str], AbstractContextManager[None]],
) -> Path:
    """A bundle whose codes are the nearest of eight centroids to each context vector."""
    from w2v_edge_export import export

    folder = shared_folder / "bundles" / "units-fp32"
    centroids = np.random.default_rng(5).standard_normal((8, 48)).astype(np.float32)
    with locked("bundle-units"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 10.0)
        if not folder.exists():
            kmeans = shared_folder / "units.npy"
            np.save(kmeans, centroids)
            export(checkpoint("large-small"), folder, layer=1, kmeans=kmeans)
    return folder


class Program(Protocol):
    """Runs a program with arguments."""

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def refuses() -> Callable[..., None]:
    """`refuses(outcome, *words)`: exit code 1, and one line on stderr with these words."""

    def check(outcome: subprocess.CompletedProcess[str], *words: str) -> None:
        assert outcome.returncode == 1, outcome
        assert outcome.stdout == ""
        lines = outcome.stderr.strip().splitlines()
        assert len(lines) == 1, outcome.stderr
        assert lines[0].startswith("error: ")
        for word in words:
            assert word in lines[0], lines[0]

    return check


@pytest.fixture(scope="session")
def c_program(
    shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Callable[[str], Program]:
    """`c_program(name)`: a program in C, which ends loudly where it misuses memory."""
    if not (INCLUDE / "onnxruntime_c_api.h").is_file() or not LIBRARY:
        pytest.skip("needs onnxruntime's header and library: make test-c")
    if shutil.which("cc") is None or shutil.which("make") is None:
        pytest.skip("needs make and a C compiler")
    folder = shared_folder / "c"
    flags = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    settings = (f"OUT={folder}", f"ORT_INCLUDE={INCLUDE}", f"ORT_LIBRARY={LIBRARY}", "LDFLAGS=")
    make = ["make", "-C", str(APPS / "c"), *settings, f"CFLAGS={flags}"]
    with locked("c"):
        built = subprocess.run(make, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    # The sanitizers load libraries themselves, and do not look beside the program.
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}

    def of(name: str) -> Program:
        def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            command = [str(folder / name), *map(str, arguments)]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=120, check=False, env=environment
            )

        return run

    return of
