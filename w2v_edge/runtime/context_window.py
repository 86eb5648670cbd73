"""Attention over a window that moves: context of audio that is long, or not over yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Manifest
from w2v_edge.errors import InputError
from w2v_edge.geometry import Geometry
from w2v_edge.runtime.growing import Buffer

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ContextWindow:
    """What a window shows to the context network, all in seconds.

    Attributes:
        step: of audio whose context is kept; the window moves on by as much.
        left: of audio before it that it sees.
        right: of audio behind it that it sees: look-ahead, in a stream.
    """

    step: float
    left: float
    right: float

    def __post_init__(self) -> None:
        """Refuse what is no window."""
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not (number and 0 <= value < math.inf) or not self.step:
                raise InputError(
                    f"found a context window of {self}, expected seconds: a step above 0, left and "
                    "right of at least 0"
                )
            object.__setattr__(self, field.name, float(value))

    @property
    def seconds(self) -> float:
        """Length of the whole window."""
        return self.left + self.step + self.right


LONG = ContextWindow(step=20.0, left=5.0, right=5.0)
"""Of recordings that are too long for attention over all of them."""

STREAM = ContextWindow(step=0.32, left=4.0, right=0.32)
"""Of streams."""


def long_window(manifest: Manifest) -> ContextWindow:
    """Return the window for recordings, smaller where the model's attention takes less at once."""
    share = min(1.0, manifest.longest_context_seconds / LONG.seconds)
    return ContextWindow(LONG.step * share, LONG.left * share, LONG.right * share)


def check_window(window: object, manifest: Manifest) -> ContextWindow:
    """Refuse what is no window, or longer than the model's attention should be.

    Raises:
        InputError: it is.
    """
    if not isinstance(window, ContextWindow):
        raise InputError(
            f"found {window!r:.60} for a window, expected a ContextWindow(step, left, right) of "
            "w2v_edge.runtime.context_window"
        )
    longest = manifest.longest_context_seconds
    if window.seconds > longest:
        raise InputError(
            f"found a context window of {window.seconds:g} s, expected at most {longest:g} s; "
            "take a smaller step, left or right"
        )
    return window


@dataclass(frozen=True)
class WindowPlan:
    """A window in frames of the features, whole numbers of context frames each."""

    step: int
    left: int
    right: int

    @classmethod
    def of(cls, window: ContextWindow, manifest: Manifest, hop: int) -> WindowPlan:
        """Round a window up; `hop` is the features' frames from one of the context to the next.

        Raises:
            InputError: the model's attention is defined over the whole utterance only, or the
                window is longer than it should be.
        """
        if manifest.config.get("context", {}).get("kind") == "query_softmax":
            raise InputError(
                "the attention of this model (tutorial) weighs all frames of an utterance against "
                "each other, so its context of a whole cannot be put together from pieces; "
                "tokenize takes any length"
            )
        check_window(window, manifest)
        seconds = hop * manifest.hop / manifest.sample_rate
        # A multiple of a frame's length is often not quite one in floating point.
        step, left, right = (
            hop * math.ceil(x / seconds - 1e-6) for x in (window.step, window.left, window.right)
        )
        return cls(max(hop, step), left, right)


class ContextWindows:
    """Runs the context network on features that come in pieces."""

    def __init__(
        self,
        run: Callable[[Tensors], Tensors],
        outputs: Mapping[str, str | None],
        plan: WindowPlan,
        context: Geometry,
        channels: int,
    ) -> None:
        """Begin with nothing.

        Args:
            run: runs `context.onnx`.
            outputs: its outputs, with the lengths each goes by; see `Manifest.context_outputs`.
            plan: the window.
            context: how frames of the context lie over those of the features.
            channels: of the features.
        """
        self._run = run
        self._outputs = outputs
        self._plan = plan
        self._context = context
        self._buffer = Buffer(np.zeros((0, channels), dtype=np.float32))
        self._means: dict[str, _Mean] = {x: _Mean() for x, by in outputs.items() if by is None}
        self.frames = 0
        """Frames of the features whose context was given."""
        self.context_frames = 0
        """Frames of the context that were given."""

    def push(self, features: npt.NDArray[np.float32]) -> None:
        """Add what comes next (frames, channels)."""
        self._buffer.push(features)

    def next(self, *, ended: bool = False) -> Tensors | None:
        """Return the next step's outputs (frames, ...) by name, None if more must come first.

        Once the features have `ended`, a last step may be longer, by what would have been to its
        right.
        """
        plan, end = self._plan, self._buffer.end
        left = end - self.frames
        last = ended and left <= plan.step + plan.right
        if not left or (left < plan.step + plan.right and not last):
            return None
        kept = left if last else plan.step
        begin = max(0, self.frames - plan.left)
        window = self._buffer.view(begin, end if last else self.frames + plan.step + plan.right)
        made = self._run(
            {
                "features": np.ascontiguousarray(window[np.newaxis]),
                "frame_lengths": np.array([len(window)], dtype=np.int64),
            }
        )
        first = self.frames - begin
        hop = self._context.hop
        stop = self._context.frames(len(window)) if last else (first + kept) // hop
        kept_of = {
            "frame_lengths": slice(first, first + kept),
            "context_lengths": slice(first // hop, stop),
        }
        given = {x: made[x][0][kept_of[by]] for x, by in self._outputs.items() if by is not None}
        self._add_means(made, given["context"])
        self.frames += kept
        self.context_frames += len(given["context"])
        self._buffer.forget(max(0, self.frames - plan.left))
        return given

    def means(self) -> Tensors:
        """Return what there is one vector of for the utterance, over the steps so far."""
        return {x: mean.value() for x, mean in self._means.items() if mean.weight}

    def _add_means(self, made: Tensors, context: npt.NDArray[np.float32]) -> None:
        for name, mean in self._means.items():
            if name == "embedding":
                mean.add(context.sum(axis=0, dtype=np.float64), len(context))
            else:
                # A linear map of a mean over frames, but for those that windows share.
                mean.add(made[name][0] * np.float64(len(context)), len(context))


class _Mean:
    """A mean in float64."""

    def __init__(self) -> None:
        self.weight = 0
        self._sum: Any = 0.0

    def add(self, total: npt.NDArray[np.float64], weight: int) -> None:
        self._sum = self._sum + total
        self.weight += weight

    def value(self) -> npt.NDArray[np.float32]:
        mean: npt.NDArray[np.float32] = np.asarray(self._sum / self.weight, dtype=np.float32)
        return mean
