"""Padded batches of similar length, planned ahead of time and read in background threads.

The order of an epoch depends on its number and the seed alone, so that a run can resume at any
batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform
from w2v_edge.errors import AudioFileError
from w2v_edge.model.random import seed_of
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.recordings import BadRecordings, Clip, Crop, random_crops

T = TypeVar("T")

JITTER = 0.2
"""Lengths grow by up to this factor, at random, before they are sorted: neighbours change."""

PREFETCH = 4
"""Batches that each worker thread reads before they are needed."""

VALIDATION_EPOCH = 0
"""Seeds of validation batches are those of this epoch, every time."""


@dataclass(frozen=True)
class Position:
    """Progress in the data: batches done in an epoch.

    Attributes:
        epoch: number of the epoch, from 0.
        batch: batches of it that are done.
    """

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class PlannedBatch:
    """The contents of a batch before any audio is read.

    Attributes:
        crops: this process's rows.
        seconds: audio in the rows of all processes, without padding.
        after: the position once the batch is done.
    """

    crops: Sequence[Crop]
    seconds: float
    after: Position


@dataclass(frozen=True)
class Batch:
    """The audio of one process.

    Attributes:
        waveform: (b, t) float32, zero past the lengths.
        lengths: (b,) int64, in samples; 0 for a row without a recording.
        seeds: (b,) int64, for masks and noise.
    """

    waveform: Waveform
    lengths: npt.NDArray[np.int64]
    seeds: npt.NDArray[np.int64]


class TrainingData(Protocol):
    """Plans the batches of training and validation."""

    def plan(self, start: Position, rank: int, world_size: int) -> Iterator[PlannedBatch]:
        """Yield a process's batches from `start` on, without end."""

    def plan_validation(self, rank: int, world_size: int) -> list[PlannedBatch]:
        """Return a process's share of the validation split; the same batches every time."""


class ClipData:
    """Recordings in files. All processes plan the same batches and share the rows."""

    def __init__(
        self,
        clips: Sequence[Clip],
        validation: Sequence[Clip],
        recipe: Recipe,
        *,
        crop_seconds: float,
    ) -> None:
        """Take measured recordings.

        Args:
            clips: the training split.
            validation: the validation split; may be empty.
            recipe: length of batches in s, and the seed.
            crop_seconds: longer recordings are cut into crops of this length, in s.
        """
        self.clips, self.validation = clips, validation
        self._recipe, self._crop_seconds = recipe, crop_seconds

    def plan(self, start: Position, rank: int, world_size: int) -> Iterator[PlannedBatch]:
        """See `TrainingData.plan`."""
        for epoch in count(start.epoch):
            batches = self.plan_epoch(epoch)
            first = start.batch if epoch == start.epoch else 0
            for number in range(first, len(batches)):
                last = number + 1 == len(batches)
                after = Position(epoch + 1) if last else Position(epoch, number + 1)
                yield _share(batches[number], after, rank, world_size)

    def plan_epoch(self, epoch: int) -> list[list[Crop]]:
        """Return the batches of an epoch, each with the rows of all processes."""
        return self._batches(self.clips, epoch)

    def plan_validation(self, rank: int, world_size: int) -> list[PlannedBatch]:
        """See `TrainingData.plan_validation`."""
        batches = self._batches(self.validation, VALIDATION_EPOCH) if self.validation else []
        return [
            _share(crops, Position(VALIDATION_EPOCH, number), rank, world_size)
            for number, crops in enumerate(batches)
        ]

    def _batches(self, clips: Sequence[Clip], epoch: int) -> list[list[Crop]]:
        random = np.random.default_rng([self._recipe.seed, epoch])
        crops = [crop for clip in clips for crop in random_crops(clip, self._crop_seconds, random)]
        return group_by_length(crops, self._recipe.batch_seconds, random)


def group_by_length(
    crops: Sequence[Crop], batch_seconds: float, random: np.random.Generator
) -> list[list[Crop]]:
    """Group crops of similar length into batches, in random order.

    Args:
        crops: the crops, at least one.
        batch_seconds: most audio in a batch, with padding, in s.
        random: source of the order.
    """
    jitter = 1 + JITTER * random.random(len(crops))
    order = np.argsort([x * crop.seconds for x, crop in zip(jitter, crops, strict=True)])
    batches: list[list[Crop]] = [[]]
    longest = 0.0
    for i in order:
        crop = crops[i]
        longest = max(longest, crop.seconds)
        if batches[-1] and longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = crop.seconds
        batches[-1].append(crop)
    return [batches[i] for i in random.permutation(len(batches))]


def load_batch(planned: PlannedBatch, sample_rate: int, seed: int, bad: BadRecordings) -> Batch:
    """Read the audio of a batch.

    Args:
        planned: its rows.
        sample_rate: of the model, in Hz.
        seed: of the run.
        bad: handles recordings that cannot be read; their rows have length 0.

    Raises:
        AudioFileError: a recording cannot be read, and such files are not skipped.
    """
    crops, after = planned.crops, planned.after
    read = [_read(crop, sample_rate, bad) for crop in crops]
    # A process without recordings takes part all the same, with a row of length 0.
    rows = max(1, len(read))
    waveform = np.zeros((rows, max([1, *map(len, read)])), dtype=np.float32)
    lengths = np.zeros(rows, dtype=np.int64)
    seeds = np.zeros(rows, dtype=np.int64)
    for i, (crop, samples) in enumerate(zip(crops, read, strict=True)):
        waveform[i, : len(samples)] = samples
        lengths[i] = len(samples)
        seeds[i] = seed_of(seed, after.epoch, after.batch, crop.id)
    return Batch(waveform, lengths, seeds)


@contextmanager
def prefetch(
    load: Callable[[PlannedBatch], T], planned: Iterable[PlannedBatch], num_workers: int
) -> Iterator[Iterator[tuple[PlannedBatch, T]]]:
    """Load batches in threads ahead of time; yields an iterator over them, in order.

    Decoders release the interpreter lock, so threads suffice. An error is raised where its batch
    would have come.

    Args:
        load: reads a batch.
        planned: the batches to read.
        num_workers: number of threads.
    """
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="audio")
    upcoming = iter(planned)
    waiting: deque[tuple[PlannedBatch, Future[T]]] = deque()

    def submit(number: int) -> None:
        waiting.extend((batch, pool.submit(load, batch)) for batch in islice(upcoming, number))

    def loaded() -> Iterator[tuple[PlannedBatch, T]]:
        submit(PREFETCH * num_workers)
        while waiting:
            batch, future = waiting.popleft()
            result = future.result()
            submit(1)
            yield batch, result

    try:
        yield loaded()
    finally:
        pool.shutdown(cancel_futures=True)


def _share(crops: Sequence[Crop], after: Position, rank: int, world_size: int) -> PlannedBatch:
    return PlannedBatch(crops[rank::world_size], sum(crop.seconds for crop in crops), after)


def _read(crop: Crop, sample_rate: int, bad: BadRecordings) -> Waveform:
    try:
        return crop.read(sample_rate)
    except AudioFileError as error:
        bad.handle(error)
        return np.zeros(0, dtype=np.float32)
