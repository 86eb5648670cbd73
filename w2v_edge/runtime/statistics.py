"""Statistics of an utterance that arrives in chunks, merged from those of its chunks.

`statistics.onnx` gives means and variances of the audio it is run on. The statistics of two
chunks can be merged exactly (Chan, Golub and LeVeque 1979), so hours are processed chunk by chunk;
the sums are kept in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.audio.waveform import Waveform
from w2v_edge.bundle import Manifest
from w2v_edge.errors import InputError
from w2v_edge.runtime.buffers import Buffer
from w2v_edge.runtime.recordings import collate
from w2v_edge.runtime.session import Session

Statistics = npt.NDArray[np.float32]
"""(k,) of one utterance, as `frontend.onnx` takes them."""

SHORTEST_PERIOD, LONGEST_PERIOD = 0.1, 600.0


@dataclass(frozen=True)
class RunningStatistics:
    """Use the front end's statistics of the stream itself, over all audio so far.

    They are updated every `period` seconds, independent of the blocks that are pushed. Frames of
    the first period are given at its end.

    Attributes:
        period: in seconds.
    """

    period: float = 1.0

    def __post_init__(self) -> None:
        """Check the period."""
        period: object = self.period
        if not isinstance(period, Real) or not SHORTEST_PERIOD <= self.period < LONGEST_PERIOD:
            raise InputError(
                f"found a period of {self.period!r:.40} for running statistics, expected seconds, "
                f"from {SHORTEST_PERIOD} to {LONGEST_PERIOD:g}"
            )
        object.__setattr__(self, "period", float(self.period))


@dataclass(frozen=True)
class Moments:
    """Count, mean (d,) and variance (d,), float64."""

    count: int
    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, width: int) -> Moments:
        """Return the moments of no values."""
        return cls(0, np.zeros(width), np.zeros(width))

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of values."""
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

    def __init__(self, session: Session) -> None:
        """Start with no samples.

        Args:
            session: of a bundle with `statistics.onnx`.

        Raises:
            InputError: the bundle does not state the layout of its statistics.
        """
        info = session.manifest.statistics
        if info is None:
            raise InputError(
                "this bundle does not state the layout of its front end's statistics; "
                "export it again"
            )
        self._session = session
        self._info = info
        self._samples = Moments.empty(int(info.waveform))
        self._windows = Moments.empty(info.channels)
        self._buffer = Buffer(np.zeros(0, dtype=np.float32))

    def add(self, samples: Waveform) -> None:
        """Add the next samples (n,)."""
        if self._info.waveform and len(samples):
            exact = samples.astype(np.float64)
            self._samples += Moments(
                len(exact), exact.mean(keepdims=True), exact.var(keepdims=True)
            )
        if self._info.channels:
            self._buffer.push(samples)
            self._add_windows()

    def value(self) -> Statistics:
        """Return the statistics (k,)."""
        parts = [self._samples.mean, self._samples.variance]
        parts += [self._windows.mean, self._windows.variance * self._unbiased(self._windows.count)]
        return np.concatenate(parts).astype(np.float32)

    def _unbiased(self, count: int) -> float:
        """Return the variance that the model takes, over the variance, of `count` values."""
        return count / (count - 1) if self._info.unbiased and count > 1 else 1.0

    def _add_windows(self) -> None:
        """Run `statistics.onnx` on the windows that are complete, each window once."""
        kernel, stride = self._info.kernel, self._info.stride
        most = self._session.manifest.most_samples
        while True:
            begin = self._windows.count * stride
            room = self._buffer.end - begin
            room = room if most is None else min(room, most)
            if room < kernel:
                return
            count = (room - kernel) // stride + 1
            end = begin + (count - 1) * stride + kernel
            inputs = collate([self._buffer.view(begin, end)])
            statistics = self._session.run("statistics", inputs)["statistics"][0]
            measured = statistics[-2 * self._info.channels :]
            mean, variance = np.split(measured.astype(np.float64), 2)
            self._windows += Moments(count, mean, variance / self._unbiased(count))
            self._buffer.release(begin + count * stride)


class PeriodicStatistics:
    """Statistics of a stream, updated at the end of each period."""

    def __init__(self, session: Session, period: float) -> None:
        """Start with no samples.

        Args:
            session: of a bundle with `statistics.onnx`.
            period: in seconds.
        """
        self._growing = GrowingStatistics(session)
        self._period = round(period * session.manifest.sample_rate)
        self._held: list[Waveform] = []
        self._count = 0
        self.value: Statistics | None = None
        """(k,); None before the first update."""

    def split(self, samples: Waveform) -> Iterator[Waveform]:
        """Split samples at the ends of periods."""
        while len(samples):
            room = self._period - self._count
            yield samples[:room]
            samples = samples[room:]

    def hold(self, piece: Waveform) -> bool:
        """Keep a piece until the next update; return whether the period is complete."""
        self._held.append(piece)
        self._count += len(piece)
        return self._count == self._period

    def update(self) -> None:
        """Add the held samples, all at once: block boundaries must not change a result."""
        if self._held:
            self._growing.add(np.concatenate(self._held))
        self._held, self._count = [], 0
        self.value = self._growing.value()


def choose_statistics(
    manifest: Manifest, statistics: Statistics | RunningStatistics | str | None
) -> Statistics | RunningStatistics | None:
    """Check a choice of statistics for a stream; None for a front end that needs none.

    Raises:
        InputError: statistics are needed and were not chosen, or do not fit the model.
    """
    if "statistics" not in manifest.graphs:
        return None
    if isinstance(statistics, str) and statistics == "running":
        return RunningStatistics()
    if isinstance(statistics, RunningStatistics):
        return statistics
    width = int(manifest.graphs["statistics"].outputs[0].axes[1])
    if isinstance(statistics, np.ndarray) and _are_statistics(statistics, width, manifest):
        return statistics.astype(np.float32)
    found = "none" if statistics is None else f"{type(statistics).__name__} that does not fit"
    raise InputError(
        f"the front end of this model needs {width} statistics of the whole utterance, found "
        f'{found}; choose statistics="running", or frozen ones: model.statistics(recording)'
    )


def _are_statistics(values: npt.NDArray[Any], width: int, manifest: Manifest) -> bool:
    """Whether an array is a statistics vector: its width, finite, no negative variance."""
    if values.shape != (width,) or not np.isfinite(values).all():
        return False
    info = manifest.statistics
    if info is None:
        return True
    channels = values[width - info.channels :]
    samples = values[1:2] if info.waveform else values[:0]
    return bool((channels >= 0).all() and (samples >= 0).all())
