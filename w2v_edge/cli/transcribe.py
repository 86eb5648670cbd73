"""`w2v-edge transcribe`: audio files to text and subtitles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge import strict
from w2v_edge.cli.audio_input import open_audio
from w2v_edge.cli.options import (
    Seconds,
    force_option,
    json_option,
    load_options,
    verb,
    window_option,
)
from w2v_edge.cli.output import console, require
from w2v_edge.cli.per_file import Result, audio_argument, files_of, name_outputs, run_per_file
from w2v_edge.cli.search_options import beam_search, search_options
from w2v_edge.files import check_absent, replacing
from w2v_edge.text.segments import SegmentLimits, join_segments
from w2v_edge.text.subtitles import Format, subtitles

if TYPE_CHECKING:
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.window import Window
    from w2v_edge.text.decoding import Transcription
    from w2v_edge.text.segments import Segment

FOLDER = Path("transcripts")


@verb("transcribe", short_help="Transcribe audio files, with a CTC head.")
@click.argument("bundle", type=click.Path(path_type=Path))
@audio_argument
@click.option("--srt", is_flag=True, help="Write one .srt per file.")
@click.option("--vtt", is_flag=True, help="Write one .vtt per file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    show_default=str(FOLDER),
    help="Folder for subtitles.",
)
@search_options
@click.option(
    "--n-best",
    type=click.IntRange(min=1),
    show_default="1",
    help="Texts for each file; all but the best are in --json.",
)
@click.option(
    "--segments",
    is_flag=True,
    help="Cut at pauses, and give start, end and text of each segment. Subtitles are always cut.",
)
@click.option(
    "--min-pause",
    type=Seconds(),
    show_default="500ms",
    help="Shortest pause that ends a segment.",
)
@click.option(
    "--max-segment",
    type=Seconds(),
    show_default="30s",
    help="Longest segment; a longer one is cut at its likeliest pause.",
)
@window_option()
@load_options
@force_option
@json_option
def command(
    bundle: Path,
    audio: tuple[Path, ...],
    srt: bool,
    vtt: bool,
    output: Path | None,
    search: dict[str, Any],
    n_best: int | None,
    segments: bool,
    min_pause: float | None,
    max_segment: float | None,
    window: Window | None,
    load_with: dict[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Transcribe AUDIO files, or folders of them, with BUNDLE, a model with a CTC head.

    AUDIO may be -, an audio file on standard input. Prints the text of each file; --json adds its
    score, and words with their times in seconds and confidence. A file that fails is reported, the
    others are transcribed, and the exit code is 1.
    """
    asked: dict[Format, bool] = {"srt": srt, "vtt": vtt}
    kinds = [kind for kind, wanted in asked.items() if wanted]
    search |= {} if n_best is None else {"n_best": n_best}
    if output is not None and not kinds:
        raise click.UsageError("-o needs --srt or --vtt.")
    limits = _limits(min_pause, max_segment, cut=segments or bool(kinds))
    require("transcribing audio files", "cpu", "audio", *(["cli"] if kinds else []))
    import w2v_edge

    model = w2v_edge.load(bundle, **load_with)
    decoder = beam_search(model, search)
    files = files_of(audio)
    names = [name_outputs(files, output or FOLDER, f".{kind}") for kind in kinds]

    def transcribe(i: int, source: Path) -> Result:
        outputs = {kind: paths[i] for kind, paths in zip(kinds, names, strict=True)}
        options: dict[str, Any] = {"decoder": decoder, "window": window}
        return _transcribe_one(model, source, outputs, limits, options, force=force)

    def show(result: Result) -> None:
        if kinds:
            what = f"{len(result['words'])} words of {result['file']}"
            for path in result["outputs"]:
                console().print(f"{path}: {what}", soft_wrap=True)
        elif segments:
            prefix = f"{result['file']}\t" if len(files) > 1 else ""
            for x in result["segments"]:
                click.echo(f"{prefix}{x['start']:.2f}\t{x['end']:.2f}\t{x['text']}")
        else:
            click.echo(result["text"] if len(files) == 1 else f"{result['file']}: {result['text']}")

    run_per_file("transcribe", files, transcribe, show, as_json=as_json)


def _limits(
    min_pause: float | None, max_segment: float | None, *, cut: bool
) -> SegmentLimits | None:
    """Return where to cut recordings; None to leave them whole."""
    limits = {"min_pause": min_pause, "max_seconds": max_segment}
    given = {name: value for name, value in limits.items() if value is not None}
    if given and not cut:
        raise click.UsageError("--min-pause and --max-segment need --segments, --srt or --vtt.")
    return SegmentLimits(**given) if cut else None


def _transcribe_one(
    model: Model,
    source: Path,
    outputs: dict[Format, Path],
    limits: SegmentLimits | None,
    options: dict[str, Any],
    *,
    force: bool,
) -> Result:
    """Transcribe a file, in segments if there are `limits`, and write its subtitles."""
    for path in outputs.values():
        check_absent(path, force=force)
    file = open_audio(source, model.sample_rate)
    parts: list[Segment] = []
    if limits is None:
        found = model.transcribe(file, **options)
    else:
        parts = list(model.segments(file, limits=limits, **options))
        found = join_segments(parts)
    for kind, path in outputs.items():
        with replacing(path) as temporary:
            temporary.write_text(subtitles(found, kind), encoding="utf-8")
    result = _plain(found)
    if limits is not None:
        result["segments"] = [_plain(x) for x in parts]
    return result | ({"outputs": [str(path) for path in outputs.values()]} if outputs else {})


def _plain(found: Transcription) -> Result:
    result: Result = strict.to_plain(found)
    if not found.alternatives:
        del result["alternatives"]
    return result
