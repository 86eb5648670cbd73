"""Recordings in shards of WebDataset, for data that does not fit one disk.

A shard is a tar; of what belongs to a key (`key.flac`, `key.txt`, ...) the audio is read. Shards
are read one after another, never whole: the order within an epoch is by chance among shards, and
within a pool of some batches.

Each process reads its own shards of an epoch. So, unlike with files, what is in a batch depends on
the number of processes, and processes are at different epochs where shards differ in size. Over
all of them an epoch has each recording once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from w2v_edge.audio import AudioFile, Utterance
from w2v_edge.errors import AudioFileError, InputError, TrainingError
from w2v_edge.model.random import seed_of
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.training.batches import Batch, Position, collate, group
from w2v_edge.training.clips import Clip, Piece, cut
from w2v_edge.training.pretrain import Pretraining
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.shard_files import audio_of, key_of, open_shard
from w2v_edge.training.split import is_held_out

POOL_BATCHES = 8
"""As much audio is grouped by length; three such pools may be in memory, encoded as it came."""

HELD_OUT_SECONDS = 1800.0
"""The most that is evaluated on; it stays in memory."""


class Shards:
    """Shards of WebDataset, and how an epoch goes through them."""

    def __init__(
        self,
        names: Sequence[str],
        sample_rate: int,
        recipe: Recipe,
        *,
        skip_bad: bool = False,
        warn: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Take shards; nothing is read yet.

        Args:
            names: paths and URLs.
            sample_rate: of the model, in Hz.
            recipe: how long batches and pieces are, what is held out, the seed.
            skip_bad: pass over recordings that cannot be read.
            warn: told of these, once each.
        """
        self.names, self.sample_rate, self.recipe = tuple(names), sample_rate, recipe
        self.skip_bad = skip_bad
        self._warn, self._warned = warn, set[str]()

    def refuse_idle(self, processes: int) -> None:
        """Check that each process has a shard to read.

        Raises:
            TrainingError: there are fewer.
        """
        if len(self.names) < processes:
            raise TrainingError(
                f"found {len(self.names)} shards for {processes} processes, expected one for each "
                "at least; start fewer processes, or write smaller shards"
            )

    def held_out(self) -> list[Clip]:
        """Return what is evaluated on: what is held out of the first shard, in memory.

        Raises:
            InputError: it cannot be read.
        """
        found: list[Clip] = []
        seconds = 0.0
        for clip in self.clips(self.names[0]):
            if self._is_held_out(clip) and seconds + clip.seconds <= HELD_OUT_SECONDS:
                try:
                    # Decoded once: an evaluation passes over nothing.
                    Piece(clip, 0.0, clip.seconds).read(self.sample_rate)
                except AudioFileError as error:
                    self.pass_over(error)
                    continue
                found.append(clip)
                seconds += clip.seconds
        return found

    def clips(self, shard: str) -> Iterator[Clip]:
        """Yield the recordings of a shard that are long enough.

        Raises:
            InputError: there is none in it, or it ends early; `AudioFileError` for a recording.
        """
        any_audio = False
        with open_shard(shard) as stream:
            for name, content in audio_of(shard, stream):
                any_audio = True
                clip = self._clip(shard, name, content)
                if clip is not None and clip.seconds >= self.recipe.least_seconds:
                    yield clip
        if not any_audio:
            raise InputError(
                f"{shard}: a tar without audio, expected files such as key.flac or key.wav"
            )

    def plans(
        self, start: Position, rank: int, processes: int
    ) -> Iterator[list[tuple[list[Piece], Position]]]:
        """Yield without end the batches of a process, each with the position after it, by pools.

        To begin within an epoch, what came before in it is read again, and neither decoded nor
        trained on.

        Raises:
            InputError: a shard or a recording cannot be read, or an epoch has nothing to train on.
        """
        share = self.recipe.batch_seconds / processes
        for epoch in count(start.epoch):
            first = start.batch if epoch == start.epoch else 0
            random = np.random.default_rng([self.recipe.seed, epoch, rank])
            done = 0
            pools = self._pools(epoch, rank, processes)
            pool = next(pools, [])
            if not pool:
                raise InputError(
                    f"found nothing to train on in the shards of an epoch, expected recordings of "
                    f"at least {self.recipe.least_seconds:g} s that are not held out; name more "
                    "shards, or lower --held-out or --least-seconds"
                )
            while pool:
                following = next(pools, [])
                batches = group(pool, share, random)
                places = [Position(epoch, done + i + 1) for i in range(len(batches))]
                done += len(batches)
                if not following:
                    places[-1] = Position(epoch + 1)
                keep = max(0, first - (done - len(batches)))
                if keep < len(batches):
                    yield list(zip(batches, places, strict=True))[keep:]
                pool = following

    def _pools(self, epoch: int, rank: int, processes: int) -> Iterator[list[Piece]]:
        """Yield the pieces of a process in an epoch, so many batches at a time."""
        recipe = self.recipe
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(self.names))
        most = POOL_BATCHES * recipe.batch_seconds / processes
        pool: list[Piece] = []
        seconds = 0.0
        for i in order[rank::processes]:
            for clip in self.clips(self.names[i]):
                if self._is_held_out(clip):
                    continue
                # Its own: where a recording is cut depends on none before it.
                random = np.random.default_rng(seed_of(recipe.seed, epoch, clip.utterance.path))
                pool += cut(clip, recipe.crop_seconds, random)
                seconds += clip.seconds
                if seconds >= most:
                    yield pool
                    pool, seconds = [], 0.0
        if pool:
            yield pool

    def _clip(self, shard: str, name: str, content: bytes) -> Clip | None:
        path = f"{shard}/{name}"
        try:
            seconds = AudioFile(path, self.sample_rate, content=content).seconds
        except AudioFileError as error:
            self.pass_over(error)
            return None
        return Clip(Utterance(name, Path(path)), seconds, content)

    def pass_over(self, error: AudioFileError) -> None:
        """Warn of a recording that cannot be read; raise the error where that is not wished."""
        if not self.skip_bad:
            raise AudioFileError(f"{error}; remove it, or pass over such files: --skip-bad")
        if str(error) not in self._warned:
            self._warned.add(str(error))
            self._warn(f"passed over: {error}")

    def _is_held_out(self, clip: Clip) -> bool:
        return is_held_out(key_of(clip.utterance.id), self.recipe.held_out)


