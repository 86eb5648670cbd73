"""Sources of live audio: raw PCM on standard input, a file at real-time pace, a microphone."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from w2v_edge.audio.piped import PipedWav, read_header
from w2v_edge.audio.waveform import check_rate
from w2v_edge.cli.output import warn
from w2v_edge.errors import InputError, MissingExtraError
from w2v_edge.runtime.realtime import Block

if TYPE_CHECKING:
    from w2v_edge.audio import Waveform

ENCODINGS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}

QUEUED_SECONDS = 30.0
"""Recorded audio that waits at most; what comes beyond that is dropped."""

SILENT_SECONDS = 5.0
"""Time without a block, beyond the length of two, after which a microphone counts as unplugged."""


def raw_pcm(
    stream: BinaryIO, encoding: str | None, rate: int | None, model_rate: int, seconds: float
) -> Iterator[Block]:
    """Yield mono PCM from a pipe as it arrives; the header of a WAV file is read, not heard.

    Args:
        stream: standard input.
        encoding: a key of `ENCODINGS`; None for `s16le`, or what a header says.
        rate: sample rate of the stream in Hz; None for the model's, or what a header says.
        model_rate: sample rate of the model in Hz.
        seconds: longest block.

    Raises:
        InputError: the stream ends within a sample, or holds values that are not PCM, or another
            format; a header that contradicts the arguments.
    """
    # A buffered reader would wait for a whole block.
    read = getattr(stream, "read1", stream.read)
    header, first = read_header(read)
    if header is not None:
        encoding, rate = _stated(header, encoding, rate)
    encoding, rate = encoding or "s16le", rate or model_rate
    kind = ENCODINGS[encoding]
    size = max(1, round(seconds * rate)) * kind.itemsize

    def received() -> Iterator[bytes]:
        left = None if header is None else header.size
        if header is None and (begin := first + read(max(0, size - len(first)))):
            yield begin
        while data := read(size if left is None else min(size, left)):
            yield data
            left = None if left is None else left - len(data)

    def blocks() -> Iterator[Waveform]:
        from w2v_edge.audio import as_waveform

        rest = b""
        for data in received():
            held = rest + data
            whole = len(held) - len(held) % kind.itemsize
            rest = held[whole:]
            samples = np.frombuffer(held[:whole], dtype=kind)
            yield as_waveform(samples.astype(kind.newbyteorder("=")), None, model_rate)
        if rest:
            raise InputError(
                f"found {len(rest)} bytes behind the last whole sample of standard input, "
                f"expected {encoding}; check --encoding"
            )

    waveforms = blocks()
    if rate != model_rate:
        from w2v_edge.audio import resample_blocks

        waveforms = resample_blocks(waveforms, rate, model_rate)
    yield from (Block(samples, time.perf_counter()) for samples in waveforms)


def _stated(header: PipedWav, encoding: str | None, rate: int | None) -> tuple[str, int]:
    """Return the encoding and the sample rate of a WAV file on standard input.

    Raises:
        InputError: they are not supported, or not those that the user states.
        SampleRateError: no rate of audio.
    """
    check_rate(header.rate)
    found = f"found a WAV file of {header.channels} channels, {header.encoding}, {header.rate} Hz"
    if header.channels != 1 or header.encoding not in ENCODINGS:
        raise InputError(
            f"{found} on standard input, expected 1 channel, {' or '.join(ENCODINGS)}; convert it, "
            "or name the file"
        )
    if encoding not in {None, header.encoding} or rate not in {None, header.rate}:
        raise InputError(f"{found} on standard input; leave out --encoding and --rate")
    return header.encoding, header.rate


@contextmanager
def microphone(device: str | None, sample_rate: int, size: int) -> Iterator[Iterator[Block]]:
    """Record until interrupted; yields the blocks.

    Samples that are lost, because the driver or the model was too slow, are replaced by silence and
    reported on stderr, so that times stay right.

    Args:
        device: number or part of the name; None for the system's default.
        sample_rate: in Hz.
        size: samples of a block.

    Raises:
        MissingExtraError: sounddevice is not installed.
        InputError: the microphone cannot be opened, or stops while it is recorded from.
    """
    sounddevice = _import_sounddevice()
    recorder = _Recorder(sample_rate, size)
    number = int(device) if device is not None and device.isdigit() else device
    stream = None
    try:
        stream = sounddevice.InputStream(
            samplerate=sample_rate,
            blocksize=size,
            device=number,
            channels=1,
            dtype="float32",
            callback=recorder.receive,
            finished_callback=recorder.finish,
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        if stream is not None:
            stream.close()
        raise InputError(
            f"no microphone could be opened ({' '.join(str(error).split()):.80}); "
            "python -m sounddevice lists them"
        ) from error
    try:
        yield recorder.blocks()
    finally:
        stream.close()


class _Recorder:
    """The queue between PortAudio's thread, which calls `receive`, and the model."""

    def __init__(self, sample_rate: int, size: int) -> None:
        self._rate, self._size = sample_rate, size
        most = max(2, round(QUEUED_SECONDS * sample_rate / size))
        # The last place is kept for the end.
        self._waiting: queue.Queue[tuple[int, Block] | None] = queue.Queue(most + 1)
        self._most = most
        self._begun: float | None = None
        self._received = self._lost = 0

    def receive(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Take a block from PortAudio, after counting the samples that it lost before it."""
        now = time.perf_counter()
        # Not every driver has a clock.
        at = getattr(times, "inputBufferAdcTime", 0.0) or now
        if self._begun is None:
            self._begun = at
        elif getattr(status, "input_overflow", False):
            missed = round((at - self._begun) * self._rate) - self._received
            self._received += max(0, missed)
            self._lost += max(0, missed)
        self._received += frames
        if self._waiting.qsize() >= self._most:
            self._lost += frames
            return
        block = Block(np.array(data[:, 0], dtype=np.float32), now)
        self._waiting.put_nowait((self._lost, block))
        self._lost = 0

    def finish(self) -> None:
        """Note that PortAudio gives no more blocks."""
        self._waiting.put_nowait(None)

    def blocks(self) -> Iterator[Block]:
        """Yield what is recorded, with silence in place of lost samples."""
        patience = SILENT_SECONDS + 2 * self._size / self._rate
        heard = 0
        while True:
            try:
                found = self._waiting.get(timeout=patience)
            except queue.Empty:
                found = None
            if found is None:
                raise InputError("the microphone gives no more audio; check that it is plugged in")
            lost, block = found
            if lost:
                warn(
                    f"{lost / self._rate:.2f} s of audio were lost after {heard / self._rate:.2f} s"
                    ", and replaced by silence; the model or the driver is too slow"
                )
            heard += lost + len(block.samples)
            for length in (*[self._size] * (lost // self._size), lost % self._size):
                if length:
                    yield Block(np.zeros(length, dtype=np.float32), block.due)
            yield block


def standard_input() -> BinaryIO:
    """Return standard input as bytes.

    Raises:
        InputError: it is a terminal or closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("found no standard input; pipe raw PCM in, name a file, or use --mic")
    if sys.stdin.isatty():
        raise InputError(
            "found a terminal on standard input, expected raw PCM; pipe it in, name a file, "
            "or use --mic"
        )
    return sys.stdin.buffer


def file_blocks(path: Path, sample_rate: int) -> Iterator[Waveform]:
    """Yield an audio file block by block, resampled to `sample_rate` in Hz."""
    from w2v_edge.audio.audio_file import AudioFile

    return AudioFile(path, sample_rate).blocks()


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("recording", "sounddevice", "mic") from error
    except OSError as error:
        raise InputError(
            "PortAudio, which recording needs, is not installed; install it with the system's "
            "package manager (Debian: apt install libportaudio2)"
        ) from error
    return sounddevice
