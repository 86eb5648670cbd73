"""`w2v-edge stream`: live audio to codes and text, as soon as they are final."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.live import (
    ENCODINGS,
    file_blocks,
    microphone,
    raw_pcm,
    standard_input,
)
from w2v_edge.cli.options import running_options, window_of, window_option
from w2v_edge.cli.output import require
from w2v_edge.cli.stream_printer import Printer
from w2v_edge.errors import InputError
from w2v_edge.runtime.realtime import Block, Pace, paced

if TYPE_CHECKING:
    from w2v_edge import Model
    from w2v_edge.runtime.stream import Stream


@click.command("stream")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--mic", is_flag=True, help="Record: pip install 'w2v-edge[mic]'.")
@click.option("--device", help="Number or part of the name of the microphone.")
@click.option("--fast", is_flag=True, help="Read a file as fast as it is worked on.")
@click.option(
    "--rate",
    type=click.IntRange(min=1_000),
    help="Of standard input, in Hz.  [default: the model's]",
)
@click.option(
    "--encoding",
    type=click.Choice(list(ENCODINGS)),
    help="Of standard input, one channel.  [default: s16le]",
)
@click.option(
    "--block-ms",
    type=click.FloatRange(min=1, max=10_000),
    default=320,
    show_default=True,
    help="Audio that is waited for before it is worked on.",
)
@click.option(
    "--statistics",
    help='What a front end that normalises over the utterance goes by: "running", over what was '
    "heard so far, or a recording of the same speaker and microphone.  [default: running]",
)
@click.option("--context", is_flag=True, help="Run the transformer, where codes do not need it.")
@window_option
@running_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a piece, and one last."
)
def command(
    bundle: Path,
    audio: Path | None,
    mic: bool,
    device: str | None,
    fast: bool,
    rate: int | None,
    encoding: str | None,
    block_ms: float,
    statistics: str | None,
    context: bool,
    window: tuple[float, float, float] | None,
    running: dict[str, Any],
    as_json: bool,
) -> None:
    """Turn live audio into codes, with a CTC head into text, with BUNDLE.

    AUDIO is a file, taken at the pace of time, or - for raw PCM on standard input:

    \b
    arecord -q -f S16_LE -r 16000 | w2v-edge stream asr-fp32 -
    w2v-edge stream ckpt-fp32 speech.flac --json

    Prints a line for each frame, its time in seconds and its codes, or words as they are complete.
    JSON pieces hold times, codes, words, and, with --context, context vectors. What was late, by
    how much, and the algorithmic latency come last, on standard error.
    """  # noqa: D301 - the escape is click's, for lines that stay as they are
    if mic == (audio is not None):
        raise click.UsageError("Give a file, or - for standard input, or --mic.")
    _check_usage(audio, rate, encoding, device, block_ms, mic=mic, fast=fast)
    if context and not as_json:
        raise click.UsageError("--context needs --json: vectors are not printed otherwise.")
    require("streaming", "cpu", *(["audio"] if audio is not None and str(audio) != "-" else []))
    import w2v_edge

    model = w2v_edge.load(bundle, **running)
    _check_output(model, as_json=as_json)
    opened = _open(model, statistics, window, context=context)
    size = _samples(block_ms, model.sample_rate)
    show = Printer(model, with_context=context, as_json=as_json)
    pace = Pace()
    with opened as stream:
        _warm_up(stream, max(size, model.manifest.receptive_field))
        interrupted, problem = False, None
        with _blocks(model, audio, device, encoding, rate, block_ms, fast=fast) as blocks:
            try:
                interrupted = _pump(stream, blocks, model.sample_rate, show, pace)
            except InputError as error:
                # What was heard before is good, and is given first.
                problem = error
        show.piece(stream.flush(), ended=True)
        if problem is not None:
            raise problem
        if not stream.samples and not interrupted:
            raise InputError("found no samples, expected audio; check where it comes from")
        show.summary(stream, pace, interrupted=interrupted)


def _check_usage(
    audio: Path | None,
    rate: int | None,
    encoding: str | None,
    device: str | None,
    block_ms: float,
    *,
    mic: bool,
    fast: bool,
) -> None:
    piped = str(audio) == "-"
    if device is not None and not mic:
        raise click.UsageError("--device needs --mic.")
    if not piped and (rate is not None or encoding is not None):
        raise click.UsageError(
            "--rate and --encoding are of standard input: files and microphones know theirs."
        )
    if fast and (mic or piped):
        raise click.UsageError("--fast is for files: live audio comes when it comes.")
    if math.isnan(block_ms):
        raise click.BadParameter("expected a number of milliseconds.", param_hint="--block-ms")


def _check_output(model: Model, *, as_json: bool) -> None:
    manifest = model.manifest
    if manifest.ctc is None and manifest.codebook is None and not as_json:
        raise InputError(
            "this model has neither codes nor words to print; use --json --context for vectors"
        )


def _open(
    model: Model,
    statistics: str | None,
    window: tuple[float, float, float] | None,
    *,
    context: bool,
) -> Stream:
    from w2v_edge.runtime.window import STREAM_WINDOW

    chosen: Any = "running"
    if statistics not in {None, "running"}:
        require("reading audio files", "audio")
        from w2v_edge.audio import AudioFile

        chosen = model.statistics(AudioFile(Path(str(statistics)), model.sample_rate))
    wanted = context or window is not None or model.manifest.ctc is not None
    moving = window_of(window) or STREAM_WINDOW
    return model.stream(statistics=chosen, context=moving if wanted else None)


@contextmanager
def _blocks(
    model: Model,
    audio: Path | None,
    device: str | None,
    encoding: str | None,
    rate: int | None,
    block_ms: float,
    *,
    fast: bool,
) -> Iterator[Iterable[Block]]:
    size = _samples(block_ms, model.sample_rate)
    if audio is None:
        with microphone(device, model.sample_rate, size) as heard:
            yield heard
    elif str(audio) == "-":
        given_at = rate or model.sample_rate
        size = _samples(block_ms, given_at)
        yield raw_pcm(standard_input(), encoding or "s16le", given_at, model.sample_rate, size)
    else:
        blocks = file_blocks(audio, model.sample_rate)
        yield paced(blocks, model.sample_rate, size, wait=not fast)


def _samples(block_ms: float, rate: int) -> int:
    return max(1, round(block_ms / 1000 * rate))


def _warm_up(stream: Stream, size: int) -> None:
    """Open the graphs before the first block comes."""
    import numpy as np

    stream.push(np.zeros(size, dtype=np.float32))
    stream.flush()
    stream.reset()


def _pump(stream: Stream, blocks: Iterable[Block], rate: int, show: Printer, pace: Pace) -> bool:
    """Push all blocks; tell whether it was the user who ended them."""
    try:
        for block in blocks:
            begun = time.perf_counter()
            with _uninterrupted():
                piece = stream.push(block.samples)
            seconds = len(block.samples) / rate
            pace.note(block.due, begun, time.perf_counter(), seconds)
            show.piece(piece)
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait: a block that is worked on in part would leave a gap."""
    asked = []
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        # Jobs in the background of a shell are not to be interrupted at all.
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