class ShardPretraining(Pretraining):
    """Pre-training on shards."""

    def __init__(self, model: SpeechModel, recipe: Recipe, shards: Shards) -> None:
        """Read the first shard, for what is held out.

        Raises:
            ConfigError: the model has no objective.
            InputError: the shard cannot be read.
        """
        super().__init__(model, recipe, [], shards.held_out())
        self.shards = shards

    def jobs(self, start: Position, rank: int, processes: int) -> Iterator[Callable[[], Batch]]:
        """Yield what reads batches, of this process's shards; see `Task.jobs`.

        While one pool is trained on, the next one is read.
        """
        pools = self.shards.plans(start, rank, processes)
        with ThreadPoolExecutor(1, thread_name_prefix="shards") as reader:
            coming = reader.submit(next, pools)
            while True:
                pool = coming.result()
                coming = reader.submit(next, pools)
                for pieces, after in pool:
                    yield partial(self._collate, pieces, after, processes)

    def _collate(self, pieces: Sequence[Piece], after: Position, processes: int) -> Batch:
        batch = collate(
            pieces,
            after,
            sample_rate=self.shards.sample_rate,
            seed=self.recipe.seed,
            pass_over=self.shards.pass_over,
        )
        # Other processes have about as much.
        return replace(batch, seconds=batch.seconds * processes)
