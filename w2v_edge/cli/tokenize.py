"""`w2v-edge tokenize`: audio files to codes as text, or units with durations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from w2v_edge.cli.audio_input import open_audio
from w2v_edge.cli.options import json_option, load_options, verb, window_option
from w2v_edge.cli.output import frame_text, require
from w2v_edge.cli.per_file import Result, audio_argument, files_of, run_per_file


@verb("tokenize", short_help="Print the codes of audio files.")
@click.argument("bundle", type=click.Path(path_type=Path))
@audio_argument
@click.option(
    "--units", is_flag=True, help="Give each run of equal codes once, with --json its duration too."
)
@window_option()
@load_options
@json_option
def command(
    bundle: Path,
    audio: tuple[Path, ...],
    units: bool,
    window: Any,
    load_with: dict[str, Any],
    as_json: bool,
) -> None:
    """Print the codes of AUDIO files, or folders of them, with BUNDLE.

    AUDIO may be -, an audio file on standard input. A line per file: a number per frame, or with
    several groups their numbers joined by commas. --json gives `codes`, a list per frame or unit
    with the code of each group, and `frame_seconds`; with --units `durations`, the frames that each
    unit lasts: repeating units by durations gives the codes back. `encode` writes codes to files.
    """
    require("tokenizing audio files", "cpu", "audio")
    import w2v_edge

    model = w2v_edge.load(bundle, **load_with)
    files = files_of(audio)
    of_context = model.manifest.quantizer_input == "context"
    frame = {
        "frame_seconds": (
            model.context_frame_seconds if of_context else model.manifest.hop / model.sample_rate
        )
    }

    def tokenize(_: int, source: Path) -> Result:
        recording = open_audio(source, model.sample_rate)
        if not units:
            return {"codes": model.tokenize(recording, window=window).tolist()} | frame
        found = model.tokenize(recording, window=window, deduplicate=True)
        lists = {"codes": found.codes.tolist(), "durations": found.durations.tolist()}
        return lists | frame

    def show(result: Result) -> None:
        text = _text(result["codes"])
        click.echo(text if len(files) == 1 else f"{result['file']}: {text}")

    run_per_file("tokenize", files, tokenize, show, as_json=as_json)


def _text(codes: list[list[int]]) -> str:
    return " ".join(map(frame_text, codes))
