"""Bundles and a real recording for programs in other languages, and a way to run those."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import soundfile

from w2v_edge.audio import Waveform, read_audio

APPS = Path(__file__).parents[2] / "export/apps"


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
