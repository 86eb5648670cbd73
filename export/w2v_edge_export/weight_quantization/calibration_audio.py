"""Audio to quantize by: one half of each recording to calibrate, the other to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from w2v_edge import data
from w2v_edge.audio import Waveform, find_audio, read_audio
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.errors import InputError

MAX_FILES = 96
"""Read at most; of more, some are taken that lie evenly among them."""

MAX_FRAMES = 12_000
"""Used at most, 4 minutes at the usual 20 ms; from each file as much as from the others."""

PIECE_FRAMES = 500
"""Longest stretch that is run at once, 10 s likewise."""


def calibration_audio(
    folder: Path | None, rate: int, geometry: Geometry
) -> tuple[list[Waveform], list[Waveform]]:
    """Read recordings, by default those that ship with the package.

    Returns:
        Pieces to calibrate with, and pieces to measure on; no sample is in both.

    Raises:
        InputError: there is no audio, or too little of it.
        AudioFileError: a file cannot be read.
    """
    clips = list(data.clips(rate).values()) if folder is None else _read(folder, rate)
    share = MAX_FRAMES * geometry.hop // max(1, len(clips))
    calibrating, measuring = [], []
    for clip in clips:
        half = min(len(clip), share) // 2
        calibrating += _pieces(clip[:half], geometry)
        measuring += _pieces(clip[half : 2 * half], geometry)
    if not measuring or not np.concatenate(measuring).any():
        raise InputError(
            f"{folder}: found no speech to calibrate with; expected a folder of audio files, "
            "a minute or more in all"
        )
    return calibrating, measuring


def _read(folder: Path, rate: int) -> list[Waveform]:
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder; expected a folder of audio files")
    paths = [path for path, _ in find_audio([folder])]
    step = max(1, -(-len(paths) // MAX_FILES))
    return [read_audio(path, rate) for path in paths[::step]]


def _pieces(clip: Waveform, geometry: Geometry) -> list[Waveform]:
    count = max(1, -(-len(clip) // (PIECE_FRAMES * geometry.hop)))
    return [x for x in np.array_split(clip, count) if len(x) >= geometry.min_samples]
