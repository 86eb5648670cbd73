"""Training data in WebDataset shards, for corpora that do not fit one disk.

A shard is a tar; of the files that share a key (`key.flac`, `key.txt`, ...) the audio is read.
Shards are read as streams, one after another: the order of an epoch is random among shards, and
within a pool of a few batches.

Each process reads its own shards of an epoch. So, unlike with files, the contents of a batch depend
on the number of processes, and processes are at different epochs where shards differ in size. Over
all processes an epoch has each recording once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np

from w2v_edge.audio import Utterance
from w2v_edge.audio.audio_file import AudioFile
from w2v_edge.errors import AudioFileError, InputError, TrainingError
from w2v_edge.model.random import seed_of
from w2v_edge.training.batches import ClipData, PlannedBatch, Position, group_by_length
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.recordings import BadRecordings, Clip, Crop, is_validation, random_crops
from w2v_edge.training.shard_files import audio_of, key_of, open_shard

POOL_BATCHES = 8
"""Batches of audio that are grouped by length; up to three pools are in memory, encoded."""

VALIDATION_SECONDS = 1800.0
"""Most audio of the validation split, which stays in memory."""


class ShardData:
    """Recordings in WebDataset shards, as `TrainingData`."""

    def __init__(
        self, shards: Sequence[str], sample_rate: int, recipe: Recipe, bad: BadRecordings
    ) -> None:
        """Read the first shard, for the validation split.

        Args:
            shards: paths and URLs.
            sample_rate: of the model, in Hz.
            recipe: lengths of batches and crops, the validation fraction, the seed.
            bad: handles recordings that cannot be read.

        Raises:
            InputError: the first shard cannot be read.
        """
        self.shards, self._sample_rate = tuple(shards), sample_rate
        self._recipe, self._bad = recipe, bad
        self.validation = self._read_validation()

    def check_world_size(self, world_size: int) -> None:
        """Check that each process has a shard to read.

        Raises:
            TrainingError: there are fewer shards than processes.
        """
        if len(self.shards) < world_size:
            raise TrainingError(
                f"found {len(self.shards)} shards for {world_size} processes, expected at least "
                "one for each; start fewer processes, or write smaller shards"
            )

    def plan(self, start: Position, rank: int, world_size: int) -> Iterator[PlannedBatch]:
        """See `TrainingData.plan`. While one pool is trained on, the next one is read."""
        pools = self.plan_pools(start, rank, world_size)
        with ThreadPoolExecutor(1, thread_name_prefix="shards") as reader:
            upcoming = reader.submit(next, pools)
            while True:
                pool = upcoming.result()
                upcoming = reader.submit(next, pools)
                yield from pool

    def plan_validation(self, rank: int, world_size: int) -> list[PlannedBatch]:
        """See `TrainingData.plan_validation`."""
        crop_seconds = self._recipe.crop_seconds
        data = ClipData([], self.validation, self._recipe, crop_seconds=crop_seconds)
        return data.plan_validation(rank, world_size)

    def plan_pools(
        self, start: Position, rank: int, world_size: int
    ) -> Iterator[list[PlannedBatch]]:
        """Yield a process's batches by pools, without end.

        To resume within an epoch, its earlier recordings are read again, but not decoded.

        Raises:
            InputError: a shard or a recording cannot be read, or an epoch has no training data.
        """
        share = self._recipe.batch_seconds / world_size
        for epoch in count(start.epoch):
            first = start.batch if epoch == start.epoch else 0
            random = np.random.default_rng([self._recipe.seed, epoch, rank])
            done = 0
            pools = self._read_pools(epoch, rank, world_size)
            pool = next(pools, [])
            if not pool:
                raise InputError(
                    f"found nothing to train on in the shards of an epoch, expected recordings of "
                    f"at least {self._recipe.min_seconds:g} s outside the validation split; name "
                    "more shards, or lower --validation-fraction or --min-seconds"
                )
            while pool:
                following = next(pools, [])
                batches = group_by_length(pool, share, random)
                positions = [Position(epoch, done + i + 1) for i in range(len(batches))]
                done += len(batches)
                if not following:
                    positions[-1] = Position(epoch + 1)
                skip = max(0, first - (done - len(batches)))
                if skip < len(batches):
                    # The other processes have about as much audio.
                    yield [
                        PlannedBatch(crops, world_size * sum(x.seconds for x in crops), after)
                        for crops, after in zip(batches[skip:], positions[skip:], strict=True)
                    ]
                pool = following

    def _read_pools(self, epoch: int, rank: int, world_size: int) -> Iterator[list[Crop]]:
        """Yield the crops of a process in an epoch, `POOL_BATCHES` batches at a time."""
        recipe = self._recipe
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(self.shards))
        pool_seconds = POOL_BATCHES * recipe.batch_seconds / world_size
        pool: list[Crop] = []
        seconds = 0.0
        for i in order[rank::world_size]:
            for clip in self._read_clips(self.shards[i]):
                if self._is_validation(clip):
                    continue
                # A generator for each recording: its crops do not depend on earlier ones.
                random = np.random.default_rng(seed_of(recipe.seed, epoch, clip.utterance.path))
                pool += random_crops(clip, recipe.crop_seconds, random)
                seconds += clip.seconds
                if seconds >= pool_seconds:
                    yield pool
                    pool, seconds = [], 0.0
        if pool:
            yield pool

    def _read_clips(self, shard: str) -> Iterator[Clip]:
        """Yield the recordings of a shard that are long enough."""
        found_audio = False
        with open_shard(shard) as stream:
            for name, content in audio_of(shard, stream):
                found_audio = True
                path = f"{shard}/{name}"
                try:
                    seconds = AudioFile(path, self._sample_rate, content=content).seconds
                except AudioFileError as error:
                    self._bad.handle(error)
                    continue
                if seconds >= self._recipe.min_seconds:
                    yield Clip(Utterance(name, Path(path)), seconds, content)
        if not found_audio:
            raise InputError(
                f"{shard}: a tar without audio, expected files such as key.flac or key.wav"
            )

    def _read_validation(self) -> list[Clip]:
        """Return the validation recordings of the first shard."""
        found: list[Clip] = []
        seconds = 0.0
        for clip in self._read_clips(self.shards[0]):
            if self._is_validation(clip) and seconds + clip.seconds <= VALIDATION_SECONDS:
                try:
                    # Decode once now: an evaluation always has the same recordings.
                    Crop(clip, 0.0, clip.seconds).read(self._sample_rate)
                except AudioFileError as error:
                    self._bad.handle(error)
                    continue
                found.append(clip)
                seconds += clip.seconds
        return found

    def _is_validation(self, clip: Clip) -> bool:
        return is_validation(key_of(clip.utterance.id), self._recipe.validation_fraction)
