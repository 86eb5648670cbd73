"""Audio files in blocks: memory follows what is read, never what a header promises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge.audio.header import CUT_SHORT, refuse_cut_short, states_mp3_length
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
"""Numbers in a block, over all channels, before and after resampling."""

LONGEST_SECONDS = 24 * 3600.0
"""By default: a file of a few KB may expand to months."""

UNKNOWN_LENGTH = 2**62
"""libsndfile reports more than this for streams written without a length."""

MP3_TAGS = 4096
"""Bytes that may follow the audio of an MP3 file."""


@dataclass(frozen=True)
class AudioFile:
    """An audio file as a waveform at `sample_rate`, mixed down to mono, read in blocks.

    Making one opens the file and checks its header.

    Attributes:
        path: of the file; only regular files are opened.
        sample_rate: that blocks are to have, in Hz.
        max_seconds: reading more than that is an error.
        content: the file itself, where it is in memory; `path` then is its name alone.

    Raises:
        AudioFileError: the file is missing, not audio, or shorter than its header says.
        MissingExtraError: soundfile is not installed.
    """

    path: str | Path
    sample_rate: int
    max_seconds: float = LONGEST_SECONDS
    content: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Open the file once: what cannot be read is refused before any work."""
        check_rate(self.sample_rate)
        with self._opened():
            pass

    @property
    def samples(self) -> int | None:
        """Samples in all, where the file states them and needs no resampling; else None."""
        with self._opened() as opened:
            return opened.stated if opened.file.samplerate == self.sample_rate else None

    @property
    def seconds(self) -> float:
        """How long it is, as the file states it; where it does not, it is read to its end."""
        with self._opened() as opened:
            rate, stated = opened.file.samplerate, opened.stated
        if stated is not None:
            return float(stated / rate)
        return sum(map(len, self.blocks())) / self.sample_rate

    def excerpt(self, start_s: float, seconds: float) -> Waveform:
        """Read a part of it, (samples,); at its end there may be less.

        Raises:
            AudioFileError: it is damaged there, or its numbers are no PCM.
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
        """Yield the waveform from its beginning in blocks (samples,) of at most `BLOCK`.

        Raises:
            AudioFileError: it is empty, truncated, damaged or too long, or its numbers are no PCM.
        """
        with self._opened() as opened:
            rate = opened.file.samplerate
            blocks = self._mono(opened)
            if rate != self.sample_rate:
                blocks = resample_blocks(blocks, rate, self.sample_rate)
            yield from (block for block in blocks if len(block))

    def _mono(self, opened: _Opened) -> Iterator[Waveform]:
        """Read an open file to its end: some formats do not know their length."""
        file = opened.file
        frames = max(1, min(BLOCK, BLOCK * file.samplerate // self.sample_rate) // file.channels)
        most = self.max_seconds * file.samplerate
        start = 0
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            # Numbers near float32's largest overflow here; they are refused below.
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
        """Open the file; whatever goes wrong until it is closed is an error that names it."""
        soundfile = _import_soundfile()
        try:
            with self._stream() as stream:
                refuse_cut_short(stream)
                guessed = not states_mp3_length(stream)
                stream.seek(0)
                # By its descriptor: libsndfile looks for no files beside it, guesses nothing
                # from its name, and names need not be text.
                source = stream if isinstance(stream, BytesIO) else stream.fileno()
                with soundfile.SoundFile(source, closefd=False) as file:
                    check_rate(file.samplerate)
                    yield _Opened(file, stream, guessed=guessed and file.format == "MP3")
        except InputError as error:
            raise AudioFileError(f"{self.path}: {error}") from error
        except FileNotFoundError as error:
            raise AudioFileError(
                f"{self.path}: expected an audio file, found nothing to read there"
            ) from error
        except (OSError, soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).split(": ", maxsplit=1)[-1].strip() or "unknown format"
            raise AudioFileError(f"{self.path}: not readable as audio ({reason:.80})") from error


@dataclass(frozen=True)
class _Opened:
    """An open file.

    Attributes:
        file: libsndfile's.
        stream: the same file's bytes.
        guessed: whether its length is only guessed from a bit rate, as of some MP3 files.
    """

    file: Any
    stream: FileIO | BytesIO
    guessed: bool

    @property
    def stated(self) -> int | None:
        """Samples of each channel, None where the file does not say."""
        known = not self.guessed and 0 <= self.file.frames < UNKNOWN_LENGTH
        return self.file.frames if known else None

    def check_end(self, samples: int) -> None:
        """Refuse a file that ends early, or was left early, at `samples` of each channel."""
        if self.stated is not None and samples < self.stated:
            raise InputError(CUT_SHORT)
        # libsndfile stops where it guessed the end to be.
        position, size = self.stream.tell(), self.stream.seek(0, os.SEEK_END)
        if self.guessed and size - position > MP3_TAGS:
            raise InputError(
                "an MP3 file of a variable bit rate that does not state its length, which "
                "libsndfile reads in part only; convert it to WAV or FLAC"
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
            # In place where the system can: blocks put together at the end would be held twice.
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
