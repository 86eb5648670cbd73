"""Cuts a waveform that grows into stretches that give whole frames, each frame once.

Given its statistics, a front end makes a frame from the samples it sees and nothing else: whatever
the blocks in which samples come, frames are those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from w2v_edge.audio import Waveform
from w2v_edge.geometry import Geometry
from w2v_edge.runtime.growing import Buffer


@dataclass(frozen=True)
class Stretch:
    """Samples to run the front end on, and which of the frames it gives are wanted.

    Attributes:
        waveform: (samples,).
        skipped: frames at its beginning that see an edge which the whole does not have.
        frames: the frames after these that are final.
    """

    waveform: Waveform
    skipped: int
    frames: int


class FrameCutter:
    """Holds no more samples than the frames to come will see."""

    def __init__(self, geometry: Geometry) -> None:
        """Begin with an empty waveform."""
        self._geometry = geometry
        self._ahead = -(-geometry.left_padding // geometry.hop)
        self._buffer = Buffer(np.zeros(0, dtype=np.float32))
        self.frames = 0
        """Frames cut so far."""

    @property
    def samples(self) -> int:
        """Samples pushed so far."""
        return self._buffer.end

    def push(self, samples: Waveform) -> None:
        """Add what comes next (samples,)."""
        self._buffer.push(samples)

    def cut(self, *, ended: bool = False) -> Stretch | None:
        """Return the frames that are final and were not cut before, None if there are none.

        Those that see beyond the samples pushed so far are final once the waveform has `ended`.
        """
        geometry = self._geometry
        final = geometry.frames(self.samples) if ended else self._inner()
        count = final - self.frames
        if count <= 0:
            return None
        first = max(0, self.frames - self._ahead)
        begin = first * geometry.hop
        end = self.samples
        if not ended:
            # As far as the last frame sees; samples beyond belong to frames that are not final.
            last = (final - 1) * geometry.hop - geometry.left_padding
            end = last + geometry.receptive_field
        waveform = self._buffer.view(begin, end)
        stretch = Stretch(waveform, self.frames - first, count)
        self.frames = final
        self._buffer.forget(max(0, final - self._ahead) * geometry.hop)
        return stretch

    def _inner(self) -> int:
        """Return how many frames see nothing beyond the samples pushed so far."""
        geometry = self._geometry
        room = self.samples + geometry.left_padding - geometry.receptive_field
        return room // geometry.hop + 1 if room >= 0 else 0
