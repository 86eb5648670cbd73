"""A stream: blocks of audio in, frames out as soon as they are final."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Resampler, Waveform, as_waveform, resampling_seconds
from w2v_edge.bundle import Manifest
from w2v_edge.errors import GraphMissingError, InputError
from w2v_edge.runtime.context_window import ContextWindow, ContextWindows, WindowPlan
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.frame_times import FrameTimes
from w2v_edge.runtime.frontend_stream import (
    FrontendStream,
    Graphs,
    RunningStatistics,
    Tensors,
)
from w2v_edge.runtime.statistics import Statistics

LONGEST_PIECE = 10.0
"""Seconds of a block that are worked on at once: memory does not grow with the block."""


class Stream:
    """From `Model.stream`. For one thread at a time; a model may have many streams.

        with model.stream(context=ContextWindow(step=0.32, left=4, right=0.32)) as stream:
            for block in blocks:
                frames = stream.push(block)     # an Encoding of what is final now
            frames = stream.flush()             # the rest

    Features, and codes made of them, are those of the whole signal, given the same statistics,
    whatever the blocks. Context lags behind by its window; `times` and `context_times` say where
    each frame lies. A piece may have no frames.
    """

    def __init__(
        self,
        run: Graphs,
        manifest: Manifest,
        statistics: Statistics | RunningStatistics | None,
        window: ContextWindow | None,
        sample_rate: int | None = None,
    ) -> None:
        """Open a stream over a bundle's graphs; see `Model.stream`.

        Raises:
            GraphMissingError: the bundle lacks one of its parts.
            InputError: the model's context cannot be had by windows, or not by this one.
        """
        check_graphs(manifest)
        self._run = run
        self._manifest = manifest
        self._statistics = statistics
        self._times = FrameTimes.of_manifest(manifest)
        self._empty = _empty_outputs(manifest)
        hop = self._times.context.hop
        self._plan = None if window is None else WindowPlan.of(window, manifest, hop)
        self._sample_rate = manifest.sample_rate if sample_rate is None else sample_rate
        self.reset()

    def reset(self) -> None:
        """Forget everything: what is pushed next is the beginning of another recording."""
        self._frontend = FrontendStream(self._run, self._manifest, self._statistics)
        self._context: ContextWindows | None = None
        if self._plan is not None:
            self._context = ContextWindows(
                lambda tensors: self._run("context", tensors),
                self._manifest.context_outputs,
                self._plan,
                self._times.context,
                self._manifest.features_dim,
            )
        self._resampler: Resampler | None = None
        if self._sample_rate != self._manifest.sample_rate:
            self._resampler = Resampler(self._sample_rate, self._manifest.sample_rate)
        self._ended = False
        self._broken = False

    @property
    def latency_ms(self) -> float:
        """Audio that must follow the middle of a frame before its features and codes are given.

        At another sample rate than the model's that is at worst: the resampler works in blocks.
        """
        geometry = self._manifest.geometry
        wait = (geometry.receptive_field - 1) / 2 / self._manifest.sample_rate
        if self._resampler is not None:
            wait += resampling_seconds(self._sample_rate, self._manifest.sample_rate)
        return 1000 * wait

    @property
    def context_latency_ms(self) -> float | None:
        """The same for the context at worst, the first frame of a step; None without context."""
        if self._plan is None:
            return None
        frames = self._plan.step - 1 + self._plan.right
        return self.latency_ms + 1000 * frames * self._manifest.hop / self._manifest.sample_rate

    @property
    def start_ms(self) -> float:
        """Audio that must come before anything is given: a period of running statistics."""
        if isinstance(self._statistics, RunningStatistics):
            return 1000 * self._statistics.period
        return 0.0

    @property
    def samples(self) -> int:
        """Samples taken in so far, at the model's rate."""
        return self._frontend.samples

    @property
    def seconds(self) -> float:
        """Audio taken in so far."""
        return self.samples / self._manifest.sample_rate

    def push(self, samples: npt.NDArray[Any]) -> Encoding:
        """Add what comes next, and return the frames that are final now.

        Args:
            samples: (n,) floats in [-1, 1] or int16 at the stream's sample rate, n of 0 or more.

        Raises:
            InputError: samples that cannot be right, which leave the stream as it was; or the
                stream has ended, or failed.
            InferenceError: onnxruntime ran out of memory. The stream has failed.
        """
        self._check_whole()
        if self._ended:
            raise InputError("found samples behind the end of a stream; call reset() to begin anew")
        # A copy: microphones fill the same block again.
        waveform = as_waveform(samples, None, self._manifest.sample_rate).copy()
        with self._all_or_broken():
            if self._resampler is not None:
                waveform = self._resampler.push(waveform)
            return self._collect(self._pushed(waveform))

    def flush(self) -> Encoding:
        """End the stream and return the frames that were still waiting.

        Raises:
            InputError: the stream has failed.
            InferenceError: as for `push`.
        """
        self._check_whole()
        pieces = [] if self._ended else self._rest()
        with self._all_or_broken():
            self._ended = True
            return self._collect(pieces)

    def means(self) -> Tensors:
        """Return what there is one vector of for the utterance, over the context given so far."""
        return {} if self._context is None else self._context.means()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of what is held; frames that still wait are lost without `flush`."""
        self.reset()
        self._ended = True

    def _check_whole(self) -> None:
        if self._broken:
            raise InputError(
                "found a stream that failed part-way, so frames are missing; call reset() to begin "
                "anew"
            )

    @contextmanager
    def _all_or_broken(self) -> Iterator[None]:
        """Frames that were cut and never given would leave a gap that nobody sees."""
        try:
            yield
        except BaseException:
            self._broken = True
            raise

    def _pushed(self, waveform: Waveform) -> Iterator[Tensors]:
        size = round(LONGEST_PIECE * self._manifest.sample_rate)
        for begin in range(0, len(waveform), size):
            for features in self._frontend.push(waveform[begin : begin + size]):
                yield from self._of_features(features)

    def _rest(self) -> Iterator[Tensors]:
        if self._resampler is not None:
            yield from self._pushed(self._resampler.flush())
        for features in self._frontend.flush():
            yield from self._of_features(features)
        yield from self._windows(ended=True)

    def _of_features(self, features: npt.NDArray[np.float32]) -> Iterator[Tensors]:
        made: Tensors = {"features": features}
        if self._manifest.quantizer_input == "features":
            made |= self._quantized("features", features)
        yield made
        if self._context is not None:
            self._context.push(features)
            yield from self._windows()

    def _windows(self, *, ended: bool = False) -> Iterator[Tensors]:
        while self._context is not None and (made := self._context.next(ended=ended)) is not None:
            if self._manifest.quantizer_input == "context":
                made |= self._quantized("context", made["context"])
            yield made

    def _quantized(self, name: str, frames: npt.NDArray[np.float32]) -> Tensors:
        made = self._run("quantizer", {name: np.ascontiguousarray(frames[np.newaxis])})
        return {output: values[0] for output, values in made.items()}

    def _collect(self, pieces: Iterable[Tensors]) -> Encoding:
        """Put pieces in one, empty ones included, with the times of their frames."""
        frames = self._frontend.frames
        context_frames = 0 if self._context is None else self._context.context_frames
        found: dict[str, list[npt.NDArray[Any]]] = {}
        for piece in pieces:
            for name, values in piece.items():
                found.setdefault(name, []).append(values)
        arrays = self._empty | {x: np.concatenate(values) for x, values in found.items()}
        times = self._times.of_features(len(arrays["features"]), frames)
        context_times = self._times.of_context(len(arrays["context"]), context_frames)
        return Encoding.of(arrays, times, context_times)


def choose_statistics(
    manifest: Manifest, statistics: Statistics | RunningStatistics | str | None
) -> Statistics | RunningStatistics | None:
    """Check a choice of statistics; None for a front end that needs none.

    Raises:
        InputError: they are needed and were not chosen, or do not fit.
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
    found = "none" if statistics is None else f"{type(statistics).__name__} that are none"
    raise InputError(
        f"the front end of this model needs {width} statistics of the whole utterance, found "
        f'{found}; choose statistics="running", or frozen ones: model.statistics(recording)'
    )


