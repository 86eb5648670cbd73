"""Statistics of an utterance that grows: those of its stretches, put together.

`statistics.onnx` gives means and variances of what it is shown. Those of two stretches follow from
their own (Chan, Golub and LeVeque 1979), so hours are shown to it a piece at a time, and the sums
are held in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform
from w2v_edge.bundle import StatisticsInfo
from w2v_edge.runtime.growing import Buffer

Statistics = npt.NDArray[np.float32]
"""(k,) of one utterance, as `frontend.onnx` takes them."""


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and variance (d,), float64."""

    count: int
    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]

    @classmethod
    def none(cls, width: int) -> Moments:
        """Return those of nothing."""
        return cls(0, np.zeros(width), np.zeros(width))

    def __add__(self, other: Moments) -> Moments:
        """Return those of both stretches."""
        count = self.count + other.count
        if not count:
            return self
        share = other.count / count
        step = other.mean - self.mean
        variance = (1 - share) * self.variance + share * other.variance
        return Moments(
            count, self.mean + share * step, variance + share * (1 - share) * step * step
        )


class GrowingStatistics:
    """The statistics of all samples added so far."""

    def __init__(self, measure: Callable[[Waveform], Statistics], info: StatisticsInfo) -> None:
        """Begin with nothing; `measure` maps samples to what `statistics.onnx` gives of them."""
        self._measure = measure
        self._info = info
        self._samples = Moments.none(int(info.waveform))
        self._windows = Moments.none(info.channels)
        self._buffer = Buffer(np.zeros(0, dtype=np.float32))

    def add(self, samples: Waveform) -> None:
        """Take in what comes next."""
        if self._info.waveform and len(samples):
            exact = samples.astype(np.float64)
            of_samples = Moments(len(exact), exact.mean(keepdims=True), exact.var(keepdims=True))
            self._samples += of_samples
        if self._info.channels:
            self._buffer.push(samples)
            self._add_windows()

    def value(self) -> Statistics:
        """Return the statistics (k,)."""
        parts = [self._samples.mean, self._samples.variance]
        parts += [self._windows.mean, self._windows.variance]
        return np.concatenate(parts).astype(np.float32)

    def _add_windows(self) -> None:
        """Measure the windows that are complete; every window is measured once."""
        kernel, stride = self._info.kernel, self._info.stride
        begin = self._windows.count * stride
        missing = begin + kernel - self._buffer.end
        if missing > 0:
            return
        count = -missing // stride + 1
        end = begin + (count - 1) * stride + kernel
        measured = self._measure(self._buffer.view(begin, end))[-2 * self._info.channels :]
        mean, variance = np.split(measured.astype(np.float64), 2)
        self._windows += Moments(count, mean, variance)
        self._buffer.forget(begin + count * stride)
