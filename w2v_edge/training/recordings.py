"""Recordings to train on: their lengths, the crops of an epoch, and the validation split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from w2v_edge.audio import Utterance, Waveform
from w2v_edge.audio.audio_file import AudioFile
from w2v_edge.errors import AudioFileError, InputError

HEADER_THREADS = 8


@dataclass(frozen=True)
class Clip:
    """A recording and its length.

    Attributes:
        utterance: the recording.
        seconds: its length in s.
        content: bytes of the encoded audio file; None if it is read from disk.
    """

    utterance: Utterance
    seconds: float
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Crop:
    """A section of a recording, or all of it.

    Attributes:
        clip: the recording.
        start_s: offset of the section in s.
        seconds: length of the section in s.
    """

    clip: Clip
    start_s: float
    seconds: float

    @property
    def id(self) -> str:
        """The name of the recording and the offset in it."""
        return f"{self.clip.utterance.id}@{self.start_s:.4f}"

    def read(self, sample_rate: int) -> Waveform:
        """Return the samples (t,) at `sample_rate` in Hz.

        Raises:
            AudioFileError: the file cannot be read.
        """
        clip = self.clip
        file = AudioFile(clip.utterance.path, sample_rate, content=clip.content)
        return file.excerpt(self.start_s, self.seconds)


class BadRecordings:
    """Handles recordings that cannot be read: an error, or with `skip` one warning each."""

    def __init__(
        self, *, skip: bool = False, warn: Callable[[str], None] = lambda _line: None
    ) -> None:
        """Choose what happens.

        Args:
            skip: whether to leave out recordings that cannot be read.
            warn: receives one line for each of these.
        """
        self._skip, self._warn = skip, warn
        self._warned: set[str] = set()

    def handle(self, error: AudioFileError) -> None:
        """Warn of a recording, the first time.

        Raises:
            AudioFileError: bad recordings are not skipped.
        """
        if not self._skip:
            raise AudioFileError(f"{error}; remove it, or skip such files: --skip-bad") from error
        if str(error) not in self._warned:
            self._warned.add(str(error))
            self._warn(f"skipped: {error}")


def measure(
    utterances: Sequence[Utterance],
    sample_rate: int,
    *,
    min_seconds: float = 0.0,
    bad: BadRecordings,
) -> list[Clip]:
    """Read the lengths of recordings from their headers, and drop short ones.

    Args:
        utterances: the recordings.
        sample_rate: of the model, in Hz.
        min_seconds: shortest length that is kept, in s.
        bad: handles recordings that cannot be read.

    Raises:
        AudioFileError: a recording cannot be read, and such files are not skipped.
        InputError: no recording is left.
    """

    def seconds_of(utterance: Utterance) -> float | AudioFileError:
        try:
            return AudioFile(utterance.path, sample_rate).seconds
        except AudioFileError as error:
            return error

    clips = []
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        for utterance, found in zip(utterances, pool.map(seconds_of, utterances), strict=True):
            if isinstance(found, float):
                clips.append(Clip(utterance, found))
            else:
                bad.handle(found)
    kept = [clip for clip in clips if clip.seconds >= min_seconds]
    if not kept:
        raise InputError(
            f"found {len(clips)} recordings, none of at least {min_seconds:g} s; "
            "name longer ones, or lower --min-seconds"
        )
    return kept


def random_crops(clip: Clip, crop_seconds: float, random: np.random.Generator) -> list[Crop]:
    """Cut a recording into crops of `crop_seconds`; the remainder is dropped at both ends."""
    offset = float(random.random())
    if clip.seconds <= crop_seconds:
        return [Crop(clip, 0.0, clip.seconds)]
    count = int(clip.seconds / crop_seconds)
    first = offset * (clip.seconds - count * crop_seconds)
    return [Crop(clip, first + i * crop_seconds, crop_seconds) for i in range(count)]


def is_validation(name: str, fraction: float) -> bool:
    """Whether the recording `name` is in the validation split.

    This depends on its name alone: adding recordings moves none of the others.

    Args:
        name: the utterance's id.
        fraction: expected share of the split, 0 to below 1.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2.0**64


def split_validation(
    utterances: Sequence[Utterance], fraction: float
) -> tuple[list[Utterance], list[Utterance]]:
    """Return the training and the validation split.

    The validation split is empty if it would take all recordings, as happens by chance with few.
    """
    train = [x for x in utterances if not is_validation(x.id, fraction)]
    validation = [x for x in utterances if is_validation(x.id, fraction)]
    return (train, validation) if train else (list(utterances), [])
