"""Which pieces make a batch: alike in length, so many seconds of audio, in an order by chance.

An epoch is a function of its number and the seed: a run can be taken up at any batch of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform
from w2v_edge.errors import AudioFileError
from w2v_edge.model.random import seed_of
from w2v_edge.training.clips import Clip, Piece, cut

JITTER = 0.2
"""Lengths are multiplied by up to so much more before they are sorted: neighbours change."""


@dataclass(frozen=True)
class Position:
    """Where a run is in its data: so many batches of an epoch are done."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """A batch of one process.

    Attributes:
        waveform: (b, t) zero past the lengths.
        lengths: (b,) in samples, int64.
        seeds: (b,) int64.
        seconds: of audio in the batch of all processes, padding left out.
        after: where the run is when it is done.
    """

    waveform: Waveform
    lengths: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64]
    seconds: float
    after: Position


def plan(
    clips: Sequence[Clip], *, batch_seconds: float, crop_seconds: float, seed: int, epoch: int
) -> list[list[Piece]]:
    """Return the batches of an epoch.

    Args:
        clips: the recordings.
        batch_seconds: the most audio in a batch, padding counted.
        crop_seconds: the longest piece.
        seed: of the run.
        epoch: which one.
    """
    random = np.random.default_rng([seed, epoch])
    pieces = [piece for clip in clips for piece in cut(clip, crop_seconds, random)]
    return group(pieces, batch_seconds, random)


def group(
    pieces: Sequence[Piece], batch_seconds: float, random: np.random.Generator
) -> list[list[Piece]]:
    """Return batches of pieces that are alike in length, in an order by chance."""
    jitter = 1 + JITTER * random.random(len(pieces))
    order = np.argsort([x * piece.seconds for x, piece in zip(jitter, pieces, strict=True)])
    batches: list[list[Piece]] = [[]]
    longest = 0.0
    for i in order:
        piece = pieces[i]
        longest = max(longest, piece.seconds)
        if batches[-1] and longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = piece.seconds
        batches[-1].append(piece)
    return [batches[i] for i in random.permutation(len(batches))]


def plans(
    clips: Sequence[Clip],
    start: Position,
    *,
    batch_seconds: float,
    crop_seconds: float,
    seed: int,
) -> Iterator[tuple[list[Piece], Position]]:
    """Yield batches without end, each with the position after it."""
    for epoch in count(start.epoch):
        batches = plan(
            clips, batch_seconds=batch_seconds, crop_seconds=crop_seconds, seed=seed, epoch=epoch
        )
        first = start.batch if epoch == start.epoch else 0
        for number in range(first, len(batches)):
            last = number + 1 == len(batches)
            yield batches[number], Position(epoch + 1) if last else Position(epoch, number + 1)


def collate(
    pieces: Sequence[Piece],
    after: Position,
    *,
    sample_rate: int,
    seed: int,
    rank: int = 0,
    processes: int = 1,
    pass_over: Callable[[AudioFileError], None] | None = None,
) -> Batch:
    """Read the part of a batch that is this process's.

    Args:
        pieces: the batch of all processes.
        after: where the run is when it is done.
        sample_rate: of the model, in Hz.
        seed: of the run.
        rank: which process this is.
        processes: how many there are.
        pass_over: told of what cannot be read, which then has no sample.

    Raises:
        AudioFileError: a recording cannot be read, and nobody is to be told.
    """
    own = pieces[rank::processes]
    read = [_read(piece, sample_rate, pass_over) for piece in own]
    # A process without an utterance still takes part: with one that has no sample.
    rows = max(1, len(read))
    waveform = np.zeros((rows, max([1, *map(len, read)])), dtype=np.float32)
    lengths = np.zeros(rows, dtype=np.int64)
    seeds = np.zeros(rows, dtype=np.int64)
    for i, (piece, samples) in enumerate(zip(own, read, strict=True)):
        waveform[i, : len(samples)] = samples
        lengths[i] = len(samples)
        seeds[i] = seed_of(seed, after.epoch, after.batch, piece.id)
    return Batch(waveform, lengths, seeds, sum(piece.seconds for piece in pieces), after)


def _read(
    piece: Piece, sample_rate: int, pass_over: Callable[[AudioFileError], None] | None
) -> Waveform:
    try:
        return piece.read(sample_rate)
    except AudioFileError as error:
        if pass_over is None:
            raise
        pass_over(error)
        return np.zeros(0, dtype=np.float32)
