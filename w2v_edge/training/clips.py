"""What is trained on: recordings with their lengths, and the pieces that an epoch cuts of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from w2v_edge.audio import AudioFile, Utterance, Waveform
from w2v_edge.errors import AudioFileError, InputError

READERS = 8


@dataclass(frozen=True)
class Clip:
    """A recording, and how many seconds it has.

    Attributes:
        utterance: the recording.
        seconds: how long it is.
        content: the audio file, where it is in memory.
    """

    utterance: Utterance
    seconds: float
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Piece:
    """A part of a recording.

    Attributes:
        clip: the recording.
        start_s: where it begins.
        seconds: how long it is.
    """

    clip: Clip
    start_s: float
    seconds: float

    @property
    def id(self) -> str:
        """The name of the recording, and of the part of it."""
        return f"{self.clip.utterance.id}@{self.start_s:.4f}"

    def read(self, sample_rate: int) -> Waveform:
        """Return its samples (samples,).

        Raises:
            AudioFileError: it cannot be read any more.
        """
        clip = self.clip
        file = AudioFile(clip.utterance.path, sample_rate, content=clip.content)
        return file.excerpt(self.start_s, self.seconds)


def measure(
    utterances: Sequence[Utterance],
    sample_rate: int,
    *,
    least_seconds: float = 0.0,
    skip_bad: bool = False,
) -> tuple[list[Clip], list[str]]:
    """Find out how long recordings are, by their headers.

    Args:
        utterances: the recordings.
        sample_rate: of the model, in Hz.
        least_seconds: shorter ones are left out.
        skip_bad: leave out files that cannot be read, too.

    Returns:
        the recordings, and one line for each that cannot be read.

    Raises:
        AudioFileError: one cannot be read, and `skip_bad` is false.
        InputError: none is left.
    """

    def seconds_of(utterance: Utterance) -> float | AudioFileError:
        try:
            return AudioFile(utterance.path, sample_rate).seconds
        except AudioFileError as error:
            return error

    clips, bad = [], []
    with ThreadPoolExecutor(READERS) as pool:
        for utterance, found in zip(utterances, pool.map(seconds_of, utterances), strict=True):
            if isinstance(found, float):
                clips.append(Clip(utterance, found))
            elif skip_bad:
                bad.append(str(found))
            else:
                raise AudioFileError(f"{found}; remove it, or pass over such files: --skip-bad")
    long = [clip for clip in clips if clip.seconds >= least_seconds]
    if not long:
        raise InputError(
            f"found {len(clips)} recordings, none of at least {least_seconds:g} s; "
            "name longer ones, or lower --least-seconds"
        )
    return long, bad


def cut(clip: Clip, crop_seconds: float, random: np.random.Generator) -> list[Piece]:
    """Cut a recording into pieces of `crop_seconds`; what is left over is at either end."""
    chance = float(random.random())
    if clip.seconds <= crop_seconds:
        return [Piece(clip, 0.0, clip.seconds)]
    count = int(clip.seconds / crop_seconds)
    first = chance * (clip.seconds - count * crop_seconds)
    return [Piece(clip, first + i * crop_seconds, crop_seconds) for i in range(count)]
