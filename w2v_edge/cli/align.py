"""`w2v-edge align`: the times of known texts in audio files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.audio.utterances import MANIFEST_SUFFIXES, Utterance, read_speech_manifest
from w2v_edge.cli.options import force_option, json_option, load_options, verb, window_option
from w2v_edge.cli.output import console, require
from w2v_edge.cli.per_file import Result, name_outputs, run_per_file
from w2v_edge.errors import InputError, MissingExtraError
from w2v_edge.files import check_absent, replacing
from w2v_edge.text.aligner import Unknown
from w2v_edge.text.alignment_files import SUBTITLES, Format, as_json, read_lines, write_alignment

if TYPE_CHECKING:
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.window import Window

FOLDER = Path("alignments")

ENDINGS: dict[Format, str] = {
    "srt": ".srt",
    "vtt": ".vtt",
    "textgrid": ".TextGrid",
    "ctm": ".ctm",
}


@verb("align")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", type=click.Path(path_type=Path))
@click.argument("text_file", metavar="[TEXT]", required=False, type=click.Path(path_type=Path))
@click.option("--text", help="The text itself, in place of TEXT.")
@click.option("--srt", is_flag=True, help="Write subtitles, .srt.")
@click.option("--vtt", is_flag=True, help="Write subtitles, .vtt.")
@click.option("--textgrid", is_flag=True, help="Write lines, words and labels for Praat.")
@click.option("--ctm", is_flag=True, help="Write a line for each word: name, 1, start, length.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    show_default=str(FOLDER),
    help="Folder for these files.",
)
@click.option(
    "--unknown",
    type=click.Choice(get_args(Unknown)),
    default="star",
    help="What characters without a label do, such as digits: take any label's frames (star), "
    "none (skip), or stop (error).",
)
@click.option(
    "--romanize",
    type=click.Choice(("uroman",)),
    help="Write texts in Latin letters first, for models with such labels; extra romanize.",
)
@click.option("--strict", is_flag=True, help="Words that get no time are an error.")
@window_option()
@load_options
@force_option
@json_option
def command(
    bundle: Path,
    audio: Path,
    text_file: Path | None,
    text: str | None,
    srt: bool,
    vtt: bool,
    textgrid: bool,
    ctm: bool,
    output: Path | None,
    unknown: Unknown,
    romanize: str | None,
    strict: bool,
    window: Window | None,
    load_with: dict[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Find when the words of a known text are spoken in AUDIO, with BUNDLE, a CTC model.

    TEXT is a text file, or subtitles (.srt, .vtt), whose times are found anew. AUDIO may also be a
    manifest with a text for each recording, .tsv or .jsonl: one that fails is reported, the others
    are aligned, and the exit code is 1.

    Prints start and end in seconds and a score of each word; --json adds lines and labels. The
    result is the likeliest path over the recording as one piece, also for hours of audio.
    """
    asked: dict[Format, bool] = {"srt": srt, "vtt": vtt, "textgrid": textgrid, "ctm": ctm}
    kinds = [kind for kind, wanted in asked.items() if wanted]
    if output is not None and not kinds:
        raise click.UsageError("-o needs --srt, --vtt, --textgrid or --ctm.")
    pairs = _pairs(audio, text_file, text)
    require("aligning audio files", "cpu", "audio", *(["cli"] if kinds else []))
    import w2v_edge

    model = w2v_edge.load(bundle, **load_with)
    options = {"unknown": unknown, "strict": strict, "romanize": _romanizer(romanize)}
    as_lines = text_file is not None and text_file.suffix.lower() in SUBTITLES
    files = [(pair.path, _relative(Path(pair.id))) for pair in pairs]
    named = [name_outputs(files, output or FOLDER, ENDINGS[kind]) for kind in kinds]

    def align(i: int, source: Path) -> Result:
        outputs = {kind: paths[i] for kind, paths in zip(kinds, named, strict=True)}
        spoken = pairs[i].text
        if spoken is None:
            raise InputError(f"{source}: found no text in the manifest, expected what is spoken")
        return _align_one(
            model, source, spoken, window, options, outputs, lines=as_lines, force=force
        )

    def show(result: Result) -> None:
        for remark in result["remarks"]:
            console().print(f"note: {remark}", soft_wrap=True)
        for path in result.get("outputs", ()):
            console().print(f"{path}: {len(result['words'])} words", soft_wrap=True)
        if not kinds:
            prefix = f"{result['path']}\t" if len(pairs) > 1 else ""
            for word in result["words"]:
                times = f"{word['start']:.2f}\t{word['end']:.2f}"
                click.echo(f"{prefix}{times}\t{word['score']:.2f}\t{word['word']}")

    run_per_file("align", files, align, show, as_json=as_json)


def _pairs(audio: Path, text_file: Path | None, text: str | None) -> list[Utterance]:
    """Return the recordings with their texts.

    Raises:
        click.UsageError: there is not exactly one source of texts.
        InputError: a file of texts cannot be read.
    """
    manifest = audio.suffix.lower() in MANIFEST_SUFFIXES
    if [manifest, text_file is not None, text is not None].count(True) != 1:
        raise click.UsageError("give TEXT, or --text, or a manifest with texts as AUDIO.")
    if manifest:
        pairs = list(read_speech_manifest(audio))
        if not pairs:
            raise InputError(f"{audio}: found no recordings")
        return pairs
    spoken = text if text_file is None else "\n".join(read_lines(text_file))
    return [Utterance(audio.name, audio, spoken)]


def _relative(path: Path) -> Path:
    """Return a path below a folder: outputs stay in theirs, wherever recordings are."""
    return Path(*(x for x in path.parts if x not in {"..", path.anchor}))


def _romanizer(name: str | None) -> Callable[[str], str] | None:
    """Return a function that writes a word in Latin letters.

    Raises:
        MissingExtraError: uroman is not installed.
    """
    if name is None:
        return None
    try:
        from uroman import Uroman
    except ImportError as error:
        raise MissingExtraError("romanising texts", "uroman", "romanize") from error
    romanize: Callable[[str], str] = Uroman().romanize_string
    return romanize


def _align_one(
    model: Model,
    source: Path,
    text: str,
    window: Window | None,
    options: dict[str, Any],
    outputs: dict[Format, Path],
    *,
    lines: bool,
    force: bool,
) -> Result:
    from w2v_edge.audio.audio_file import AudioFile

    for path in outputs.values():
        check_absent(path, force=force)
    found = model.align(AudioFile(source, model.sample_rate), text, window=window, **options)
    for kind, path in outputs.items():
        with replacing(path) as temporary:
            written = write_alignment(found, kind, source.stem, lines=lines)
            temporary.write_text(written, encoding="utf-8")
    result = as_json(str(source), found)
    return result | ({"outputs": [str(path) for path in outputs.values()]} if outputs else {})
