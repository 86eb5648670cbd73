"""`w2v-edge compare-speakers`: how alike the voices of two recordings are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.audio.utterances import read_lines
from w2v_edge.cli.embedding import embed_file
from w2v_edge.cli.options import FiniteRange, json_option, load_options, verb, window_option
from w2v_edge.cli.output import require, warn
from w2v_edge.cli.per_file import Result, files_of, run_per_item
from w2v_edge.errors import InputError

if TYPE_CHECKING:
    from w2v_edge.bundle import Manifest
    from w2v_edge.runtime.embedding import Embedding
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.window import Window

KEPT = 65_536
"""Most embeddings in memory: 134 MB of 512 values each."""


@dataclass(frozen=True)
class Pair:
    """Two recordings.

    Attributes:
        names: their paths; another number is an error of this pair alone.
        where: the line that names them.
    """

    names: tuple[str, ...]
    where: str = ""


@verb("compare-speakers", short_help="Compare the voices of recordings.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, metavar="[A B...]", type=click.Path(path_type=Path))
@click.option(
    "--pairs",
    "pairs_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare the pairs in a text file, in place of A and B: in each line two paths, parted by "
    "a tab, relative to the file's folder.",
)
@click.option(
    "--threshold",
    type=FiniteRange(-1, 1),
    metavar="COSINE",
    show_default="the bundle's",
    help="Cosine from which two recordings are said to be of one speaker.",
)
@window_option()
@load_options
@json_option
def command(
    bundle: Path,
    audio: tuple[Path, ...],
    pairs_file: Path | None,
    threshold: float | None,
    window: Window | None,
    load_with: dict[str, Any],
    as_json: bool,
) -> None:
    """Compare the voice in A with that in B, or with each of several files, by BUNDLE's embedding.

    One of the files may be -, an audio file on standard input.

    Prints the cosine of the two embeddings, and with a threshold whether the speaker is the same:
    the one of --threshold, or of the bundle (export --speaker-threshold). A pair that fails is
    reported, the others are compared, and the exit code is 1.
    """
    if (pairs_file is not None) == bool(audio):
        raise click.UsageError("give two recordings or more, or --pairs.")
    if len(audio) == 1:
        raise click.UsageError("give a recording to compare with, or a folder of them.")
    require("comparing audio files", "cpu", "audio")
    import w2v_edge
    from w2v_edge.runtime.embedding import cosine, require_embedding

    model = w2v_edge.load(bundle, **load_with)
    require_embedding(model.manifest)
    pairs = _first_and_others(audio) if pairs_file is None else read_pairs(pairs_file)
    threshold = model.manifest.speaker_threshold if threshold is None else threshold
    for doubt in _doubts(model.manifest, threshold):
        warn(doubt)
    embed = _embedder(model, window)

    def compare(i: int) -> Result:
        if len(pairs[i].names) != 2:  # noqa: PLR2004 - a pair
            raise InputError(
                f"{pairs[i].where}: found {len(pairs[i].names)} paths, expected two, parted by a "
                "tab"
            )
        found = cosine(*map(embed, pairs[i].names))
        same = None if threshold is None else found >= threshold
        return {"cosine": found, "threshold": threshold, "same_speaker": same}

    def show(result: Result) -> None:
        verdict = {None: "", True: "same speaker", False: "different speakers"}[
            result["same_speaker"]
        ]
        columns = (f"{result['cosine']:.4f}", verdict, *(result["a"], result["b"]))
        click.echo("\t".join(x for x in columns[: None if len(pairs) > 1 else 2] if x))

    items = [dict(zip("ab", (*pair.names, "", "")[:2], strict=True)) for pair in pairs]
    run_per_item("compare", items, compare, show, as_json=as_json)


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs of recordings.

    Raises:
        InputError: the file cannot be read, or has no lines.
    """
    pairs = [
        Pair(
            tuple(str(path.parent / name) for name in line.split("\t") if name.strip()),
            f"{path}, line {number}",
        )
        for number, line in enumerate(read_lines(path), 1)
        if line.strip()
    ]
    if not pairs:
        raise InputError(f"{path}: found no pairs, expected two paths in each line")
    return pairs


def _first_and_others(audio: Sequence[Path]) -> list[Pair]:
    others = [str(file) for file, _ in files_of(tuple(audio[1:]))]
    return [Pair((str(audio[0]), other)) for other in others]


def _doubts(manifest: Manifest, threshold: float | None) -> list[str]:
    """Return what a user should know before trusting a verdict."""
    doubts = []
    if manifest.embedding_min_frames is None:
        doubts.append(
            "this bundle's embedding is pooled from the context, which was not trained to tell "
            "speakers apart; its cosines lie close together"
        )
    if threshold is None:
        doubts.append(
            "no threshold, so no verdict; give --threshold, or export with --speaker-threshold"
        )
    return doubts


def _embedder(model: Model, window: Window | None) -> Callable[[str], Embedding]:
    """Return a function from a path to its embedding, which is computed once for many pairs."""

    @lru_cache(maxsize=KEPT)
    def embed(path: str) -> Embedding:
        return embed_file(model, path, window)

    return embed
