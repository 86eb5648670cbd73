"""Audio files that a command line names: `-` is one on standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from w2v_edge.errors import InputError

if TYPE_CHECKING:
    from w2v_edge.audio.audio_file import AudioFile

STDIN = Path("-")
STDIN_NAME = Path("audio")
"""Name of outputs for a recording on standard input."""

MAX_STDIN_BYTES = 2**30
"""Most that is read of standard input, which is held in memory."""


def open_audio(path: Path, sample_rate: int) -> AudioFile:
    """Open an audio file, or the one on standard input.

    Args:
        path: path of the file; `-` for standard input.
        sample_rate: of the waveform, in Hz.

    Raises:
        AudioFileError: it cannot be read as audio.
        InputError: standard input is empty or too long.
    """
    from w2v_edge.audio.audio_file import AudioFile

    return AudioFile(path, sample_rate, content=read_standard_input() if path == STDIN else None)


def read_standard_input() -> bytes:
    """Return standard input, up to its end.

    Raises:
        InputError: it is empty, or longer than `MAX_STDIN_BYTES`.
    """
    content = b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if not content:
        raise InputError("standard input: found nothing, expected an audio file or a text")
    if len(content) > MAX_STDIN_BYTES:
        raise InputError(
            f"standard input: found over {MAX_STDIN_BYTES >> 20} MiB, which would be held in "
            "memory; give a file"
        )
    return content
