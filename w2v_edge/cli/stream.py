"""`w2v-edge stream`: live audio to codes and text, printed as soon as they are final."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from w2v_edge import strict
from w2v_edge.cli.live import ENCODINGS, file_blocks, microphone, raw_pcm, standard_input
from w2v_edge.cli.on import bundle_tree, file_tree, file_unless, remote_verb
from w2v_edge.cli.options import FiniteRange, load_options, window_option
from w2v_edge.cli.output import frame_text, require, to_json
from w2v_edge.cli.search_options import BUNDLE, NAMES, beam_search, search_options
from w2v_edge.cli.stream_alignment import AlignmentPrinter
from w2v_edge.errors import InputError
from w2v_edge.runtime.realtime import Block, Pace, paced

if TYPE_CHECKING:
    from w2v_edge import Encoding, Model
    from w2v_edge.remote.transfer import Tree
    from w2v_edge.runtime.stream import Stream
    from w2v_edge.runtime.window import Window
    from w2v_edge.text.decoding import TextStream


def _recording(text: str) -> Tree:
    """Return the audio file to copy to a device."""
    if text == "-":
        raise InputError("standard input stays here; give a file with --on")
    return file_tree(text)


@remote_verb(
    "stream",
    short_help="Stream live audio to codes or text.",
    inputs={
        "bundle": bundle_tree,
        "audio": _recording,
        "statistics": file_unless("running"),
        "align": file_tree,
        "lm": file_unless(BUNDLE),
    },
    refused=("mic",),
    extras=dict.fromkeys(NAMES, "lm"),
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--mic", is_flag=True, help="Record from a microphone; extra mic.")
@click.option(
    "--device",
    show_default="the system's",
    help="Microphone: its number, or part of its name.",
)
@click.option("--fast", is_flag=True, help="Process a file as fast as possible.")
@click.option(
    "--rate",
    type=click.IntRange(min=1_000),
    show_default="the model's",
    help="Sample rate of standard input, in Hz.",
)
@click.option(
    "--encoding",
    type=click.Choice(list(ENCODINGS)),
    show_default="s16le",
    help="Sample format of standard input, which is mono.",
)
@click.option(
    "--block-ms",
    type=click.FloatRange(min=1, max=10_000),
    default=320,
    help="Block size, in milliseconds.",
)
@click.option(
    "--statistics",
    show_default="running",
    help="Statistics of a front end that normalises over the utterance: running, over the audio so "
    "far, or an audio file of the same speaker and microphone.",
)
@click.option(
    "--context", is_flag=True, help="Run the transformer even where the codes do not need it."
)
@search_options
@click.option(
    "--delay",
    type=FiniteRange(0),
    show_default="2, with an option of beam search",
    help="Longest time from the end of a word until beam search makes it final, in seconds.",
)
@click.option(
    "--align",
    metavar="TEXT",
    type=click.Path(path_type=Path),
    help="A text file that is read aloud: print each word's start, end and score instead.",
)
@window_option(live=True)
@load_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per block, and a last.")
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
    search: dict[str, Any],
    delay: float | None,
    align: Path | None,
    window: Window | None,
    load_with: dict[str, Any],
    as_json: bool,
) -> None:
    """Stream live audio through BUNDLE to codes, or to text with a CTC head.

    AUDIO is a file, read at real-time pace, or - for raw PCM or WAV on standard input:

    \b
    arecord -q -f S16_LE -r 16000 | w2v-edge stream asr-fp32 -
    w2v-edge stream ckpt-fp32 speech.flac --json
    w2v-edge stream asr-fp32 --mic --align story.txt

    Prints a line per frame with its time in seconds and its codes, joined by commas, or a line per
    word as soon as it is final. JSON objects hold times, codes, final words, the partial text after
    them, and, with --context, context vectors. Late blocks and the algorithmic latency are reported
    at the end, on stderr.

    Options of beam search weigh several texts: a word is final once all of them begin with it, or
    --delay after its end.
    """  # noqa: D301 - the escape is click's, for lines that stay as they are
    if mic == (audio is not None):
        raise click.UsageError("Give a file, or - for standard input, or --mic.")
    _check_usage(audio, rate, encoding, device, block_ms, mic=mic, fast=fast)
    if context and not as_json:
        raise click.UsageError("--context needs --json: vectors are not printed otherwise.")
    if context and align is not None:
        raise click.UsageError("--context cannot be combined with --align.")
    if delay is not None and not search:
        raise click.UsageError("--delay needs an option of beam search, such as --beam-width.")
    if align is not None and search:
        raise click.UsageError("--align cannot be combined with options of beam search.")
    require("streaming", "cpu", *(["audio"] if audio is not None and str(audio) != "-" else []))
    import w2v_edge

    model = w2v_edge.load(bundle, **load_with)
    _check_output(model, as_json=as_json)
    text = _text_stream(model, search, delay)
    opened = _open(model, statistics, window, context=context)
    size = _samples(block_ms, model.sample_rate)
    show: Printer = _Printer(model, text, with_context=context, as_json=as_json)
    if align is not None:
        show = AlignmentPrinter(model, align, show, as_json=as_json)
    pace = Pace()
    with opened as stream:
        _warm_up(stream, max(size, model.manifest.receptive_field))
        interrupted, problem = False, None
        with _blocks(model, audio, device, encoding, rate, block_ms, fast=fast) as blocks:
            try:
                interrupted = _pump(stream, blocks, model.sample_rate, show, pace)
            except InputError as error:
                # Results of the audio before it are valid, and are printed first.
                problem = error
        show.end(stream.flush(), interrupted=interrupted or problem is not None)
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
        raise click.UsageError("--rate and --encoding apply to standard input only.")
    if fast and (mic or piped):
        raise click.UsageError("--fast applies to files only.")
    if math.isnan(block_ms):
        raise click.BadParameter("expected a number of milliseconds.", param_hint="--block-ms")


def _check_output(model: Model, *, as_json: bool) -> None:
    manifest = model.manifest
    if manifest.ctc is None and manifest.codebook is None and not as_json:
        raise InputError(
            "this model has neither codes nor words to print; use --json --context for vectors"
        )


def _text_stream(model: Model, search: dict[str, Any], delay: float | None) -> TextStream | None:
    """Return the decoder of a model with a CTC head: a beam search if one is asked for."""
    from w2v_edge.text.beam_stream import DELAY
    from w2v_edge.text.decoding import StreamDecoder
    from w2v_edge.text.language_model import silent_kenlm

    beam = beam_search(model, search)
    if beam is not None:
        # It opens the language model again, for a search of its own.
        with silent_kenlm():
            return beam.stream(model.context_frame_seconds, DELAY if delay is None else delay)
    if model.manifest.ctc is None:
        return None
    return StreamDecoder(model.spelling, model.context_frame_seconds)


def _open(model: Model, statistics: str | None, window: Window | None, *, context: bool) -> Stream:
    from w2v_edge.runtime.window import STREAM_WINDOW

    chosen: Any = "running"
    if statistics not in {None, "running"}:
        require("reading audio files", "audio")
        from w2v_edge.audio.audio_file import AudioFile

        chosen = model.statistics(AudioFile(Path(str(statistics)), model.sample_rate))
    needed = context or window is not None or model.manifest.ctc is not None
    return model.stream(statistics=chosen, context=(window or STREAM_WINDOW) if needed else None)


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
        with microphone(device, model.sample_rate, size) as recorded:
            yield recorded
    elif str(audio) == "-":
        yield raw_pcm(standard_input(), encoding, rate, model.sample_rate, block_ms / 1000)
    else:
        blocks = file_blocks(audio, model.sample_rate)
        yield paced(blocks, model.sample_rate, size, wait=not fast)


def _samples(block_ms: float, rate: int) -> int:
    return max(1, round(block_ms / 1000 * rate))


def _warm_up(stream: Stream, size: int) -> None:
    """Open the graphs before the first block arrives."""
    import numpy as np

    stream.push(np.zeros(size, dtype=np.float32))
    stream.flush()
    stream.reset()


def _pump(stream: Stream, blocks: Iterable[Block], rate: int, show: Printer, pace: Pace) -> bool:
    """Push all blocks; return whether the user interrupted them."""
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
    """Delay Ctrl-C until the end of a block, which would leave a gap when pushed in part."""
    asked = []
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        # Background jobs of a shell ignore it; that stays.
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


class Printer(Protocol):
    """Prints the results of a stream."""

    def piece(self, piece: Encoding) -> None:
        """Print results that became final."""
        ...

    def end(self, piece: Encoding, *, interrupted: bool) -> None:
        """Print the last results."""
        ...

    def summary(self, stream: Stream, pace: Pace, *, interrupted: bool) -> None:
        """Print timing."""
        ...


class _Printer:
    """Prints results: words of a model with a CTC head, else codes, or all of it as JSON."""

    def __init__(
        self, model: Model, text: TextStream | None, *, with_context: bool, as_json: bool
    ) -> None:
        self._as_json = as_json
        self._with_context = with_context
        self._text = text
        self._of_context = model.manifest.quantizer_input == "context"

    def piece(self, piece: Encoding, *, ended: bool = False) -> None:
        """Print results that became final; `ended` after the last block."""
        words = []
        if self._text is not None and piece.logits is not None:
            words = self._text.push(piece.logits) + (self._text.flush() if ended else [])
        times = piece.context_times if self._of_context else piece.times
        if self._as_json:
            self._json(piece, times.tolist(), words)
        elif self._text is not None:
            for word in words:
                click.echo(f"{word.start:9.2f}  {word.text}")
        elif piece.codes is not None:
            for when, codes in zip(times, piece.codes.tolist(), strict=True):
                click.echo(f"{when:9.4f}  {frame_text(codes)}")

    def end(self, piece: Encoding, *, interrupted: bool) -> None:  # noqa: ARG002 - of `Printer`
        """Print the last results, of an interrupted stream too."""
        self.piece(piece, ended=True)

    def summary(self, stream: Stream, pace: Pace, *, interrupted: bool) -> None:
        """Print timing: the last JSON object on stdout, or a line on stderr."""
        work = sorted(pace.work) or [0.0]
        median, worst = (round(1000 * x, 1) for x in (work[len(work) // 2], work[-1]))
        seconds = stream.seconds
        if self._as_json:
            result = {
                "seconds": round(seconds, 3),
                "blocks": len(pace.work),
                "late": pace.late,
                "behind_ms": round(1000 * pace.behind, 1),
                "work_ms": {"median": median, "worst": worst},
                "real_time_factor": round(sum(work) / seconds, 4) if seconds else None,
                "latency_ms": stream.latency_ms,
                "context_latency_ms": stream.context_latency_ms,
                "start_ms": stream.start_ms,
                "interrupted": interrupted,
            }
            click.echo(to_json(result))
            return
        latency = f"{stream.latency_ms:g} ms"
        if stream.context_latency_ms is not None:
            latency += f", context {stream.context_latency_ms:g} ms"
        click.echo(
            f"{seconds:.1f} s in {len(work)} blocks, {pace.late} late; time per block: median "
            f"{median} ms, maximum {worst} ms; algorithmic latency {latency}",
            err=True,
        )

    def _json(self, piece: Encoding, times: list[float], words: list[Any]) -> None:
        result: dict[str, Any] = {"times": [round(x, 6) for x in times]}
        if piece.codes is not None:
            result["codes"] = piece.codes.tolist()
        if self._with_context and len(piece.context):
            result["context_times"] = [round(x, 6) for x in piece.context_times.tolist()]
            result["context"] = piece.context.tolist()
        if words:
            result["words"] = strict.to_plain(words)
        partial = [] if self._text is None else self._text.partial
        if partial:
            result["partial"] = " ".join(word.text for word in partial)
        if times or words or "context" in result:
            click.echo(to_json(result))
