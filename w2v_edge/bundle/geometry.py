"""Geometry of frames over samples: the arithmetic of a stack of strided convolutions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Span of samples that each frame of a front end sees.

    Frame `f` sees `receptive_field` samples from `f * hop - left_padding`; samples outside the
    utterance are zeros.

    Attributes:
        hop: samples from the start of one frame to the next.
        receptive_field: number of samples that one frame sees.
        left_padding: zeros that frame 0 sees before the first sample, in samples.
        right_padding: zeros that the last frame may see after the last sample, in samples.
    """

    hop: int
    receptive_field: int
    left_padding: int
    right_padding: int

    @classmethod
    def of_convolutions(cls, layers: Iterable[tuple[int, int, int]]) -> Geometry:
        """Compose (kernel, stride, padding) of each layer, first layer first."""
        hop, receptive_field, padding = 1, 1, 0
        for kernel, stride, pad in layers:
            receptive_field += (kernel - 1) * hop
            padding += pad * hop
            hop *= stride
        return cls(hop, receptive_field, padding, padding)

    @property
    def min_samples(self) -> int:
        """Minimum number of samples that give a frame."""
        return max(1, self.receptive_field - self.left_padding - self.right_padding)

    def frames(self, samples: int) -> int:
        """Return the number of frames of `samples` samples; 0 below `min_samples`."""
        if samples < self.min_samples:
            return 0
        padded = samples + self.left_padding + self.right_padding
        return (padded - self.receptive_field) // self.hop + 1

    @property
    def formula(self) -> str:
        """Formula of `frames` as text, for programs in other languages."""
        extra = self.left_padding + self.right_padding - self.receptive_field
        sign = "+" if extra >= 0 else "-"
        return (
            f"0 if samples < {self.min_samples} "
            f"else floor((samples {sign} {abs(extra)}) / {self.hop}) + 1"
        )
