"""The front end over a waveform that arrives in chunks.

Given its statistics, a front end computes a frame from the samples of the frame's receptive field
and nothing else. So whatever the chunks, the frames are those of the whole waveform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_edge.audio.waveform import Waveform
from w2v_edge.bundle import Geometry
from w2v_edge.runtime.buffers import Buffer
from w2v_edge.runtime.recordings import collate
from w2v_edge.runtime.session import Session
from w2v_edge.runtime.statistics import PeriodicStatistics, RunningStatistics, Statistics

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """Samples to run the front end on, and which of the resulting frames to keep.

    Attributes:
        waveform: (samples,).
        skipped: leading frames whose receptive field crosses an edge that the whole lacks.
        frames: frames after these that are final.
    """

    waveform: Waveform
    skipped: int
    frames: int


class FrameBuffer:
    """Cuts a growing waveform into chunks that give each frame once.

    It holds only the samples that frames to come will see.
    """

    def __init__(self, geometry: Geometry, most_samples: int | None = None) -> None:
        """Start with an empty waveform.

        Args:
            geometry: of the front end's frames.
            most_samples: of a chunk, several receptive fields; None for any number.
        """
        self._geometry = geometry
        self._most = most_samples
        self._ahead = -(-geometry.left_padding // geometry.hop)
        self._buffer = Buffer(np.zeros(0, dtype=np.float32))
        self.frames = 0
        """Frames cut so far."""

    @property
    def samples(self) -> int:
        """Samples pushed so far."""
        return self._buffer.end

    def push(self, samples: Waveform) -> None:
        """Append samples (n,)."""
        self._buffer.push(samples)

    def cut(self, *, ended: bool = False) -> Chunk | None:
        """Return frames that are final and were not cut before, as many as a chunk may have.

        Frames that see beyond the samples pushed so far are final once the waveform has `ended`.
        None if there are none.
        """
        geometry = self._geometry
        final = geometry.frames(self.samples) if ended else self._final_frames()
        first = max(0, self.frames - self._ahead)
        begin = first * geometry.hop
        if self._most is not None and (not ended or self.samples - begin > self._most):
            room = self._most + geometry.left_padding - geometry.receptive_field
            final, ended = min(final, first + room // geometry.hop + 1), False
        count = final - self.frames
        if count <= 0:
            return None
        end = self.samples
        if not ended:
            # The end of the last frame's receptive field; later samples are for later frames.
            last = (final - 1) * geometry.hop - geometry.left_padding
            end = last + geometry.receptive_field
        chunk = Chunk(self._buffer.view(begin, end), self.frames - first, count)
        self.frames = final
        self._buffer.release(max(0, final - self._ahead) * geometry.hop)
        return chunk

    def _final_frames(self) -> int:
        """Return the number of frames that see nothing beyond the samples pushed so far."""
        geometry = self._geometry
        room = self.samples + geometry.left_padding - geometry.receptive_field
        return room // geometry.hop + 1 if room >= 0 else 0


class FrontendStream:
    """Computes features as soon as they are final, and releases samples no longer needed."""

    def __init__(self, session: Session, statistics: Statistics | RunningStatistics | None) -> None:
        """Start with an empty waveform.

        Args:
            session: of the bundle.
            statistics: (k,) of the utterance, or running ones; None for a front end without.
        """
        self._session = session
        self._buffer = FrameBuffer(session.manifest.geometry, session.manifest.most_samples)
        self._frozen = None if isinstance(statistics, RunningStatistics) else statistics
        self._running: PeriodicStatistics | None = None
        if isinstance(statistics, RunningStatistics):
            self._running = PeriodicStatistics(session, statistics.period)

    @property
    def samples(self) -> int:
        """Samples pushed so far."""
        return self._buffer.samples

    @property
    def frames(self) -> int:
        """Frames given so far."""
        return self._buffer.frames

    def push(self, samples: Waveform) -> Iterator[Features]:
        """Add samples and yield the features (frames, channels) that they complete."""
        if self._running is None:
            self._buffer.push(samples)
            yield from self._features(self._frozen)
            return
        for piece in self._running.split(samples):
            self._buffer.push(piece)
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
        statistics = self._frozen
        if self._running is not None:
            if self._running.value is None:
                self._running.update()
            statistics = self._running.value
        yield from self._features(statistics, ended=True)

    def _features(
        self, statistics: Statistics | None, *, ended: bool = False
    ) -> Iterator[Features]:
        while (chunk := self._buffer.cut(ended=ended)) is not None:
            inputs = collate([chunk.waveform])
            if statistics is not None:
                inputs["statistics"] = statistics[np.newaxis]
            features = self._session.run("frontend", inputs)["features"][0]
            yield features[chunk.skipped : chunk.skipped + chunk.frames]
