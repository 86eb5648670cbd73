"""Audio files, read in blocks: memory follows the samples read, never the length in a header."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge.audio.header import TRUNCATED, check_complete, states_mp3_length
from w2v_edge.audio.waveform import (
    Waveform,
    check_rate,
    check_values,
    resample,
    resample_blocks,
)
from w2v_edge.errors import AudioFileError, InputError, MissingExtraError
from w2v_edge.files import open_regular

BLOCK = 2**18
"""Samples in a block, over all channels, before and after resampling."""

LONGEST_SECONDS = 24 * 3600.0
"""Default limit: a file of a few KB may expand to months."""

UNKNOWN_LENGTH = 2**62
"""libsndfile reports at least this for streams written without a length."""

MP3_TAGS = 4096
"""Bytes that may follow the audio of an MP3 file."""


@dataclass(frozen=True)
class AudioFile:
    """An audio file as a waveform at `sample_rate`, mixed down to mono, read in blocks.

    The constructor opens the file and checks its header.

    Attributes:
        path: path of the file; only regular files are opened.
        sample_rate: sample rate of the blocks, in Hz.
        max_seconds: longest audio, in seconds; reading more is an error.
        content: bytes of a file in memory, `path` being its name only; None to read `path`.

    Raises:
        AudioFileError: the file is missing, not audio, or shorter than its header says.
        MissingExtraError: soundfile is not installed.
    """

    path: str | Path
    sample_rate: int
    max_seconds: float = LONGEST_SECONDS
    content: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Open the file once, so that an unreadable file is an error before any work."""
        check_rate(self.sample_rate)
        with self._opened():
            pass

    @property
    def samples(self) -> int | None:
        """Number of samples, if the header states it and no resampling is needed; else None."""
        with self._opened() as opened:
            return opened.stated if opened.file.samplerate == self.sample_rate else None

    @property
    def seconds(self) -> float:
        """Duration in seconds, from the header; a file without a length is read to its end."""
        with self._opened() as opened:
            rate, stated = opened.file.samplerate, opened.stated
        if stated is not None:
            return float(stated / rate)
        return sum(map(len, self.blocks())) / self.sample_rate

    def excerpt(self, start_s: float, seconds: float) -> Waveform:
        """Read an excerpt (samples,); it is shorter at the end of the file.

        Args:
            start_s: start in seconds.
            seconds: duration in seconds.

        Raises:
            AudioFileError: the file is damaged there, or its values are not PCM.
        """
        with self._opened() as opened:
            file = opened.file
            start = round(start_s * file.samplerate)
            file.seek(min(start, file.frames))
            read = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
            with np.errstate(over="ignore", invalid="ignore"):
                mono: Waveform = read.mean(axis=1, dtype=np.float32)
            check_values(mono, start)
            same = file.samplerate == self.sample_rate or not len(mono)
            return mono if same else resample(mono, file.samplerate, self.sample_rate)

    def blocks(self) -> Iterator[Waveform]:
        """Yield the waveform in blocks (samples,) of at most `BLOCK`.

        Raises:
            AudioFileError: the file is empty, truncated, damaged or too long, or its values are
                not PCM.
        """
        with self._opened() as opened:
            rate = opened.file.samplerate
            blocks = self._mono(opened)
            if rate != self.sample_rate:
                blocks = resample_blocks(blocks, rate, self.sample_rate)
            yield from (block for block in blocks if len(block))

    def _mono(self, opened: _Opened) -> Iterator[Waveform]:
        """Yield mono blocks up to the end of the file: some formats do not state their length."""
        file = opened.file
        frames = max(1, min(BLOCK, BLOCK * file.samplerate // self.sample_rate) // file.channels)
        most = self.max_seconds * file.samplerate
        start = 0
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            # Values near float32's maximum overflow here; `check_values` rejects them.
            with np.errstate(over="ignore", invalid="ignore"):
                mono: Waveform = block.mean(axis=1, dtype=np.float32)
            check_values(mono, start)
            start += len(mono)
            if start > most:
                raise InputError(
                    f"holds more than {self.max_seconds:g} s of audio; split it, or allow more "
                    "with max_seconds"
                )
            yield mono
        if not start:
            raise InputError("holds no samples")
        opened.check_end(start)

    def _stream(self) -> FileIO | BytesIO:
        if self.content is not None:
            return BytesIO(self.content)
        return open_regular(Path(self.path))

    @contextmanager
    def _opened(self) -> Iterator[_Opened]:
        """Open the file; any error until it is closed becomes an `AudioFileError` that names it."""
        soundfile = _import_soundfile()
        try:
            with self._stream() as stream:
                check_complete(stream)
                guessed = not states_mp3_length(stream)
                stream.seek(0)
                # Given a descriptor, libsndfile looks for no files beside this one and guesses
                # nothing from its name, which need not be valid Unicode.
                source = stream if isinstance(stream, BytesIO) else stream.fileno()
                with soundfile.SoundFile(source, closefd=False) as file:
                    check_rate(file.samplerate)
                    yield _Opened(file, stream, guessed=guessed and file.format == "MP3")
        except InputError as error:
            raise AudioFileError(f"{self.path}: {error}") from error
        except FileNotFoundError as error:
            other = Path(self.path).exists()
            what = "found a folder, a pipe or a device" if other else "no such file"
            raise AudioFileError(f"{self.path}: {what}; expected an audio file") from error
        except (OSError, soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).split(": ", maxsplit=1)[-1].strip() or "unknown format"
            raise AudioFileError(
                f"{self.path}: not readable as audio ({reason:.80}), expected WAV, FLAC, Ogg or "
                "MP3; convert it: ffmpeg -i FILE OUT.flac"
            ) from error


@dataclass(frozen=True)
class _Opened:
    """An open file.

    Attributes:
        file: `soundfile.SoundFile`.
        stream: bytes of the same file.
        guessed: whether its length is estimated from a bit rate, as in some MP3 files.
    """

    file: Any
    stream: FileIO | BytesIO
    guessed: bool

    @property
    def stated(self) -> int | None:
        """Samples per channel; None if the file does not state them."""
        known = not self.guessed and 0 <= self.file.frames < UNKNOWN_LENGTH
        return self.file.frames if known else None

    def check_end(self, samples: int) -> None:
        """Check that the file was read to its end, given the samples read per channel.

        Raises:
            InputError: the file is truncated, or libsndfile stopped before its end.
        """
        if self.stated is not None and samples < self.stated:
            raise InputError(TRUNCATED)
        # libsndfile stops at its estimate of the end.
        position, size = self.stream.tell(), self.stream.seek(0, os.SEEK_END)
        if self.guessed and size - position > MP3_TAGS:
            raise InputError(
                "found an MP3 file of variable bit rate without a length, of which libsndfile "
                "reads only a part; convert it to WAV or FLAC"
            )


def read_audio(
    path: str | Path, model_rate: int, *, max_seconds: float = LONGEST_SECONDS
) -> Waveform:
    """Read an audio file, mixed down to mono and resampled to `model_rate` Hz.

    Raises:
        AudioFileError: the file is missing, empty, truncated, not audio, or longer than
            `max_seconds`.
        MissingExtraError: soundfile is not installed.
    """
    waveform = np.empty(0, dtype=np.float32)
    count = 0
    for block in AudioFile(path, model_rate, max_seconds).blocks():
        if count + len(block) > len(waveform):
            # In place where the system can; concatenating at the end would need twice the memory.
            waveform.resize(count + max(len(block), count // 8), refcheck=False)
        waveform[count : count + len(block)] = block
        count += len(block)
    waveform.resize(count, refcheck=False)
    return waveform


def _import_soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtraError("reading audio files", "soundfile", "audio") from error
    return soundfile
