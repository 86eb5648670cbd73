"""Where audio comes from: a waveform in memory, or anything that can be read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from w2v_edge.audio import Waveform, as_waveform
from w2v_edge.errors import InputError, SampleRateError

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


class CheckedSource:
    """A caller's source, whose blocks become float32 PCM and are the same at each reading."""

    def __init__(self, source: AudioSource, sample_rate: int) -> None:
        """Wrap a source for a model that takes `sample_rate` Hz.

        Raises:
            SampleRateError: the source says that it has another.
        """
        rate = getattr(source, "sample_rate", sample_rate)
        if rate != sample_rate:
            raise SampleRateError(
                f"found a source at {rate!r:.40} Hz, expected the model's {sample_rate} Hz; "
                "open it at that rate: AudioFile(path, model.sample_rate)"
            )
        self._source = source
        self._sample_rate = sample_rate
        self._first: Waveform | None = None
        self._seen = 0
        self._whole = False

    def blocks(self) -> Iterator[Waveform]:
        """Yield the blocks.

        Raises:
            InputError: a block that is no PCM, or a recording that is another one this time.
        """
        samples = 0
        for block in self._begin():
            # A copy: readers may fill the same block again.
            waveform = as_waveform(block, None, self._sample_rate, start=samples).copy()
            if not len(waveform):
                continue
            if not samples:
                self._compare(waveform)
            samples += len(waveform)
            self._check(samples <= self._seen or not self._whole)
            self._seen = max(self._seen, samples)
            yield waveform
        self._check(samples >= self._seen)
        self._whole = True

    def _begin(self) -> Iterator[Any]:
        try:
            yield from self._source.blocks()
        except TypeError as error:
            raise InputError(
                f"found a source {type(self._source).__name__} whose blocks() failed "
                f"({' '.join(str(error).split()):.80}); use w2v_edge.audio.AudioFile, or a class "
                "whose blocks() yields arrays"
            ) from error

    def _compare(self, block: Waveform) -> None:
        """Keep the first block of the first reading; that of any other has to begin alike."""
        if self._first is None:
            self._first = block[:FIRST].copy()
        common = min(len(block), len(self._first))
        self._check(np.array_equal(block[:common], self._first[:common]))

    def _check(self, same: bool) -> None:
        if not same:
            raise InputError(
                "found a recording that is not the same when it is read again; blocks() has to "
                "begin anew each time it is called"
            )


FIRST = 16_000
"""Samples at the beginning by which a recording is known again."""


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
