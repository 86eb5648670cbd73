"""Where audio comes from: a waveform in memory, or anything that can be read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from w2v_edge.audio import Waveform

BLOCK_SECONDS = 10.0


@runtime_checkable
class AudioSource(Protocol):
    """A recording that can be read from its beginning as often as need be.

    `w2v_edge.audio.AudioFile` is one; a class of your own need not hold what it reads.
    """

    def blocks(self) -> Iterator[Waveform]:
        """Yield 1-D float32 PCM at the model's sample rate, in blocks of any size."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """A waveform (samples,) in memory; blocks are views of it."""

    waveform: Waveform
    sample_rate: int

    def blocks(self) -> Iterator[Waveform]:
        """Yield it in blocks."""
        size = round(BLOCK_SECONDS * self.sample_rate)
        for begin in range(0, len(self.waveform), size):
            yield self.waveform[begin : begin + size]


def read_whole(source: AudioSource, most: int) -> Waveform | None:
    """Return all samples of a source, or None where they are more than `most`."""
    if isinstance(source, ArraySource):
        return source.waveform if len(source.waveform) <= most else None
    blocks = [np.zeros(0, dtype=np.float32)]
    samples = 0
    for block in source.blocks():
        blocks.append(block)
        samples += len(block)
        if samples > most:
            return None
    return np.concatenate(blocks)


def in_pieces(blocks: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Yield the same samples in blocks of `size` samples, the last one being what is left."""
    held: list[Waveform] = []
    count = 0
    for block in blocks:
        rest = block
        while count + len(rest) >= size:
            held.append(rest[: size - count])
            yield np.concatenate(held)
            rest, held, count = rest[size - count :], [], 0
        if len(rest):
            held.append(rest)
            count += len(rest)
    if held:
        yield np.concatenate(held)
