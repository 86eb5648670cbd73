"""Audio as it comes: raw PCM on standard input, a file, a microphone."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from w2v_edge.errors import InputError, MissingExtraError
from w2v_edge.runtime.realtime import Block

if TYPE_CHECKING:
    from w2v_edge.audio import Waveform

ENCODINGS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}


def raw_pcm(
    stream: BinaryIO, encoding: str, rate: int, model_rate: int, size: int
) -> Iterator[Block]:
    """Yield mono PCM from a pipe, at most `size` samples at a time, without waiting for so many.

    Raises:
        InputError: it ends within a sample, or its numbers are no PCM.
    """
    kind = ENCODINGS[encoding]
    # A buffered reader would wait for a whole block.
    read = getattr(stream, "read1", stream.read)

    def blocks() -> Iterator[Waveform]:
        rest = b""
        while data := read(size * kind.itemsize):
            data = rest + data
            whole = len(data) - len(data) % kind.itemsize
            rest = data[whole:]
            yield _as_float(np.frombuffer(data[:whole], dtype=kind), model_rate)
        if rest:
            raise InputError(
                f"found {len(rest)} bytes behind the last whole sample of standard input, "
                f"expected {encoding}; check --encoding"
            )

    return (Block(samples, time.perf_counter()) for samples in _at(blocks(), rate, model_rate))


@contextmanager
def microphone(device: str | None, model_rate: int, size: int) -> Iterator[Iterator[Block]]:
    """Record until interrupted; yields the blocks.

    Raises:
        MissingExtraError: sounddevice is not installed.
        InputError: there is no such microphone, or it is not there any more.
    """
    sounddevice = _import_sounddevice()
    heard: queue.SimpleQueue[Block] = queue.SimpleQueue()

    def hear(data: Any, _frames: int, _time: object, _status: object) -> None:
        heard.put(Block(np.array(data[:, 0], dtype=np.float32), time.perf_counter()))

    number = int(device) if device is not None and device.isdigit() else device
    try:
        with sounddevice.InputStream(
            samplerate=model_rate,
            blocksize=size,
            device=number,
            channels=1,
            dtype="float32",
            callback=hear,
        ):
            yield iter(heard.get, None)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(
            f"no microphone could be opened ({' '.join(str(error).split()):.80}); "
            "python -m sounddevice lists them"
        ) from error


def standard_input() -> BinaryIO:
    """Return standard input as bytes.

    Raises:
        InputError: it is a terminal, which gives no audio.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("found no standard input; pipe raw PCM in, name a file, or use --mic")
    if sys.stdin.isatty():
        raise InputError(
            "found a terminal on standard input, expected raw PCM; pipe it in, name a file, "
            "or use --mic"
        )
    return sys.stdin.buffer


def file_blocks(path: Path, model_rate: int) -> Iterator[Waveform]:
    """Yield the blocks of an audio file."""
    from w2v_edge.audio import AudioFile

    return AudioFile(path, model_rate).blocks()


def _at(blocks: Iterator[Waveform], rate: int, model_rate: int) -> Iterator[Waveform]:
    from w2v_edge.audio import resample_blocks

    return blocks if rate == model_rate else resample_blocks(blocks, rate, model_rate)


def _as_float(samples: np.ndarray[Any, Any], model_rate: int) -> Waveform:
    from w2v_edge.audio import as_waveform

    return as_waveform(samples.astype(samples.dtype.newbyteorder("=")), None, model_rate)


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        if isinstance(error, OSError):
            raise InputError(
                "the library PortAudio is missing, which recording needs; install it with the "
                "system's package manager (Debian: apt install libportaudio2)"
            ) from error
        raise MissingExtraError("recording", "sounddevice", "mic") from error
    return sounddevice
