"""`w2v-edge align`: the times of known texts in audio files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.audio.utterances import MANIFEST_SUFFIXES, read_manifest_rows
from w2v_edge.cli.audio_input import STDIN, STDIN_NAME, read_standard_input
from w2v_edge.cli.options import force_option, json_option, load_options, verb, window_option
from w2v_edge.cli.output import print_line, require, warn
from w2v_edge.cli.per_file import Result, name_outputs, run_per_file
from w2v_edge.errors import InputError, MissingExtraError
from w2v_edge.files import check_absent, replacing
from w2v_edge.text.aligner import Unknown
from w2v_edge.text.alignment_files import (
    Format,
    as_json,
    read_text,
    spoken_text,
    untimed_cues,
    write_alignment,
)
from w2v_edge.text.timed_subtitles import TimedSubtitles

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


@verb("align", short_help="Find when the words of a known text are spoken.")
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

    TEXT is a text file, or subtitles (.srt, .vtt), which get new times and keep all else. One of
    AUDIO (a file with a header, such as FLAC) and TEXT may be -, standard input. AUDIO may also be
    a manifest with a text for each recording, .tsv or .jsonl: a row that fails is reported,
    the others are aligned, and the exit code is 1.

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
    options = {
        "unknown": unknown,
        "strict": strict,
        "romanize": _romanizer(romanize),
        "window": window,
    }
    outputs = _outputs(pairs, output or FOLDER, kinds)

    def align(i: int, _: Path) -> Result:
        pair = pairs[i]
        if isinstance(pair, InputError):
            raise pair
        return _align_one(model, pair, options, outputs[i], force=force)

    def show(result: Result) -> None:
        many = len(pairs) > 1
        prefix, where = (f"{result['path']}{x}" if many else "" for x in ("\t", ": "))
        for remark in result["remarks"]:
            # The table on stdout is for programs.
            warn(f"{where}{remark}")
        for path in result.get("outputs", ()):
            print_line(f"{path}: {len(result['words'])} words")
        if not kinds:
            for word in result["words"]:
                times = f"{word['start']:.2f}\t{word['end']:.2f}"
                click.echo(f"{prefix}{times}\t{word['score']:.2f}\t{word['word']}")

    files = [(audio if isinstance(x, InputError) else x.audio, Path()) for x in pairs]
    run_per_file("align", files, align, show, as_json=as_json)


@dataclass(frozen=True)
class _Pair:
    """A recording and its text.

    Attributes:
        audio: path of the recording.
        name: path of its outputs, without their folder and with the recording's ending.
        text: what is spoken; None if the manifest has none.
        content: the recording from standard input; None for a file.
    """

    audio: Path
    name: Path
    text: str | TimedSubtitles | None
    content: bytes | None = None


def _pairs(audio: Path, text_file: Path | None, text: str | None) -> list[_Pair | InputError]:
    """Return the recordings with their texts, and the errors of rows that have none.

    Raises:
        click.UsageError: there is not exactly one source of texts.
        InputError: a file of texts cannot be read.
    """
    manifest = audio.suffix.lower() in MANIFEST_SUFFIXES
    if [manifest, text_file is not None, text is not None].count(True) != 1:
        raise click.UsageError("give TEXT, or --text, or a manifest with texts as AUDIO.")
    if audio == text_file == STDIN:
        raise click.UsageError("AUDIO and TEXT cannot both be -, standard input.")
    if not manifest:
        spoken = text if text_file is None else _read_text(text_file)
        if audio == STDIN:
            return [_Pair(audio, STDIN_NAME, spoken, read_standard_input())]
        return [_Pair(audio, Path(audio.name or "audio"), spoken)]
    rows = list(read_manifest_rows(audio))
    if not rows:
        raise InputError(f"{audio}: found no recordings")
    return [
        x if isinstance(x, InputError) else _Pair(x.path, _relative(Path(x.id)), x.text)
        for x in rows
    ]


def _read_text(path: Path) -> str | TimedSubtitles:
    if path != STDIN:
        return read_text(path)
    try:
        return read_standard_input().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("standard input: found bytes that are not UTF-8; convert them") from error


def _relative(path: Path) -> Path:
    """Return a path below a folder: outputs stay in theirs, wherever recordings are."""
    return Path(*(x for x in path.parts if x not in {"..", path.anchor}))


@dataclass(frozen=True)
class _Outputs:
    """The files of one recording.

    Attributes:
        name: of the recording, unlike any other's.
        paths: by format.
    """

    name: str
    paths: dict[Format, Path]


def _outputs(
    pairs: Sequence[_Pair | InputError], folder: Path, kinds: Sequence[Format]
) -> dict[int, _Outputs]:
    """Return the files of each pair by its index."""
    good = {i: (x.audio, x.name) for i, x in enumerate(pairs) if isinstance(x, _Pair)}
    files = list(good.values())
    named = [name_outputs(files, Path(), ENDINGS[kind]) for kind in kinds]
    return {
        i: _Outputs(
            paths[0].with_suffix("").as_posix() if paths else "",
            {kind: folder / path for kind, path in zip(kinds, paths, strict=True)},
        )
        for i, *paths in zip(good, *named, strict=True)
    }


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
    model: Model, pair: _Pair, options: dict[str, Any], outputs: _Outputs, *, force: bool
) -> Result:
    from w2v_edge.audio.audio_file import AudioFile

    if pair.text is None:
        raise InputError(f"{pair.audio}: found no text in the manifest, expected what is spoken")
    for path in outputs.paths.values():
        check_absent(path, force=force)
    audio = AudioFile(pair.audio, model.sample_rate, content=pair.content)
    found = model.align(audio, spoken_text(pair.text), **options)
    result = as_json(str(pair.audio), found)
    if isinstance(pair.text, TimedSubtitles):
        untimed = untimed_cues(pair.text, found)
        if untimed and options["strict"]:
            raise InputError(f"found {_named_cues(untimed)}; remove them, or spell them out")
        if untimed:
            result["remarks"].append(f"{_named_cues(untimed)}: each follows the one before")
    for kind, path in outputs.paths.items():
        with replacing(path) as temporary:
            written = write_alignment(found, kind, outputs.name, pair.text)
            temporary.write_text(written, encoding="utf-8", newline="")
    paths = [str(path) for path in outputs.paths.values()]
    return result | ({"outputs": paths} if paths else {})


def _named_cues(untimed: Sequence[str]) -> str:
    return f"{len(untimed)} subtitles without a word that has a time, the first {untimed[0]!r:.40}"
