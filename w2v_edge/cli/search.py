"""`w2v-edge search`: recordings of a corpus that are alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

from w2v_edge import strict
from w2v_edge.cli.embedding import embed_file
from w2v_edge.cli.options import json_option, load_options, verb
from w2v_edge.cli.output import named, require, warn
from w2v_edge.cli.per_file import Result, audio_argument, files_of, run_per_file
from w2v_edge.errors import MissingExtraError


@verb("search", short_help="Find the most similar recordings of an index.")
@click.argument("index")
@audio_argument
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    help="The bundle that the index was written with.",
)
@click.option("--top", type=click.IntRange(min=1), default=10, help="Number of recordings to find.")
@load_options
@json_option
def command(
    index: str,
    audio: tuple[Path, ...],
    bundle: Path,
    top: int,
    load_with: dict[str, Any],
    as_json: bool,
) -> None:
    """Find the recordings of INDEX that are most like AUDIO, by the cosine of their embeddings.

    AUDIO may be -, an audio file on standard input.

    INDEX is what `w2v-edge encode BUNDLE AUDIO -o INDEX --engine local --embedding` wrote, a folder
    or URI; it is read in blocks, in memory that does not grow with it. Prints cosine and path of
    each recording found, best first. An AUDIO file that fails is reported, the others are searched
    for, and the exit code is 1.
    """
    require("searching for audio files", "cpu", "audio")
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("searching an index", "pyarrow", *named("corpus"))
    import w2v_edge
    from w2v_edge.corpus.index import EmbeddingIndex

    model = w2v_edge.load(bundle, **load_with)
    opened = EmbeddingIndex(index, model.manifest)
    files = files_of(audio)

    def find(_: int, source: Path) -> Result:
        query = embed_file(model, source, opened.window)
        plain: Result = strict.to_plain(opened.search(query, top))
        return plain

    said: set[str] = set()

    def show(result: Result) -> None:
        for remark in _remarks(index, result):
            if remark not in said:
                warn(remark)
            said.add(remark)
        prefix = f"{result['file']}\t" if len(files) > 1 else ""
        for match in result["matches"]:
            click.echo(f"{prefix}{match['cosine']:.4f}\t{match['path']}")

    run_per_file("search", files, find, show, as_json=as_json)


def _remarks(index: str, result: Result) -> list[str]:
    """Return what was not compared with the query."""
    texts = {
        "failed": "recordings that failed when the index was written have no embedding",
        "unusable": "embeddings are zero or not finite, and were left out",
        "missing": "recordings are not in the index yet; w2v-edge encode, run again, finishes it",
    }
    return [f"{index}: {result[key]} {text}" for key, text in texts.items() if result[key]]
