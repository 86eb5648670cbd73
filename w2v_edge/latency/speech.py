"""The speech that is worked on: real recordings, cut and repeated to the lengths asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from w2v_edge.audio import AudioFile, Waveform, find_audio
from w2v_edge.errors import InputError
from w2v_edge.latency.report import AudioRecord

MOST_SECONDS = 600.0
"""Of recordings that are read; the rest is left alone."""

EXCERPTS = 8
EXCERPT_SECONDS = 32.0
"""So many excerpts take turns, of so much audio in all: an app holds no more at once."""


@dataclass(frozen=True)
class Speech:
    """Recordings end to end.

    Attributes:
        samples: (samples,), floats in [-1, 1].
        rate: in Hz.
        record: what a report says of them.
    """

    samples: Waveform
    rate: int
    record: AudioRecord

    @classmethod
    def read(cls, paths: Sequence[Path], rate: int) -> Speech:
        """Read audio files and folders of them, or the shipped clips if none is named.

        Raises:
            InputError: there is no audio, or none in the files; `AudioFileError` for a bad file.
        """
        from w2v_edge import data

        files = [file for file, _ in find_audio(list(paths) or [data.FOLDER])]
        where = ", ".join(map(str, paths))
        if not files:
            raise InputError(f"no audio found in {where}; name audio files or a folder of them")
        samples, read = _read(files, rate)
        if not len(samples):
            raise InputError(f"{where}: found 0 samples of audio, expected speech to run on")
        return cls(
            samples,
            rate,
            AudioRecord(
                ", ".join(path.name for path in paths) or "shipped clips",
                read,
                round(len(samples) / rate, 3),
                hashlib.sha256(samples.tobytes()).hexdigest(),
            ),
        )

    def excerpts(self, seconds: float, atleast: int = 1) -> list[Waveform]:
        """Return excerpts of `seconds` each, (samples,), that begin all over the recordings."""
        size = max(1, round(seconds * self.rate))
        count = max(atleast, min(EXCERPTS, int(EXCERPT_SECONDS / seconds)), 1)
        starts = np.linspace(0, len(self.samples), count, endpoint=False).astype(int)
        return [self.samples.take(np.arange(x, x + size), mode="wrap") for x in starts]


def audio_record(speeches: Sequence[Speech]) -> AudioRecord:
    """Describe speech that was read at one rate, or at several: the hash is of all of them."""
    first = speeches[0].record
    if len(speeches) == 1:
        return first
    hashes = "".join(speech.record.sha256 for speech in speeches)
    return replace(first, sha256=hashlib.sha256(hashes.encode()).hexdigest())


def _read(files: list[Path], rate: int) -> tuple[Waveform, int]:
    """Return the samples of as many files as are wanted, and their number."""
    pieces: list[Waveform] = []
    wanted = int(MOST_SECONDS * rate)
    for number, file in enumerate(files, 1):
        for block in AudioFile(file, rate).blocks():
            pieces.append(block[:wanted])
            wanted -= len(pieces[-1])
            if not wanted:
                return np.concatenate(pieces), number
    return np.concatenate([np.zeros(0, dtype=np.float32), *pieces]), len(files)
