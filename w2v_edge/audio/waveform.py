"""Waveforms as arrays: type, rank, values and sample rate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle.geometry import Geometry
from w2v_edge.errors import InputError, SampleRateError
from w2v_edge.extras import install_command

Waveform = npt.NDArray[np.float32]

MIN_FRAME_RATE, HIGHEST_RATE = 1_000, 10_000_000
"""Accepted sample rates in Hz, beyond any recorder of speech or sound."""

LOUDEST = 100.0
"""Maximum magnitude: 40 dB above full scale; larger values are unscaled integers."""


def as_waveform(
    waveform: npt.ArrayLike, sample_rate: int | None, model_rate: int, *, start: int = 0
) -> Waveform:
    """Convert one waveform to 1-D float32 PCM at `model_rate`.

    Args:
        waveform: (samples,) floats in [-1, 1], or int16, which is scaled.
        sample_rate: sample rate of the waveform in Hz; None if it is the model's.
        model_rate: the model's sample rate in Hz.
        start: position of the block in its recording, in samples, for errors.

    Raises:
        InputError: wrong rank or type, or values that are not finite or far beyond full scale.
        SampleRateError: the rate is invalid, or soxr is not installed to convert it.
    """
    if isinstance(waveform, str | os.PathLike):
        raise InputError(
            f"found the path {str(waveform)!r:.80}, expected a waveform; give "
            "w2v_edge.AudioFile(path, model.sample_rate), which reads it"
        )
    array = _as_array(waveform)
    if array.ndim != 1:
        raise InputError(
            f"found a waveform of shape {array.shape}, expected one axis of samples; "
            "average the channels, or pass several utterances as a list"
        )
    samples = _as_float(array, start)
    if sample_rate is None:
        return samples
    check_rate(sample_rate)
    return samples if sample_rate == model_rate else resample(samples, sample_rate, model_rate)


def check_length(samples: int, geometry: Geometry, model_rate: int) -> None:
    """Check that a waveform gives at least one frame.

    Raises:
        InputError: it is shorter than one frame.
    """
    if samples < geometry.min_samples:
        needed = geometry.min_samples
        raise InputError(
            f"found a waveform of {samples} samples, expected at least {needed} "
            f"({1000 * needed / model_rate:g} ms at {model_rate} Hz), the span of one frame; "
            "leave it out or pad it with silence"
        )


def check_rate(rate: object) -> None:
    """Check a sample rate.

    Raises:
        SampleRateError: it is not an integer from `MIN_FRAME_RATE` to `HIGHEST_RATE`.
    """
    whole = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
    if not whole or not MIN_FRAME_RATE <= rate <= HIGHEST_RATE:  # type: ignore[operator]
        found = " ".join(repr(rate).split())
        raise SampleRateError(
            f"found sample rate {found:.40}, expected a whole number of Hz from {MIN_FRAME_RATE} "
            f"to {HIGHEST_RATE}"
        )


def check_values(samples: Waveform, start: int = 0) -> None:
    """Check that values are PCM, without copying the array.

    Args:
        samples: (samples,), or a block of a waveform.
        start: position of the block in its waveform, in samples, for errors.

    Raises:
        InputError: a value is not finite, or far beyond full scale.
    """
    # If a value is NaN, both are, and neither comparison holds.
    highest, lowest = samples.max(initial=0.0), samples.min(initial=0.0)
    if highest <= LOUDEST and lowest >= -LOUDEST:
        return
    peak = max(highest, -lowest)
    if np.isfinite(peak):
        raise InputError(
            f"found samples up to {peak:g}, expected float PCM in [-1, 1]; "
            "divide 16-bit integers by 32768 first"
        )
    first = int(np.argmin(np.isfinite(samples)))
    raise InputError(
        f"found {samples[first]} at sample {start + first}, expected finite numbers; "
        "check the source"
    )


def resample(waveform: Waveform, rate: int, to_rate: int) -> Waveform:
    """Resample a 1-D waveform at high quality.

    Raises:
        SampleRateError: the rate is invalid, or soxr is not installed.
    """
    check_rate(rate)
    soxr = _import_soxr(rate, to_rate)
    if not len(waveform):
        return waveform
    resampled: Waveform = soxr.resample(waveform, int(rate), to_rate, quality="HQ")
    return np.ascontiguousarray(resampled, dtype=np.float32)


class Resampler:
    """Resamples a waveform in blocks, to the same samples as `resample` of the whole.

    Args:
        rate: sample rate of the waveform, in Hz.
        to_rate: sample rate of the result, in Hz.

    Raises:
        SampleRateError: a rate is invalid, or soxr is not installed.
    """

    def __init__(self, rate: int, to_rate: int) -> None:
        check_rate(rate)
        check_rate(to_rate)
        soxr = _import_soxr(rate, to_rate)
        self._stream = soxr.ResampleStream(int(rate), int(to_rate), 1, "float32", "HQ")

    def push(self, samples: Waveform) -> Waveform:
        """Add samples (n,) and return the resampled ones that are final."""
        ready: Waveform = self._stream.resample_chunk(samples)
        return ready

    def flush(self) -> Waveform:
        """End the waveform and return the remaining samples."""
        ready: Waveform = self._stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        return ready


@cache
def resampling_seconds(rate: int, to_rate: int) -> float:
    """Return the maximum delay of a `Resampler`, in seconds.

    Raises:
        SampleRateError: a rate is invalid, or soxr is not installed.
    """
    resampler = Resampler(rate, to_rate)
    millisecond = np.zeros(rate // 1000, dtype=np.float32)
    ready, worst = 0, 0.0
    for pushed in range(1, 1001):
        ready += len(resampler.push(millisecond))
        worst = max(worst, pushed * len(millisecond) / rate - ready / to_rate)
    return worst


def resample_blocks(blocks: Iterable[Waveform], rate: int, to_rate: int) -> Iterator[Waveform]:
    """Resample a waveform in blocks, to the same samples as `resample` of the whole.

    Raises:
        SampleRateError: soxr is not installed.
    """
    resampler = Resampler(rate, to_rate)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.flush()


def _import_soxr(rate: int, to_rate: int) -> Any:
    try:
        import soxr
    except ImportError as error:
        raise SampleRateError(
            f"found audio at {rate} Hz, the model takes {to_rate} Hz and no resampler is "
            f"installed; run: {install_command('audio')}"
        ) from error
    return soxr


def _as_array(waveform: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = np.asarray(waveform)
    except Exception as error:
        # Converting runs the caller's own code, which may raise anything.
        what = " ".join(str(error).split())
        raise InputError(
            f"found {type(waveform).__name__}, expected an array of samples ({what:.80})"
        ) from error
    if array.dtype == object:
        raise InputError(
            f"found {type(waveform).__name__}, expected an array of samples; "
            "pass an array, or a list of recordings"
        )
    return array


def _as_float(array: npt.NDArray[Any], start: int) -> Waveform:
    if array.dtype.kind == "i" and array.dtype.itemsize == 2:  # noqa: PLR2004 - int16
        return array.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"found samples of type {array.dtype}, expected float PCM in [-1, 1] or int16; "
            "convert and scale them"
        )
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(array, dtype=np.float32)
    check_values(samples, start)
    return samples
