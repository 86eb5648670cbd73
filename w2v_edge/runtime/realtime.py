"""Audio in real time, as a microphone delivers it, and whether processing keeps up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from w2v_edge.audio.waveform import Waveform
from w2v_edge.runtime.recordings import rechunk


@dataclass(frozen=True)
class Block:
    """Samples (n,) at the model's rate, and the time at which the last of them was available."""

    samples: Waveform
    due: float


@dataclass
class Pace:
    """Whether processing kept up with the audio; times in seconds.

    Attributes:
        work: processing time of each block.
        late: blocks still in progress when the next one was available.
        behind: longest delay from a block being available to its processing.
    """

    work: list[float] = field(default_factory=list)
    late: int = 0
    behind: float = 0.0

    def note(self, due: float, begun: float, done: float, seconds: float) -> None:
        """Record a block of `seconds` of audio."""
        self.work.append(done - begun)
        self.late += done > due + seconds
        self.behind = max(self.behind, begun - due)


def paced(blocks: Iterable[Waveform], rate: int, size: int, *, wait: bool) -> Iterator[Block]:
    """Yield a recording in blocks of `size` samples, each when a microphone would deliver it."""
    start, samples = time.perf_counter(), 0
    for piece in rechunk(blocks, size):
        samples += len(piece)
        due = start + samples / rate if wait else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        yield Block(piece, due)
