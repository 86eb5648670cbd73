"""Where frames lie in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Manifest
from w2v_edge.geometry import Geometry

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrameTimes:
    """The middle of what frames see, in seconds, by the manifest's convention."""

    features: Geometry
    context: Geometry
    """How frames of the context lie over those of the features: an adapter makes them fewer."""
    sample_rate: int

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> FrameTimes:
        """Read what a bundle says."""
        adapter = manifest.config.get("context", {}).get("adapter")
        layers = []
        if adapter is not None:
            layers = [(adapter["kernel"], adapter["stride"], adapter["padding"])]
            layers *= adapter["layers"]
        return cls(manifest.geometry, Geometry.of_convolutions(layers), manifest.sample_rate)

    def of_features(self, frames: int, first: int = 0) -> Times:
        """Return the times (frames,) of frames of the features, from number `first` on."""
        return self._middle(np.arange(first, first + frames))

    def of_context(self, frames: int, first: int = 0) -> Times:
        """Return the same for frames of the context and of logits."""
        middle = (self.context.receptive_field - 1) / 2 - self.context.left_padding
        return self._middle(np.arange(first, first + frames) * self.context.hop + middle)

    @property
    def context_seconds(self) -> float:
        """Seconds from one frame of the context and of logits to the next."""
        return self.context.hop * self.features.hop / self.sample_rate

    def _middle(self, frames: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> Times:
        geometry = self.features
        middle = (geometry.receptive_field - 1) / 2 - geometry.left_padding
        times: Times = (frames * geometry.hop + middle) / self.sample_rate
        return times