def _are_statistics(values: npt.NDArray[Any], width: int, manifest: Manifest) -> bool:
    """Tell whether an array is as long as statistics are, finite, and has no negative variance."""
    if values.shape != (width,) or not np.isfinite(values).all():
        return False
    info = manifest.statistics
    if info is None:
        return True
    channels = values[width - info.channels :]
    samples = values[1:2] if info.waveform else values[:0]
    return bool((channels >= 0).all() and (samples >= 0).all())


def check_graphs(manifest: Manifest) -> None:
    """Check that a bundle has the graphs that audio in pieces needs.

    Raises:
        GraphMissingError: it lacks one.
    """
    needed = ["frontend", "context"]
    needed += [] if manifest.quantizer_input is None else ["quantizer"]
    lacking = [name for name in needed if name not in manifest.graphs]
    if lacking:
        raise GraphMissingError(
            f"this bundle has no graph {lacking[0]!r}, and audio that comes in pieces needs it; "
            "copy the whole bundle or export again"
        )


def _empty_outputs(manifest: Manifest) -> Tensors:
    """Return what no frames look like: (0, ...) of each output."""
    by_frame = {x for x, lengths in manifest.context_outputs.items() if lengths is not None}
    tensors = [x for x in manifest.graphs["context"].outputs if x.name in by_frame]
    tensors += manifest.graphs["frontend"].outputs[:1]
    if "quantizer" in manifest.graphs:
        tensors += manifest.graphs["quantizer"].outputs
    types = {"float": np.float32, "int64": np.int64}
    return {x.name: np.zeros((0, *map(int, x.axes[2:])), types[x.type]) for x in tensors}
