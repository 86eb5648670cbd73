"""Waveforms: reading files, mixing down, resampling, and refusing what cannot be right.

Inside, a waveform is always a 1-D float32 array of PCM in [-1, 1] at the model's sample rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import AudioFileError, InputError, MissingExtraError, SampleRateError
from w2v_edge.geometry import Geometry

Waveform = npt.NDArray[np.float32]

BLOCK = 2**20
"""Samples read at a time."""

RIFF_UNSET = 0x7FFFF000
"""Bytes; writers to a pipe state this much or more, or nothing, where they know no length."""

UNKNOWN_LENGTH = 2**62
"""libsndfile reports more than this for streams written without a length."""

LOWEST_RATE, HIGHEST_RATE = 1_000, 10_000_000
"""Hz; nothing that records speech is slower, nothing that records sound is faster."""

LOUDEST = 100.0
"""No float PCM peaks 40 dB above full scale; numbers beyond are integers in disguise."""


def as_waveform(waveform: npt.ArrayLike, sample_rate: int | None, model_rate: int) -> Waveform:
    """Bring one waveform to 1-D float32 PCM at `model_rate`.

    Args:
        waveform: (samples,) floats in [-1, 1], or int16, which is scaled.
        sample_rate: of the waveform in Hz; None says that it is the model's.
        model_rate: the model's sample rate in Hz.

    Raises:
        InputError: wrong rank or type, not finite, or far beyond full scale.
        SampleRateError: another rate, and no resampler installed.
    """
    array = _as_array(waveform)
    if array.ndim != 1:
        raise InputError(
            f"found a waveform of shape {array.shape}, expected one axis of samples; "
            "average the channels, or pass several utterances as a list"
        )
    samples = _as_float(array)
    if sample_rate is None:
        return samples
    _check_rate(sample_rate)
    return samples if sample_rate == model_rate else resample(samples, sample_rate, model_rate)


def check_length(samples: int, geometry: Geometry, model_rate: int) -> None:
    """Refuse a waveform that gives no frame.

    Raises:
        InputError: it is shorter than a frame.
    """
    if samples < geometry.min_samples:
        needed = geometry.min_samples
        raise InputError(
            f"found a waveform of {samples} samples, expected at least {needed} "
            f"({1000 * needed / model_rate:g} ms at {model_rate} Hz), the span of one frame; "
            "leave it out or pad it with silence"
        )


def resample(waveform: Waveform, rate: int, to_rate: int) -> Waveform:
    """Resample a 1-D waveform at high quality.

    Raises:
        SampleRateError: the rate is no rate, or soxr is not installed.
    """
    _check_rate(rate)
    try:
        import soxr
    except ImportError as error:
        raise SampleRateError(
            f"found audio at {rate} Hz, the model takes {to_rate} Hz and no resampler is "
            "installed; run: pip install 'w2v-edge[audio]'"
        ) from error
    if not len(waveform):
        return waveform
    resampled: Waveform = soxr.resample(waveform, int(rate), to_rate, quality="HQ")
    return np.ascontiguousarray(resampled, dtype=np.float32)


def read_audio(path: Path, model_rate: int) -> Waveform:
    """Read an audio file, mixed down to mono and resampled to `model_rate` Hz.

    Raises:
        AudioFileError: the file is missing, empty, truncated or not audio.
        MissingExtraError: soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtraError("reading audio files", "soundfile", "audio") from error
    if not path.is_file():
        raise AudioFileError(f"{path}: expected an audio file, found nothing to read there")
    try:
        # Names of files need not be text: on POSIX they are bytes.
        name = os.fsencode(path) if os.name == "posix" else str(path)
        with soundfile.SoundFile(name) as file:
            declared, rate = file.frames, file.samplerate
            mono = _read_mono(file)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).split(": ", maxsplit=1)[-1].strip() or "unknown format"
        raise AudioFileError(f"{path}: not readable as audio ({reason:.80})") from error
    if not len(mono):
        raise AudioFileError(f"{path}: holds no samples")
    if len(mono) < declared < UNKNOWN_LENGTH or _shorter_than_its_header(path):
        raise AudioFileError(
            f"{path}: truncated, its header promises more audio than the file holds; copy it again"
        )
    try:
        return as_waveform(mono, rate, model_rate)
    except InputError as error:
        raise AudioFileError(f"{path}: {error}") from error


def find_audio(paths: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (file, path relative to what was asked for) for files and for folders of them.

    In folders, files whose ending no reader knows are passed over; a file named outright is not.
    """
    for path in paths:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
            yield from ((file, file.relative_to(path)) for file in files if file.is_file())
        else:
            yield path, Path(path.name)


AUDIO_SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .sph .w64 .wav".split()
)


def _check_rate(rate: object) -> None:
    whole = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
    if not whole or not LOWEST_RATE <= rate <= HIGHEST_RATE:  # type: ignore[operator]
        found = " ".join(repr(rate).split())
        raise SampleRateError(
            f"found sample rate {found:.40}, expected a whole number of Hz from {LOWEST_RATE} "
            f"to {HIGHEST_RATE}"
        )


def _read_mono(file: Any) -> Waveform:
    """Read an open file to its end, block by block: some formats do not know their length."""
    blocks = [np.zeros(0, dtype=np.float32)]
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block.mean(axis=1, dtype=np.float32))
    return np.concatenate(blocks)


def _as_array(waveform: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = np.asarray(waveform)
    except Exception as error:
        # Converting runs the caller's own code, which may raise anything.
        what = " ".join(str(error).split())
        raise InputError(f"found no array of samples ({what:.80})") from error
    if array.dtype == object:
        raise InputError(
            f"found {type(waveform).__name__} that is no array of numbers, expected samples"
        )
    return array


def _as_float(array: npt.NDArray[Any]) -> Waveform:
    if array.dtype.kind == "i" and array.dtype.itemsize == 2:  # noqa: PLR2004 - int16
        return array.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"found samples of type {array.dtype}, expected float PCM in [-1, 1] or int16; "
            "convert and scale them"
        )
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        first = int(np.argmin(finite))
        raise InputError(
            f"found {samples[first]} at sample {first}, expected finite numbers; mend the source"
        )
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > LOUDEST:
        raise InputError(
            f"found samples up to {peak:g}, expected float PCM in [-1, 1]; "
            "divide 16-bit integers by 32768 first"
        )
    return samples


def _shorter_than_its_header(path: Path) -> bool:
    """Tell whether a RIFF file's data chunk promises more bytes than there are.

    libsndfile reads what is there and says nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        while len(chunk := stream.read(8)) == 8:  # noqa: PLR2004
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                return 0 < length < RIFF_UNSET and stream.tell() + length > size
            stream.seek(length + length % 2, 1)
    return False
