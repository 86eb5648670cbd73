"""Waveforms: reading files, mixing down, resampling, and refusing what cannot be right.

Inside, a waveform is always a 1-D float32 array of PCM in [-1, 1] at the model's sample rate.
"""

from w2v_edge.audio.audio_file import AudioFile, read_audio
from w2v_edge.audio.search import AUDIO_SUFFIXES, find_audio
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
    "AudioFile",
    "Resampler",
    "Waveform",
    "as_waveform",
    "check_length",
    "find_audio",
    "read_audio",
    "resample",
    "resample_blocks",
    "resampling_seconds",
]
