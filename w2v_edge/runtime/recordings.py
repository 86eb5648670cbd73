"""Recordings as the caller gave them: validated once, then read whole or in blocks, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import numpy.typing as npt

from w2v_edge.audio.waveform import Waveform, as_waveform, check_length
from w2v_edge.bundle import Manifest, Tensors
from w2v_edge.errors import InputError, SampleRateError

BLOCK_SECONDS = 10.0
"""Long recordings are read and run in blocks of this length."""

BUFFERED_SECONDS = 600.0
"""Recordings are buffered up to this much audio, so that batches hold similar lengths."""

MAX_PADDING = 0.1
"""Share of a batch that may be padding."""

COMPARED_SAMPLES = 16_000
"""Samples at the start of a source that must be the same at each reading."""


@runtime_checkable
class AudioSource(Protocol):
    """A recording that can be read from its beginning as often as needed.

    `w2v_edge.AudioFile` is one. A class of your own need not hold the audio in memory.
    """

    def blocks(self) -> Iterator[Waveform]:
        """Yield 1-D float32 PCM at the model's sample rate, in blocks of any size."""
        ...


Audio = npt.NDArray[Any] | AudioSource


class Recording:
    """One recording: a waveform in memory, or a source that is read in blocks.

    Attributes:
        manifest: of the bundle that it is for.
        index: position in the caller's list; None if the caller gave no list.
    """

    def __init__(
        self, audio: Waveform | AudioSource, manifest: Manifest, index: int | None = None
    ) -> None:
        """Wrap validated audio.

        Args:
            audio: (samples,) float32 PCM at the model's rate, or a source of such blocks.
            manifest: of the bundle that it is for.
            index: position in the caller's list, which errors name.
        """
        self.manifest = manifest
        self.index = index
        self._waveform = audio if isinstance(audio, np.ndarray) else None
        self._source = None if isinstance(audio, np.ndarray) else audio
        self._reading: Iterator[Waveform] | None = None
        self._start: Waveform | None = None
        self._seen = 0
        self._complete = False

    def read(self, max_samples: int) -> Waveform | None:
        """Return all samples, or None if they are more than `max_samples`.

        After None, `blocks` continues this reading instead of opening the source again.

        Raises:
            InputError: the recording is shorter than a frame, or not readable.
        """
        if self._waveform is not None:
            return self._waveform if len(self._waveform) <= max_samples else None
        blocks: list[Waveform] = []
        samples = 0
        reading = self._take_reading()
        for block in reading:
            blocks.append(block)
            samples += len(block)
            if samples > max_samples:
                self._reading = chain(blocks, reading)
                return None
        self.check_length(samples)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def in_memory(self, waveform: Waveform) -> Recording:
        """Return the same recording, whose samples `waveform` were read whole."""
        return Recording(waveform, self.manifest, self.index)

    def blocks(self, size: int) -> Iterator[Waveform]:
        """Yield all samples in blocks of `size`; the last one may be shorter.

        Raises:
            InputError: a block is not PCM, or the recording differs from an earlier reading.
        """
        if self._waveform is not None:
            for begin in range(0, len(self._waveform), size):
                yield self._waveform[begin : begin + size]
            return
        yield from rechunk(self._take_reading(), size)

    def check_length(self, samples: int) -> None:
        """Raise `InputError` if the recording's `samples` are too few for a frame."""
        check_length(samples, self.manifest.geometry, self.manifest.sample_rate)

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Make an `InputError` name the item of the list that it is about."""
        try:
            yield
        except InputError as error:
            if self.index is None:
                raise
            raise type(error)(f"item {self.index} of the list: {error}") from error

    def _take_reading(self) -> Iterator[Waveform]:
        reading = self._reading or self._checked_blocks()
        self._reading = None
        return reading

    def _checked_blocks(self) -> Iterator[Waveform]:
        """Read the source from its beginning, as float32 PCM."""
        samples = 0
        for block in self._source_blocks():
            # A copy: the source may fill the same block again.
            waveform = as_waveform(block, None, self.manifest.sample_rate, start=samples).copy()
            if not len(waveform):
                continue
            if not samples:
                self._check_start(waveform)
            samples += len(waveform)
            self._check_same(samples <= self._seen or not self._complete)
            self._seen = max(self._seen, samples)
            yield waveform
        self._check_same(samples >= self._seen)
        self._complete = True

    def _source_blocks(self) -> Iterator[Any]:
        source = self._source
        if source is None:
            return
        try:
            yield from source.blocks()
        except TypeError as error:
            raise InputError(
                f"found a source {type(source).__name__} whose blocks() failed "
                f"({' '.join(str(error).split()):.80}); use w2v_edge.AudioFile, or a class whose "
                "blocks() yields arrays"
            ) from error

    def _check_start(self, block: Waveform) -> None:
        """Keep the start of the first reading, and compare later readings with it."""
        if self._start is None:
            self._start = block[:COMPARED_SAMPLES].copy()
        common = min(len(block), len(self._start))
        self._check_same(np.array_equal(block[:common], self._start[:common]))

    def _check_same(self, same: bool) -> None:
        if not same:
            raise InputError(
                "found a recording that changed between two readings; blocks() must start from "
                "the beginning each time it is called"
            )


def prepare(
    audio: Audio | Sequence[Audio], sample_rate: int | None, manifest: Manifest
) -> list[Recording]:
    """Validate recordings before any is run; sources are not read yet.

    Args:
        audio: one recording or a list of recordings.
        sample_rate: of waveforms, in Hz; None for the model's.
        manifest: of the bundle that they are for.

    Raises:
        InputError: audio that cannot be used; for a list it names the item.
        SampleRateError: a rate that cannot be converted.
    """
    if not is_list(audio):
        return [_prepare_one(audio, sample_rate, manifest, None)]
    recordings = []
    for index, item in enumerate(audio):
        try:
            recordings.append(_prepare_one(item, sample_rate, manifest, index))
        except InputError as error:
            raise type(error)(f"item {index} of the list: {error}") from error
    return recordings


def prepare_one(audio: object, sample_rate: int | None, manifest: Manifest) -> Recording:
    """Validate a single recording; errors as for `prepare`, and for a list."""
    if is_list(audio):
        raise InputError(f"found a list of {len(audio)} recordings, expected one at a time")
    return _prepare_one(audio, sample_rate, manifest, None)


def _prepare_one(
    audio: object, sample_rate: int | None, manifest: Manifest, index: int | None
) -> Recording:
    if not isinstance(audio, np.ndarray) and isinstance(audio, AudioSource):
        if sample_rate is not None:
            raise InputError("found a sample rate beside a source, which has its own; leave it out")
        rate = getattr(audio, "sample_rate", manifest.sample_rate)
        if rate != manifest.sample_rate:
            raise SampleRateError(
                f"found a source at {rate!r:.40} Hz, expected the model's {manifest.sample_rate} "
                "Hz; open it at that rate: AudioFile(path, model.sample_rate)"
            )
        return Recording(audio, manifest, index)
    waveform = as_waveform(audio, sample_rate, manifest.sample_rate)  # type: ignore[arg-type]
    check_length(len(waveform), manifest.geometry, manifest.sample_rate)
    return Recording(waveform, manifest, index)


def is_list(audio: object) -> TypeGuard[Sequence[Audio]]:
    """Whether this is a list of recordings, rather than one waveform as a list of numbers."""
    if not isinstance(audio, list | tuple):
        return False
    if not audio or isinstance(audio[0], list | tuple | AudioSource):
        return True
    return getattr(audio[0], "ndim", 0) > 0


@dataclass(frozen=True)
class Batch:
    """Short recordings to be run together.

    Attributes:
        indices: positions among the recordings.
        waveforms: of each, (samples,).
    """

    indices: list[int]
    waveforms: list[Waveform]

    def tensors(self) -> Tensors:
        """Return the inputs `waveform` (batch, samples), zero-padded, and `lengths` (batch,)."""
        return collate(self.waveforms)


@dataclass(frozen=True)
class LongRecording:
    """A recording that is run block by block.

    Attributes:
        index: position among the recordings.
        recording: the recording.
    """

    index: int
    recording: Recording


def batches(
    recordings: Sequence[Recording], max_samples: int, batch_samples: int
) -> Iterator[Batch | LongRecording]:
    """Yield recordings in batches of similar length, and long ones one by one.

    Recordings are read as they are reached: up to `BUFFERED_SECONDS` of audio are in memory.

    Args:
        recordings: to be run.
        max_samples: a longer recording is long.
        batch_samples: size of a batch, padding included; a longer recording is a batch of its own.

    Raises:
        InputError: a recording cannot be read, or is shorter than a frame.
    """
    pending = Batch([], [])
    buffered = 0
    for index, recording in enumerate(recordings):
        with recording.naming_errors():
            waveform = recording.read(max_samples)
        if waveform is None:
            yield LongRecording(index, recording)
            continue
        pending.indices.append(index)
        pending.waveforms.append(waveform)
        buffered += len(waveform)
        if buffered >= BUFFERED_SECONDS * recording.manifest.sample_rate:
            yield from _split(pending, batch_samples)
            pending, buffered = Batch([], []), 0
    yield from _split(pending, batch_samples)


def _split(pending: Batch, batch_samples: int) -> Iterator[Batch]:
    if len(pending.indices) == 1:
        yield pending
        return
    for rows in plan_batches([len(x) for x in pending.waveforms], batch_samples):
        yield Batch([pending.indices[i] for i in rows], [pending.waveforms[i] for i in rows])


def plan_batches(lengths: Sequence[int], batch_samples: int) -> list[list[int]]:
    """Group utterances of `lengths` samples into batches of at most `batch_samples`.

    Returns:
        The indices in each batch, longest utterances first; at most `MAX_PADDING` of a batch is
        padding.
    """
    planned: list[list[int]] = []
    filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        filled += lengths[i]
        batch = planned[-1] if planned else []
        size = (len(batch) + 1) * lengths[batch[0]] if batch else 0
        if batch and size <= batch_samples and size - filled <= MAX_PADDING * size:
            batch.append(i)
        else:
            planned.append([i])
            filled = lengths[i]
    return planned


def collate(waveforms: Sequence[Waveform]) -> Tensors:
    """Pad waveforms with zeros to the inputs `waveform` (batch, samples) and `lengths` (batch,)."""
    if len(waveforms) == 1:
        waveform = waveforms[0]
        return {"waveform": waveform[np.newaxis], "lengths": np.array([len(waveform)], np.int64)}
    lengths = np.array([len(x) for x in waveforms], dtype=np.int64)
    padded = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": padded, "lengths": lengths}


def rechunk(blocks: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Yield the same samples in blocks of `size`; the last one may be shorter."""
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
