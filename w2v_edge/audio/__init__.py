"""Waveforms: reading files, mixing down, resampling, and checking values.

Inside, a waveform is always a 1-D float32 array of PCM in [-1, 1] at the model's sample rate.
"""

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
from w2v_edge.moved import moved

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

__getattr__ = moved(__name__, "AudioFile", "AudioFile")
