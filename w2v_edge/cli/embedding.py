"""Embeddings of audio files, for the verbs that compare them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from w2v_edge.cli.audio_input import open_audio
from w2v_edge.errors import InputError

if TYPE_CHECKING:
    from w2v_edge.audio.audio_file import AudioFile
    from w2v_edge.audio.waveform import Waveform
    from w2v_edge.runtime.embedding import Embedding
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.window import Window


def embed_file(model: Model, path: str | Path, window: Window | None) -> Embedding:
    """Return the embedding of an audio file.

    Raises:
        InputError: as for `Model.embed`; or digital silence, which is like any other silence.
    """
    audio = _Watched(open_audio(Path(path), model.sample_rate))
    embedding = model.embed(audio, window=window)
    if audio.is_silent:
        raise InputError(f"{path}: found digital silence, expected a recording to compare")
    return embedding


class _Watched:
    """An audio file whose blocks are watched for a sample that is not zero."""

    def __init__(self, audio: AudioFile) -> None:
        self.sample_rate = audio.sample_rate
        self.is_silent = True
        self._audio = audio

    def blocks(self) -> Iterator[Waveform]:
        """Yield the waveform (t,) in blocks."""
        for block in self._audio.blocks():
            self.is_silent = self.is_silent and not np.any(block)
            yield block
