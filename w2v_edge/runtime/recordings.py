"""Recordings as the caller gave them, one or many: short ones go in batches, long ones alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard, TypeVar

import numpy.typing as npt

from w2v_edge.audio import Waveform, as_waveform, check_length
from w2v_edge.bundle import Manifest
from w2v_edge.errors import InputError
from w2v_edge.runtime.batching import BatchLimits, map_batches
from w2v_edge.runtime.sources import ArraySource, AudioSource, CheckedSource, read_whole

Audio = npt.NDArray[Any] | AudioSource
T = TypeVar("T")

WAITING = 600.0
"""Seconds of audio that may wait for company of like length."""


@dataclass(frozen=True)
class Recordings:
    """Checks recordings and does a task to each.

    Attributes:
        manifest: the bundle's.
        batch_seconds: of audio in a batch, at most.
    """

    manifest: Manifest
    batch_seconds: float

    def map(
        self,
        audio: Audio | Sequence[Audio],
        sample_rate: int | None,
        whole: Callable[[list[Waveform]], Sequence[T]],
        long: Callable[[AudioSource], T],
        longest: float,
    ) -> T | list[T]:
        """Do `whole` to batches of recordings up to `longest` seconds, `long` to any other.

        Waveforms in memory are all checked before any is worked on.

        Raises:
            InputError: of a list, it says which item it is about.
        """
        if is_batch(audio):
            sources = [
                _named(i, partial(self.source, item, sample_rate)) for i, item in enumerate(audio)
            ]
            return list(self._results(sources, whole, long, longest, of_list=True))
        source = self.source(audio, sample_rate)
        (result,) = self._results([source], whole, long, longest, of_list=False)
        return result

    def source(self, audio: object, sample_rate: int | None) -> AudioSource:
        """Check one recording, as far as that needs no reading.

        Raises:
            InputError: a waveform that cannot be right.
        """
        if isinstance(audio, AudioSource):
            if sample_rate is not None:
                raise InputError(
                    "found a sample rate beside a source, which knows its own; leave it out"
                )
            return CheckedSource(audio, self.manifest.sample_rate)
        waveform = as_waveform(audio, sample_rate, self.manifest.sample_rate)  # type: ignore[arg-type]
        check_length(len(waveform), self.manifest.geometry, self.manifest.sample_rate)
        return ArraySource(waveform, self.manifest.sample_rate)

    def one(self, audio: object, sample_rate: int | None) -> AudioSource:
        """Check a recording that is not to be a list of them; errors as for `source`."""
        if is_batch(audio):
            raise InputError(f"found a list of {len(audio)} recordings, expected one at a time")
        return self.source(audio, sample_rate)

    def _results(
        self,
        sources: list[AudioSource],
        whole: Callable[[list[Waveform]], Sequence[T]],
        long: Callable[[AudioSource], T],
        longest: float,
        *,
        of_list: bool,
    ) -> Iterator[T]:
        most = round(longest * self.manifest.sample_rate)

        def items() -> Iterator[Waveform | Callable[[], T]]:
            for i, source in enumerate(sources):
                index = i if of_list else None
                waveform = _named(index, partial(self._read, source, most))
                if waveform is None:
                    yield partial(_named, index, partial(long, source))
                else:
                    yield waveform

        rate = self.manifest.sample_rate
        limits = BatchLimits(round(self.batch_seconds * rate), waiting=round(WAITING * rate))
        return map_batches(whole, items(), limits)

    def _read(self, source: AudioSource, most: int) -> Waveform | None:
        waveform = read_whole(source, most)
        if waveform is not None:
            check_length(len(waveform), self.manifest.geometry, self.manifest.sample_rate)
        return waveform


def is_batch(audio: object) -> TypeGuard[Sequence[Audio]]:
    """Tell a list of recordings from one waveform given as a list of numbers."""
    if not isinstance(audio, list | tuple):
        return False
    if not audio or isinstance(audio[0], list | tuple | AudioSource):
        return True
    return getattr(audio[0], "ndim", 0) > 0


def _named(index: int | None, work: Callable[[], T]) -> T:
    """Do work on an item of a list; an error says which."""
    try:
        return work()
    except InputError as error:
        if index is None:
            raise
        raise type(error)(f"item {index} of the list: {error}") from error
