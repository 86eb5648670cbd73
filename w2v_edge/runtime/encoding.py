"""The outputs of a model for one waveform, and the times of their frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Geometry, Manifest
from w2v_edge.bundle.resampling import Resampling

LAYER = "layer_"
HEAD = "logits_"

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Encoding:
    """The outputs of a model for one waveform; outputs that the model lacks are None.

    Attributes:
        context: (frames, dim) float32 context representations, the transformer's last hidden state.
        features: (frames, channels) float32 latent features, which most quantizers consume.
        codes: (frames, groups) int64 codebook entries.
        vectors: (frames, vector_dim) float32, the codebook vectors of these entries.
        times: (frames,) float64 seconds, the center of each feature frame's receptive field.
        context_times: (frames,) float64 seconds, the same for the context, for logits, and for
            codes computed from the context; they differ where the context has fewer frames. Of
            features resampled to a frame rate, the middles of frames of that rate.
        logits: (frames, labels) or, of one vector per utterance, (labels,) float32.
        layers: (frames, dim) float32 outputs of transformer layers, by number; 0 is the
            first layer's input. Their frames are those of `times`, or, where features are
            resampled, of `context_times`.
        mixed: (frames, dim) float32, the mean of some layers' outputs, with their frames.
        embedding: (dim,) float32, a speaker's embedding (x-vector), or the mean over frames, of
            `mixed` if there is one and of the context otherwise; (2 * dim,) with the standard
            deviations beside it.
        projected: (frames, width) float32, the checkpoint's own projection of the context.
        heads: (labels,) float32 logits of several classifiers, by name.
    """

    context: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64] | None
    vectors: npt.NDArray[np.float32] | None
    times: Times
    context_times: Times
    logits: npt.NDArray[np.float32] | None = None
    layers: Mapping[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    embedding: npt.NDArray[np.float32] | None = None
    projected: npt.NDArray[np.float32] | None = None
    heads: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    mixed: npt.NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        """Return the shape of each output: the values of a minute would fill pages."""
        shapes = [
            f"{name}: {value.shape}"
            for name, value in vars(self).items()
            if value is not None and value is not self.layers and value is not self.heads
        ]
        named = (("layers", self.layers), ("heads", self.heads))
        shapes += [f"{name}: {tuple(values)}" for name, values in named if values]
        return f"Encoding({', '.join(shapes)})"

    @classmethod
    def of(
        cls, tensors: Mapping[str, npt.NDArray[Any]], times: Times, context_times: Times
    ) -> Encoding:
        """Collect the outputs of one utterance, by their names in `w2v_edge.bundle`."""
        return cls(
            context=tensors["context"],
            features=tensors["features"],
            codes=tensors.get("codes"),
            vectors=tensors.get("vectors"),
            times=times,
            context_times=context_times,
            logits=tensors.get("logits"),
            layers={int(number): values for number, values in _with_prefix(tensors, LAYER)},
            heads=dict(_with_prefix(tensors, HEAD)),
            embedding=tensors.get("embedding"),
            projected=tensors.get("projected"),
            mixed=tensors.get("mixed"),
        )

    def with_pooled(self, tensors: Mapping[str, npt.NDArray[Any]]) -> Encoding:
        """Return an encoding with these outputs of one vector per utterance, by their names."""
        return replace(
            self,
            embedding=tensors.get("embedding"),
            logits=tensors.get("logits", self.logits),
            heads=dict(_with_prefix(tensors, HEAD)),
        )


def _with_prefix(
    tensors: Mapping[str, npt.NDArray[Any]], prefix: str
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield tensors whose names have a prefix, by the rest of their names."""
    for name, values in tensors.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), values


@dataclass(frozen=True)
class FrameTimes:
    """Times of frames in seconds, by the manifest's convention.

    Attributes:
        features: geometry of feature frames over samples.
        context: geometry of context frames over feature frames; an adapter makes them fewer.
        sample_rate: in Hz.
        frame_rate: of context frames that were resampled, in Hz; None for others.
    """

    features: Geometry
    context: Geometry
    sample_rate: int
    frame_rate: float | None = None

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> FrameTimes:
        """Read the geometry of a bundle."""
        adapter = manifest.config.get("context", {}).get("adapter")
        layers = []
        if adapter is not None:
            layers = [(adapter["kernel"], adapter["stride"], adapter["padding"])]
            layers *= adapter["layers"]
        geometry = Geometry.of_convolutions(layers)
        return cls(manifest.geometry, geometry, manifest.sample_rate, manifest.frame_rate)

    def context_frames(self, frames: int) -> int:
        """Return the context frames of `frames` feature frames."""
        if self.frame_rate is None:
            return self.context.frames(frames)
        resampling = Resampling.of(self.frame_rate, self.features.hop, self.sample_rate)
        return resampling.frames(frames)

    def of_features(self, frames: int, first: int = 0) -> Times:
        """Return the times (frames,) of feature frames from index `first`."""
        return self._centers(np.arange(first, first + frames))

    def of_context(self, frames: int, first: int = 0) -> Times:
        """Return the times (frames,) of frames of the context and of logits from index `first`.

        Resampled frames are a video's: the times are the middles of its frames.
        """
        if self.frame_rate is not None:
            return np.arange(first + 0.5, first + frames) / self.frame_rate
        center = (self.context.receptive_field - 1) / 2 - self.context.left_padding
        return self._centers(np.arange(first, first + frames) * self.context.hop + center)

    @property
    def context_seconds(self) -> float:
        """Seconds between frames of the context and of logits."""
        if self.frame_rate is not None:
            return 1 / self.frame_rate
        return self.context.hop * self.features.hop / self.sample_rate

    def _centers(self, frames: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> Times:
        geometry = self.features
        center = (geometry.receptive_field - 1) / 2 - geometry.left_padding
        times: Times = (frames * geometry.hop + center) / self.sample_rate
        return times
