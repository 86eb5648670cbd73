"""Windowed attention: the context of audio that is long, or has not ended yet."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Manifest, Tensors
from w2v_edge.errors import InputError
from w2v_edge.runtime.buffers import Buffer
from w2v_edge.runtime.encoding import FrameTimes
from w2v_edge.runtime.session import Session


@dataclass(frozen=True)
class Window:
    """The audio that attention sees at a time, in seconds.

    Attributes:
        step: audio whose context is kept; the window moves by as much.
        left: audio before the step, for context.
        right: audio after the step: look-ahead, in a stream.
    """

    step: float
    left: float
    right: float

    def __post_init__(self) -> None:
        """Check that all are seconds."""
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not (number and 0 <= value < math.inf) or not self.step:
                raise InputError(
                    f"found a window of {self}, expected seconds: a step above 0, left and right "
                    "of at least 0"
                )
            object.__setattr__(self, field.name, float(value))

    @property
    def seconds(self) -> float:
        """Length of the whole window."""
        return self.left + self.step + self.right


LONG_WINDOW = Window(step=20.0, left=5.0, right=5.0)
"""Default for recordings beyond the longest full-attention length."""

WHOLE_SECONDS = 60.0
"""Longest recording that is run whole where no attention is."""

STREAM_WINDOW = Window(step=0.32, left=4.0, right=0.32)
"""Default for streams."""


def default_window(manifest: Manifest) -> Window:
    """Return the window for long recordings, smaller if the model's full attention is shorter."""
    hop, seconds = _group(manifest)
    groups = manifest.shapes[-1].frames // hop if manifest.shapes else math.inf
    if groups * seconds < LONG_WINDOW.seconds:
        step = max(1, 2 * groups // 3)
        left = (groups - step) // 2
        return Window(step * seconds, left * seconds, (groups - step - left) * seconds)
    share = min(1.0, manifest.longest_context_seconds / LONG_WINDOW.seconds)
    return Window(LONG_WINDOW.step * share, LONG_WINDOW.left * share, LONG_WINDOW.right * share)


def _group(manifest: Manifest) -> tuple[int, float]:
    """Return the frames that windows are whole numbers of, and their seconds.

    They are those of a context frame, and of a group of frames that SEW's transformer sees as one:
    groups begin with those of the recording.
    """
    hop = FrameTimes.of_manifest(manifest).context.hop * manifest.squeeze
    return hop, hop * manifest.hop / manifest.sample_rate


def whole_seconds(manifest: Manifest) -> float:
    """Return the longest recording that is run whole where no attention is, in seconds.

    Longer ones are run block by block: the results are the same, and memory stays flat.
    """
    most = manifest.most_samples
    return WHOLE_SECONDS if most is None else min(WHOLE_SECONDS, most / manifest.sample_rate)


def remark_on_windows(manifest: Manifest, window: Window | None) -> None:
    """Warn of the default window of a bundle with fixed shapes, which may be short."""
    if manifest.shapes and window is not None and window == default_window(manifest):
        longest = manifest.longest_context_seconds
        warnings.warn(
            f"found audio beyond {longest:g} s, the largest shape of this bundle: its context is "
            f"computed in windows of {longest:g} s and differs from that of the whole recording; "
            "export with larger --samples, or choose a window",
            stacklevel=2,
        )


def check_window(window: object, manifest: Manifest) -> Window:
    """Check a window against the longest full-attention length of a model.

    Raises:
        InputError: another type, or too long.
    """
    if not isinstance(window, Window):
        raise InputError(
            f"found {window!r:.60} for a window, expected a w2v_edge.Window(step, left, right)"
        )
    longest = manifest.longest_context_seconds
    if window.seconds > longest:
        raise InputError(
            f"found a window of {window.seconds:g} s, expected at most {longest:g} s; "
            "choose a smaller step, left or right"
        )
    return window


@dataclass(frozen=True)
class FrameWindow:
    """A window in feature frames, each a whole number of context frames and of groups.

    Attributes:
        step, left, right: as in `Window`.
    """

    step: int
    left: int
    right: int

    @classmethod
    def of(cls, window: Window, manifest: Manifest) -> FrameWindow:
        """Round a window up to frames.

        Raises:
            InputError: the model's attention is defined over the whole utterance only, or the
                window is too long.
        """
        if manifest.config.get("context", {}).get("kind") == "query_softmax":
            raise InputError(
                "the attention of this model (tutorial) normalises over all frames of an "
                "utterance, so its context cannot be computed in windows; tokenize takes any length"
            )
        if manifest.frame_rate is not None:
            raise InputError(
                "this bundle resamples features over whole recordings (--frame-rate), so its "
                f"context cannot be computed in windows; found audio in pieces or beyond "
                f"{manifest.longest_context_seconds:g} s, expected whole recordings up to that"
            )
        check_window(window, manifest)
        hop, seconds = _group(manifest)
        # In floating point a multiple of a frame's length is often slightly more.
        step, left, right = (
            hop * math.ceil(x / seconds - 1e-6) for x in (window.step, window.left, window.right)
        )
        rounded = cls(max(hop, step), left, right)
        rounded._check_frames(manifest)
        return rounded

    def _check_frames(self, manifest: Manifest) -> None:
        """Raise `InputError` for more frames than graphs of fixed shapes have."""
        found = self.left + self.step + self.right
        if manifest.shapes and found > manifest.shapes[-1].frames:
            raise InputError(
                f"found a window of {found} frames, expected at most {manifest.shapes[-1].frames}, "
                "the largest shape of this bundle; choose a smaller step, left or right"
            )


class ContextStream:
    """Runs the context network in windows over features that arrive in chunks."""

    def __init__(self, session: Session, window: FrameWindow) -> None:
        """Start with no features.

        Args:
            session: of the bundle.
            window: in frames.
        """
        manifest = session.manifest
        self._session = session
        self._window = window
        self._outputs = manifest.context_outputs
        self._geometry = FrameTimes.of_manifest(manifest).context
        self._buffer = Buffer(np.zeros((0, manifest.features_dim), dtype=np.float32))
        self._is_xvector = manifest.embedding_min_frames is not None
        self._main = "mixed" if "mixed" in self._outputs else "context"
        self._pooled = {name: _Moments() for name, by in self._outputs.items() if by is None}
        self._widths = {x.name: x.axes[-1] for x in manifest.graphs["context"].outputs}
        self.frames = 0
        """Feature frames whose context was given."""
        self.context_frames = 0
        """Context frames given so far."""

    def push(self, features: npt.NDArray[np.float32]) -> None:
        """Append features (frames, channels)."""
        self._buffer.push(features)

    def next(self, *, ended: bool = False) -> Tensors | None:
        """Return the outputs (frames, ...) of the next step, or None if more features are needed.

        Once the features have `ended`, the last step also covers its `right`.
        """
        window, end = self._window, self._buffer.end
        left = end - self.frames
        last = ended and left <= window.step + window.right
        if not left or (left < window.step + window.right and not last):
            return None
        kept = left if last else window.step
        begin = max(0, self.frames - window.left)
        features = self._buffer.view(
            begin, end if last else self.frames + window.step + window.right
        )
        outputs = self._session.run(
            "context",
            {
                "features": np.ascontiguousarray(features[np.newaxis]),
                "frame_lengths": np.array([len(features)], dtype=np.int64),
            },
        )
        first = self.frames - begin
        hop = self._geometry.hop
        stop = self._geometry.frames(len(features)) if last else (first + kept) // hop
        kept_of = {
            "frame_lengths": slice(first, first + kept),
            "context_lengths": slice(first // hop, stop),
        }
        given = {
            name: outputs[name][0][kept_of[by]]
            for name, by in self._outputs.items()
            if by is not None
        }
        self._pool(outputs, given)
        self.frames += kept
        self.context_frames += len(given["context"])
        self._buffer.release(max(0, self.frames - window.left))
        return given

    def means(self) -> Tensors:
        """Return the outputs of one vector per utterance, pooled over the frames so far."""
        found = {name: x for name, x in self._pooled.items() if x.weight}
        return {name: x.pooled(std=self._has_std(name)) for name, x in found.items()}

    def _has_std(self, name: str) -> bool:
        """Whether standard deviations lie beside the means of an output."""
        if name != "embedding" or self._is_xvector:
            return False
        return self._widths[name] != self._widths[self._main]

    def _pool(self, outputs: Tensors, given: Tensors) -> None:
        frames = len(given["context"])
        for name, moments in self._pooled.items():
            if name == "embedding" and not self._is_xvector:
                moments.add(given[self._main], 1)
            # An x-vector of too few frames is zero.
            elif frames and (name != "embedding" or outputs[name].any()):
                # A linear map of a mean over frames, except for frames that windows share.
                moments.add(outputs[name], frames)


class _Moments:
    """Weighted mean and standard deviation of vectors, in float64."""

    def __init__(self) -> None:
        self.weight = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, vectors: npt.NDArray[np.float32], weight: int) -> None:
        """Add vectors (n, d), each with the same weight, n of 0 or more."""
        added = weight * len(vectors)
        if not added:
            return
        mean = vectors.mean(axis=0, dtype=np.float64)
        squares = weight * np.square(vectors - mean).sum(axis=0)
        # Chan et al. 1983: without the cancellation of sums of squares.
        apart = mean - self._mean
        total = self.weight + added
        self._squares = self._squares + squares + apart**2 * (self.weight * added / total)
        self._mean = self._mean + apart * (added / total)
        self.weight = total

    def pooled(self, *, std: bool) -> npt.NDArray[np.float32]:
        """Return the mean (d,), with `std` the unbiased standard deviation beside it (2 * d,)."""
        parts = [self._mean]
        if std:
            parts.append(np.sqrt(self._squares / max(1, self.weight - 1)))
        pooled: npt.NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
        return pooled
