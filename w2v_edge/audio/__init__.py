"""Waveforms: reading files, mixing down, resampling, and checking values.

Inside, a waveform is always a 1-D float32 array of PCM in [-1, 1] at the model's sample rate.
"""

import warnings
from typing import Any

from w2v_edge.audio.audio_file import read_audio
from w2v_edge.audio.search import AUDIO_SUFFIXES, find_audio
from w2v_edge.audio.utterances import MANIFEST_SUFFIXES, Utterance, find_utterances
from w2v_edge.audio.waveform import (
    Resampler,
    Waveform,
    as_waveform,
    check_length,
    resample,
    resample_blocks,
    resampling_seconds,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "MANIFEST_SUFFIXES",
    "Resampler",
    "Utterance",
    "Waveform",
    "as_waveform",
    "check_length",
    "find_audio",
    "find_utterances",
    "read_audio",
    "resample",
    "resample_blocks",
    "resampling_seconds",
]


def __getattr__(name: str) -> Any:
    if name != "AudioFile":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from w2v_edge.audio.audio_file import AudioFile

    # Kept for one release.
    warnings.warn(
        "w2v_edge.audio.AudioFile is now w2v_edge.AudioFile", DeprecationWarning, stacklevel=2
    )
    return AudioFile
