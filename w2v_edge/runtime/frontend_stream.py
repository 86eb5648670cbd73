"""The front end over a waveform that comes in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform
from w2v_edge.bundle import Manifest
from w2v_edge.errors import InputError
from w2v_edge.runtime.batching import collate
from w2v_edge.runtime.frame_cutter import FrameCutter
from w2v_edge.runtime.statistics import GrowingStatistics, Statistics

Tensors = dict[str, npt.NDArray[Any]]
Features = npt.NDArray[np.float32]

SHORTEST_PERIOD, LONGEST_PERIOD = 0.1, 600.0


class Graphs(Protocol):
    """Runs a bundle's graphs by name."""

    def __call__(self, graph: str, inputs: Tensors) -> Tensors:
        """Run one graph on named tensors."""
        ...


@dataclass(frozen=True)
class RunningStatistics:
    """Take a front end's statistics from the stream itself, over all that was heard so far.

    They are brought up to date every `period` seconds, whatever the blocks that are pushed; frames
    of the first period wait for its end.
    """

    period: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no period."""
        period: object = self.period
        if not isinstance(period, Real) or not SHORTEST_PERIOD <= self.period < LONGEST_PERIOD:
            raise InputError(
                f"found a period of {self.period!r:.40} for running statistics, expected seconds, "
                f"from {SHORTEST_PERIOD} to {LONGEST_PERIOD:g}"
            )
        object.__setattr__(self, "period", float(self.period))


class FrontendStream:
    """Makes features as soon as they are final; the samples behind them are then let go."""

    def __init__(
        self, run: Graphs, manifest: Manifest, statistics: Statistics | RunningStatistics | None
    ) -> None:
        """Begin with an empty waveform.

        Args:
            run: the bundle's graphs.
            manifest: the bundle's.
            statistics: (k,) of the utterance, or how to come by them; None for a front end that
                needs none.
        """
        self._run = run
        self._cutter = FrameCutter(manifest.geometry)
        self._fixed = None if isinstance(statistics, RunningStatistics) else statistics
        self._running: _Running | None = None
        if isinstance(statistics, RunningStatistics):
            period = round(statistics.period * manifest.sample_rate)
            self._running = _Running(growing_statistics(run, manifest), period)

    @property
    def samples(self) -> int:
        """Samples pushed so far."""
        return self._cutter.samples

    @property
    def frames(self) -> int:
        """Frames given so far."""
        return self._cutter.frames

    def push(self, samples: Waveform) -> Iterator[Features]:
        """Add samples and yield the features (frames, channels) that they complete."""
        if self._running is None:
            self._cutter.push(samples)
            yield from self._features(self._fixed)
            return
        for piece in self._running.pieces(samples):
            self._cutter.push(piece)
            complete = self._running.hold(piece)
            if complete and self._running.value is None:
                self._running.update()
                complete = False
            if self._running.value is not None:
                yield from self._features(self._running.value)
            if complete:
                self._running.update()

    def flush(self) -> Iterator[Features]:
        """Yield the features that only the end of the waveform makes final."""
        statistics = self._fixed
        if self._running is not None:
            if self._running.value is None:
                self._running.update()
            statistics = self._running.value
        yield from self._features(statistics, ended=True)

    def _features(
        self, statistics: Statistics | None, *, ended: bool = False
    ) -> Iterator[Features]:
        stretch = self._cutter.cut(ended=ended)
        if stretch is None:
            return
        inputs: Tensors = collate([stretch.waveform])
        if statistics is not None:
            inputs["statistics"] = statistics[np.newaxis]
        features = self._run("frontend", inputs)["features"][0]
        yield features[stretch.skipped : stretch.skipped + stretch.frames]


class _Running:
    """Statistics that are brought up to date at the end of each period."""

    def __init__(self, growing: GrowingStatistics, period: int) -> None:
        self._growing = growing
        self._period = period
        self._held: list[Waveform] = []
        self._count = 0
        self.value: Statistics | None = None

    def pieces(self, samples: Waveform) -> Iterator[Waveform]:
        """Cut samples where periods end."""
        while len(samples):
            room = self._period - self._count
            yield samples[:room]
            samples = samples[room:]

    def hold(self, piece: Waveform) -> bool:
        """Keep a piece until the next update; tell whether the period is complete."""
        self._held.append(piece)
        self._count += len(piece)
        return self._count == self._period

    def update(self) -> None:
        """Take in what is held: all at once, so that the blocks it came in leave no trace."""
        if self._held:
            self._growing.add(np.concatenate(self._held))
        self._held, self._count = [], 0
        self.value = self._growing.value()


def growing_statistics(run: Graphs, manifest: Manifest) -> GrowingStatistics:
    """Return statistics of nothing yet, for a bundle that has `statistics.onnx`.

    Raises:
        InputError: the bundle does not say what they are of.
    """
    if manifest.statistics is None:
        raise InputError(
            "this bundle does not say how the statistics of its front end are put together; "
            "export it again"
        )

    def measure(samples: Waveform) -> Statistics:
        statistics: Statistics = run("statistics", collate([samples]))["statistics"][0]
        return statistics

    return GrowingStatistics(measure, manifest.statistics)
