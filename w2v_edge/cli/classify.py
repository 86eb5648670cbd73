"""`w2v-edge classify`: audio files to classes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np

from w2v_edge.cli.audio_input import open_audio
from w2v_edge.cli.options import Seconds, WindowType, json_option, load_options, verb
from w2v_edge.cli.output import require
from w2v_edge.cli.per_file import Result, audio_argument, files_of, run_per_file

if TYPE_CHECKING:
    from w2v_edge.runtime.classification import Classification, FrameClassification
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.window import Window


class _WindowOrSeconds(WindowType):
    """A window of attention, or with --every the seconds of audio in a window."""

    def __init__(self) -> None:
        super().__init__(live=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        convert = super().convert if "=" in str(value) else Seconds().convert
        return convert(value, param, ctx)


@verb("classify", short_help="Classify audio files, such as by emotion.")
@click.argument("bundle", type=click.Path(path_type=Path))
@audio_argument
@click.option("--top", type=click.IntRange(min=1), default=3, help="Number of labels to print.")
@click.option(
    "--every",
    type=Seconds(),
    metavar="SECONDS",
    show_default="once for each file",
    help="Classify windows that begin every so many seconds, such as 1s.",
)
@click.option(
    "--window",
    type=_WindowOrSeconds(),
    metavar="SECONDS|step=S,left=S,right=S",
    show_default="5s with --every, or --every if that is longer; else all of the audio, up to the "
    "length that fits",
    help="With --every, the length of its windows, such as 5s; else the attention window, see "
    "w2v-edge encode.",
)
@load_options
@json_option
def command(
    bundle: Path,
    audio: tuple[Path, ...],
    top: int,
    every: float | None,
    window: Window | float | None,
    load_with: dict[str, Any],
    as_json: bool,
) -> None:
    """Classify AUDIO files, or folders of them, with BUNDLE, a model with a classifier.

    AUDIO may be -, an audio file on standard input. Prints the most probable labels of each file
    with their probabilities, or all values of a regression; of several classifiers each under its
    name. For a model that classifies frames it prints the fraction of frames of each label; --json
    adds segments with their times in seconds. With --every it prints a line for each window, with
    its start and end in seconds: the last one ends with the recording. A file that fails is
    reported, the others are classified, and the exit code is 1.
    """
    if window is not None and isinstance(window, float) != (every is not None):
        raise click.UsageError(
            "--window is a number of seconds, such as 5s, with --every, and step=S,left=S,right=S "
            "without."
        )
    require("classifying audio files", "cpu", "audio")
    import w2v_edge
    from w2v_edge.runtime.classification import classifiers

    model = w2v_edge.load(bundle, **load_with)
    classifiers(model.manifest)
    files = files_of(audio)

    def classify(_: int, source: Path) -> Result:
        if every is not None:
            return _classify_windows(model, source, top, window=window, every=every)
        return _classify_one(model, cast("Window | None", window), source, top)

    def show(result: Result) -> None:
        several = len(files) > 1
        for x in result.get("windows", ()):
            prefix = f"{result['file']}\t" if several else ""
            click.echo(f"{prefix}{x['start']:.2f}\t{x['end']:.2f}\t{_labels(x)}")
        if "windows" not in result:
            click.echo(f"{result['file']}: {_labels(result)}" if several else _labels(result))

    run_per_file("classify", files, classify, show, as_json=as_json)


def _labels(result: Result) -> str:
    """Return the labels of each classifier, after its name if there are several."""
    heads = result.get("heads", {"": result})
    return "; ".join(
        f"{name}: {_text(found)}" if name else _text(found) for name, found in heads.items()
    )


def _text(result: Result) -> str:
    """Return labels with their values or, in percent, probabilities or shares."""
    return ", ".join(
        f"{x['label']} {x['value']:.4g}"
        if "value" in x
        else f"{x['label']} {100 * next(v for k, v in x.items() if k != 'label'):.1f}%"
        for x in result["top"]
    )


def _classify_one(model: Model, window: Window | None, source: Path, top: int) -> Result:
    from w2v_edge.runtime.classification import FrameClassification

    found = model.classify(open_audio(source, model.sample_rate), window=window)
    if isinstance(found, FrameClassification):
        segments = list(_segments(found, model.context_frame_seconds))
        return {"top": _named("share", _shares(found)[:top]), "segments": segments}
    return _of_heads(model, found if isinstance(found, dict) else {"": found}, top)


def _classify_windows(model: Model, source: Path, top: int, **options: Any) -> Result:
    found = model.classify(open_audio(source, model.sample_rate), **options)
    by_name = found if isinstance(found, dict) else {"": found}
    first = next(iter(by_name.values()))
    return {
        "windows": [
            {"start": float(first.starts[i]), "end": float(first.ends[i])}
            | _of_heads(model, {name: x[i] for name, x in by_name.items()}, top)
            for i in range(len(first))
        ]
    }


def _of_heads(model: Model, found: dict[str, Classification], top: int) -> Result:
    """Return the result of each classifier by its name, or of one without a name."""
    heads = model.manifest.heads
    if not heads:
        return _utterance(found[""], model.manifest.logits_meaning, top)
    return {"heads": {x: _utterance(y, heads[x].meaning, top) for x, y in found.items()}}


def _utterance(found: Classification, meaning: str | None, top: int) -> Result:
    if meaning == "values":
        # Values have no order of likelihood: all are given, in the order of the model.
        values = list(zip(found.labels, map(float, found.scores), strict=True))
        return {"top": _named("value", values)}
    return {"label": found.label, "top": _named("probability", found.top(top))}


def _named(what: str, scores: list[tuple[str, float]]) -> list[Result]:
    return [{"label": label, what: value} for label, value in scores]


def _shares(found: FrameClassification) -> list[tuple[str, float]]:
    """Return (label, fraction of the frames with it), the largest fraction first."""
    counts = np.bincount(found.indices, minlength=len(found.labels))
    frames = max(1, len(found.indices))
    order = np.argsort(-counts, kind="stable")
    return [(found.labels[i], float(counts[i] / frames)) for i in order]


def _segments(found: FrameClassification, frame_seconds: float) -> Iterator[Result]:
    """Yield segments of consecutive frames with one label."""
    starts = np.flatnonzero(np.diff(found.indices, prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(found.indices)]):
        yield {
            "label": found.labels[found.indices[start]],
            "start": start * frame_seconds,
            "end": end * frame_seconds,
        }
