"""Audio at the pace of time, and how the work on it keeps up."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from w2v_edge.audio import Waveform
from w2v_edge.runtime.sources import in_pieces


@dataclass(frozen=True)
class Block:
    """Samples (n,) at the model's rate, and when the last of them was there to be worked on."""

    samples: Waveform
    due: float


@dataclass
class Pace:
    """How the work kept up with the audio; times in seconds.

    Attributes:
        work: spent on each block.
        late: blocks that were not done when the next one was there.
        behind: by how much at worst a block was begun after it was there.
    """

    work: list[float] = field(default_factory=list)
    late: int = 0
    behind: float = 0.0

    def note(self, due: float, begun: float, done: float, seconds: float) -> None:
        """Take in a block of `seconds` of audio."""
        self.work.append(done - begun)
        self.late += done > due + seconds
        self.behind = max(self.behind, begun - due)


def paced(blocks: Iterable[Waveform], rate: int, size: int, *, wait: bool) -> Iterator[Block]:
    """Yield a recording in blocks of `size` samples, each when a microphone would have it."""
    start, samples = time.perf_counter(), 0
    for piece in in_pieces(blocks, size):
        samples += len(piece)
        due = start + samples / rate if wait else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        yield Block(piece, due)
