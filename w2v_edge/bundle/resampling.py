"""Resampling of feature frames to another frame rate, such as that of a video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MAX_DENOMINATOR = 1001
"""Frame rates are fractions with at most this denominator: 30000/1001 is NTSC's."""

MIN_FRAME_RATE = 1.0
MAX_FRAME_RATE = 1000.0
"""Bounds of a frame rate, in frames per second."""


@dataclass(frozen=True)
class Resampling:
    """Number of frames after a linear resampling that maps first to first and last to last.

    n frames become ceil(n * up / down). At up to 40 frames per second, that is the number of video
    frames of audio that lasts a whole number of them, for the usual hop of 20 ms and receptive
    field of 25 ms.

    Attributes:
        up: numerator of the frames after per frame before.
        down: its denominator.
    """

    up: int
    down: int

    @classmethod
    def of(cls, frame_rate: float, hop: int, sample_rate: int) -> Resampling:
        """Resample frames with `hop` samples in between to `frame_rate` in Hz."""
        rate = Fraction(frame_rate).limit_denominator(MAX_DENOMINATOR)
        ratio = rate * hop / sample_rate
        return cls(ratio.numerator, ratio.denominator)

    def frames(self, frames: int) -> int:
        """Return the frames that `frames` frames become."""
        return -(-frames * self.up // self.down)
