"""Inputs of the cases: recorded speech, cut or repeated to the requested lengths, as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform, find_audio
from w2v_edge.audio.audio_file import AudioFile
from w2v_edge.errors import InputError
from w2v_edge.latency.report.records import AudioRecord

Tensors = dict[str, npt.NDArray[Any]]

MAX_RECORDED_S = 600.0
"""Recordings are read up to this total duration."""

EXCERPTS = 8
EXCERPTS_S = 32.0
"""Up to this many excerpts of this total duration alternate: an application holds no more."""


@dataclass(frozen=True)
class Speech:
    """Concatenated recordings.

    Attributes:
        samples: (samples,), floats in [-1, 1].
        rate: sample rate in Hz.
        record: their description in the report.
    """

    samples: Waveform
    rate: int
    record: AudioRecord

    @classmethod
    def read(cls, paths: Sequence[Path], rate: int) -> Speech:
        """Read audio files and folders of them; without paths, the shipped clips.

        Args:
            paths: files and folders.
            rate: sample rate of the result in Hz.

        Raises:
            InputError: no audio was found, or the files hold no samples.
            AudioFileError: a file cannot be read as audio.
        """
        from w2v_edge import data

        files = [file for file, _ in find_audio(list(paths) or [data.FOLDER])]
        where = ", ".join(map(str, paths))
        if not files:
            raise InputError(f"no audio found in {where}; name audio files or a folder of them")
        samples, count = _read(files, rate)
        if not len(samples):
            raise InputError(f"{where}: found 0 samples of audio, expected speech to run on")
        return cls(
            samples,
            rate,
            AudioRecord(
                ", ".join(path.name for path in paths) or "shipped clips",
                count,
                round(len(samples) / rate, 3),
                hashlib.sha256(samples.tobytes()).hexdigest(),
            ),
        )

    def excerpts(self, seconds: float, at_least: int = 1) -> list[Waveform]:
        """Return excerpts of `seconds`, (samples,), that start evenly over the recordings."""
        size = max(1, round(seconds * self.rate))
        count = max(at_least, min(EXCERPTS, int(EXCERPTS_S / seconds)), 1)
        starts = np.linspace(0, len(self.samples), count, endpoint=False).astype(int)
        return [self.samples.take(np.arange(x, x + size), mode="wrap") for x in starts]


def audio_record(speeches: Sequence[Speech]) -> AudioRecord:
    """Describe speech read at one or several sample rates; the hash covers all of them."""
    first = speeches[0].record
    if len(speeches) == 1:
        return first
    hashes = "".join(speech.record.sha256 for speech in speeches)
    return replace(first, sha256=hashlib.sha256(hashes.encode()).hexdigest())


def _read(files: list[Path], rate: int) -> tuple[Waveform, int]:
    """Return the samples of the first files, up to the maximum, and the number of files."""
    pieces: list[Waveform] = []
    missing = int(MAX_RECORDED_S * rate)
    for number, file in enumerate(files, 1):
        for block in AudioFile(file, rate).blocks():
            pieces.append(block[:missing])
            missing -= len(pieces[-1])
            if not missing:
                return np.concatenate(pieces), number
    return np.concatenate([np.zeros(0, dtype=np.float32), *pieces]), len(files)


def waveform_inputs(excerpts: Sequence[npt.NDArray[np.float32]], batch: int) -> list[Tensors]:
    """Return the input tensors of consecutive batches of excerpts (samples,)."""
    count = max(1, len(excerpts) // batch)
    rows = [[excerpts[(i * batch + j) % len(excerpts)] for j in range(batch)] for i in range(count)]
    return [
        {
            "waveform": np.stack(batch_rows),
            "lengths": np.full(batch, len(batch_rows[0]), dtype=np.int64),
        }
        for batch_rows in rows
    ]


def write_inputs(path: Path, inputs: Sequence[Tensors]) -> None:
    """Write the tensors of all batches to a file."""
    arrays: dict[str, Any] = {
        f"{i}.{name}": x for i, batch in enumerate(inputs) for name, x in batch.items()
    }
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def read_inputs(path: Path) -> list[Tensors]:
    """Read a file of `write_inputs`."""
    inputs: dict[int, Tensors] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, name = key.split(".", 1)
            inputs.setdefault(int(number), {})[name] = arrays[key]
    return [inputs[i] for i in sorted(inputs)]
