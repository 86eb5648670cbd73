"""A stream: blocks of audio in, frames out as soon as they are final."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from w2v_edge.audio.waveform import Resampler, Waveform, as_waveform, resampling_seconds
from w2v_edge.bundle import Manifest, Tensors
from w2v_edge.bundle.manifest import NUMPY_TYPES
from w2v_edge.errors import GraphMissingError, InputError
from w2v_edge.runtime.encoding import Encoding, FrameTimes
from w2v_edge.runtime.frontend import FrontendStream
from w2v_edge.runtime.recordings import BLOCK_SECONDS
from w2v_edge.runtime.session import Session
from w2v_edge.runtime.statistics import RunningStatistics, Statistics
from w2v_edge.runtime.window import ContextStream, FrameWindow, Window


class SplitEncoder:
    """Runs `frontend`, `quantizer` and `context` over a waveform that arrives in chunks."""

    def __init__(
        self,
        session: Session,
        statistics: Statistics | RunningStatistics | None,
        window: FrameWindow | None,
    ) -> None:
        """Start with an empty waveform.

        Args:
            session: of the bundle.
            statistics: (k,) of the utterance, or running ones; None for a front end without.
            window: of the context network; None to leave it out.
        """
        self._session = session
        self._codes_from = session.manifest.quantizer_input
        self.frontend = FrontendStream(session, statistics)
        self.context = None if window is None else ContextStream(session, window)

    def push(self, waveform: Waveform) -> Iterator[Tensors]:
        """Add samples and yield the outputs (frames, ...) that they complete, by name."""
        size = round(BLOCK_SECONDS * self._session.manifest.sample_rate)
        for begin in range(0, len(waveform), size):
            for features in self.frontend.push(waveform[begin : begin + size]):
                yield from self._outputs(features)

    def flush(self) -> Iterator[Tensors]:
        """Yield the outputs that only the end of the waveform makes final."""
        for features in self.frontend.flush():
            yield from self._outputs(features)
        yield from self._context_steps(ended=True)

    def means(self) -> Tensors:
        """Return the outputs of one vector per utterance, averaged over the frames so far."""
        return {} if self.context is None else self.context.means()

    def _outputs(self, features: npt.NDArray[np.float32]) -> Iterator[Tensors]:
        outputs: Tensors = {"features": features}
        if self._codes_from == "features":
            outputs |= self._quantize("features", features)
        yield outputs
        if self.context is not None:
            self.context.push(features)
            yield from self._context_steps()

    def _context_steps(self, *, ended: bool = False) -> Iterator[Tensors]:
        while self.context is not None and (step := self.context.next(ended=ended)) is not None:
            if self._codes_from == "context":
                step |= self._quantize("context", step["context"])
            yield step

    def _quantize(self, name: str, frames: npt.NDArray[np.float32]) -> Tensors:
        inputs = {name: np.ascontiguousarray(frames[np.newaxis])}
        return {x: values[0] for x, values in self._session.run("quantizer", inputs).items()}


class Stream:
    """From `Model.stream`. For one thread at a time; a model may have many streams.

        with model.stream(context=Window(step=0.32, left=4, right=0.32)) as stream:
            for block in blocks:
                frames = stream.push(block)     # an Encoding of the frames that are final now
            frames = stream.flush()             # the rest

    Features, and codes computed from them, are those of the whole signal, given the same
    statistics, whatever the blocks. The context lags behind by its window; `times` and
    `context_times` state where each frame lies. A result may have no frames.
    """

    def __init__(
        self,
        session: Session,
        statistics: Statistics | RunningStatistics | None,
        window: Window | None,
        sample_rate: int | None = None,
    ) -> None:
        """Open a stream over a bundle's graphs; see `Model.stream`.

        Args:
            session: of the bundle.
            statistics: (k,) of the utterance, or running ones; None for a front end without.
            window: of the context network; None to leave it out.
            sample_rate: Hz of the blocks; None for the model's.

        Raises:
            GraphMissingError: the bundle lacks one of its split graphs.
            InputError: the model's context cannot be computed in windows, or not in this one.
        """
        manifest = session.manifest
        check_graphs(manifest)
        self._session = session
        self._manifest = manifest
        self._statistics = statistics
        self._times = FrameTimes.of_manifest(manifest)
        self._empty = _empty_outputs(manifest)
        self._window = None if window is None else FrameWindow.of(window, manifest)
        self._sample_rate = manifest.sample_rate if sample_rate is None else sample_rate
        self.reset()

    def reset(self) -> None:
        """Forget all audio: the next block starts another recording."""
        self._encoder = SplitEncoder(self._session, self._statistics, self._window)
        self._resampler: Resampler | None = None
        if self._sample_rate != self._manifest.sample_rate:
            self._resampler = Resampler(self._sample_rate, self._manifest.sample_rate)
        self._ended = False
        self._failed = False

    @property
    def latency_ms(self) -> float:
        """Audio needed after the center of a frame before its features and codes are given.

        With another sample rate than the model's this is the worst case: resampling is blockwise.
        """
        geometry = self._manifest.geometry
        wait = (geometry.receptive_field - 1) / 2 / self._manifest.sample_rate
        if self._resampler is not None:
            wait += resampling_seconds(self._sample_rate, self._manifest.sample_rate)
        return 1000 * wait

    @property
    def context_latency_ms(self) -> float | None:
        """The same for the context, for the first frame of a step; None without context."""
        if self._window is None:
            return None
        frames = self._window.step - 1 + self._window.right
        return self.latency_ms + 1000 * frames * self._manifest.hop / self._manifest.sample_rate

    @property
    def start_ms(self) -> float:
        """Audio needed before the first frame is given: a period of running statistics."""
        if isinstance(self._statistics, RunningStatistics):
            return 1000 * self._statistics.period
        return 0.0

    @property
    def samples(self) -> int:
        """Samples received so far, at the model's rate."""
        return self._encoder.frontend.samples

    @property
    def seconds(self) -> float:
        """Seconds of audio received so far."""
        return self.samples / self._manifest.sample_rate

    def push(self, samples: npt.NDArray[Any]) -> Encoding:
        """Add a block and return the frames that are final now.

        Args:
            samples: (n,) floats in [-1, 1] or int16 at the stream's sample rate, n of 0 or more.

        Raises:
            InputError: samples that cannot be used, which leave the stream as it was; or the
                stream has ended or failed.
            InferenceError: onnxruntime ran out of memory. The stream has failed.
        """
        self._check_usable()
        if self._ended:
            raise InputError("found samples after the end of a stream; call reset() to start anew")
        # A copy: microphones fill the same block again.
        waveform = as_waveform(samples, None, self._manifest.sample_rate).copy()
        with self._failing():
            if self._resampler is not None:
                waveform = self._resampler.push(waveform)
            return self._collect(self._encoder.push(waveform))

    def flush(self) -> Encoding:
        """End the stream and return the remaining frames.

        Raises:
            InputError: the stream has failed.
            InferenceError: as for `push`.
        """
        self._check_usable()
        outputs = iter(()) if self._ended else self._rest()
        with self._failing():
            self._ended = True
            return self._collect(outputs)

    def means(self) -> Tensors:
        """Return the mean-pooled outputs (embedding, logits) over the frames given so far."""
        return self._encoder.means()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release all audio; frames not given yet are lost without `flush`."""
        self.reset()
        self._ended = True

    def _rest(self) -> Iterator[Tensors]:
        if self._resampler is not None:
            yield from self._encoder.push(self._resampler.flush())
        yield from self._encoder.flush()

    def _check_usable(self) -> None:
        if self._failed:
            raise InputError(
                "found a stream that failed before, so frames are missing; call reset() to start "
                "anew"
            )

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Mark the stream as failed on an error: frames lost in it would be a silent gap."""
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    def _collect(self, pieces: Iterable[Tensors]) -> Encoding:
        """Concatenate outputs, empty ones included, and add the times of their frames."""
        first = self._encoder.frontend.frames
        context = self._encoder.context
        first_context = 0 if context is None else context.context_frames
        found: dict[str, list[npt.NDArray[Any]]] = {}
        for piece in pieces:
            for name, values in piece.items():
                found.setdefault(name, []).append(values)
        tensors = self._empty | {x: np.concatenate(values) for x, values in found.items()}
        times = self._times.of_features(len(tensors["features"]), first)
        context_times = self._times.of_context(len(tensors["context"]), first_context)
        return Encoding.of(tensors, times, context_times)


def check_graphs(manifest: Manifest) -> None:
    """Check that a bundle has the split graphs, which audio in chunks needs.

    Raises:
        GraphMissingError: it lacks one.
    """
    needed = ["frontend", "context"]
    needed += [] if manifest.quantizer_input is None else ["quantizer"]
    missing = [name for name in needed if name not in manifest.graphs]
    if missing:
        raise GraphMissingError(
            f"this bundle has no graph {missing[0]!r}, which audio in chunks needs; "
            "copy the whole bundle or export again"
        )


def _empty_outputs(manifest: Manifest) -> Tensors:
    """Return each output with no frames, (0, ...)."""
    by_frame = {x for x, lengths in manifest.context_outputs.items() if lengths is not None}
    tensors = [x for x in manifest.graphs["context"].outputs if x.name in by_frame]
    tensors += manifest.graphs["frontend"].outputs[:1]
    if "quantizer" in manifest.graphs:
        tensors += manifest.graphs["quantizer"].outputs
    return {x.name: np.zeros((0, *map(int, x.axes[2:])), NUMPY_TYPES[x.type]) for x in tensors}
