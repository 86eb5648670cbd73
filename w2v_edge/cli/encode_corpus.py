"""`w2v-edge encode --engine`: encode a corpus to shards of Parquet."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import click

from w2v_edge.cli.output import EXTRAS, console, named, print_json, progress, require
from w2v_edge.errors import MissingExtraError, PartialFailureError

STDERR = 2

MODULES = {"local": ("pyarrow",), "ray": EXTRAS["corpus"]}

OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(list(MODULES)),
        help="Write shards of Parquet, with threads on this machine (local) or on Ray Data (ray).",
    ),
    click.option("--pooled", is_flag=True, help="Also write the mean-pooled context of each file."),
    click.option(
        "--embedding",
        is_flag=True,
        help="Also write the embedding of each file, of a bundle that has one, for w2v-edge "
        "search.",
    ),
    click.option(
        "--shard-size",
        type=click.IntRange(min=1),
        show_default="1000, or 100 with --context",
        help="Maximum number of files in a shard.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        show_default="one per usable core, or per GPU",
        help="Parallel workers, each with --threads threads, by default one.",
    ),
    click.option(
        "--address",
        show_default="a new local cluster",
        help="Ray cluster, such as auto; all its machines must find BUNDLE, AUDIO and the output "
        "under these names.",
    ),
    click.option("--retry-failed", is_flag=True, help="Repeat shards in which files failed."),
)
NAMES = ("engine", "pooled", "embedding", "shard_size", "workers", "address", "retry_failed")


def corpus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of a corpus; the command gets them as one dict, `corpus`."""

    @wraps(command)
    def collected(*arguments: Any, **others: Any) -> Any:
        corpus = {name: others.pop(name) for name in NAMES}
        given = [name for name in NAMES[1:] if corpus[name]]
        if corpus["engine"] is None and given:
            option = given[0].replace("_", "-")
            raise click.UsageError(f"--{option} needs --engine.")
        if corpus["address"] and corpus["engine"] != "ray":
            raise click.UsageError("--address needs --engine ray.")
        return command(*arguments, corpus=corpus, **others)

    for option in reversed(OPTIONS):
        collected = option(collected)
    return collected


def encode_corpus(
    bundle: Path,
    sources: tuple[str, ...],
    output: str,
    options: dict[str, Any],
    load_with: dict[str, Any],
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Encode a corpus and print the number of files, hours and shards.

    Raises:
        PartialFailureError: a recording failed, or a shard was lost.
    """
    require("encoding a corpus", "cpu", "audio")
    for module in MODULES[options["engine"]]:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("encoding a corpus", module, *named("corpus"))
    from w2v_edge import corpus

    asked = ("context", "pooled", "embedding", "window")
    computed = corpus.CorpusOptions(
        **{name: options.pop(name) for name in asked}, running=load_with
    )
    quiet = _silence_ray() if options["engine"] == "ray" else contextlib.nullcontext()
    with quiet, progress("encode") as show:
        report = corpus.encode_corpus(
            bundle,
            sources,
            output,
            options=computed,
            force=force,
            show=lambda done, shards: show(f"{done} of {shards} shards", done / shards),
            **options,
        )
    if as_json:
        print_json(report)
    else:
        what = f"{report.files} files, {report.seconds / 3600:.2f} h, in {report.shards} shards"
        made = f"({report.shards_of_this_run} made now)"
        console().print(f"{report.output}: {what} {made}", soft_wrap=True)
    _finish(report)


@contextlib.contextmanager
def _silence_ray() -> Iterator[None]:
    """Discard output of Ray and its libraries; what Python writes to `sys.stderr` is kept."""
    if os.environ.get("W2V_EDGE_DEBUG"):
        yield
        return
    sys.stderr.flush()
    kept, shown = os.dup(STDERR), sys.stderr
    with Path(os.devnull).open("w") as nothing, os.fdopen(os.dup(kept), "w", buffering=1) as ours:
        os.dup2(nothing.fileno(), STDERR)
        sys.stderr = ours
        try:
            with contextlib.redirect_stdout(nothing):
                yield
        finally:
            sys.stderr = shown
            os.dup2(kept, STDERR)
            os.close(kept)


def _finish(report: Any) -> None:
    if report.lost:
        raise PartialFailureError(
            f"{len(report.lost)} shards are missing, because their workers died each time "
            f"(out of memory?), the first is {report.lost[0]}; run again to retry them"
        )
    if report.failed:
        raise PartialFailureError(
            f"{report.failed} of {report.files} files failed, the others are done; see the column "
            f"error in {report.output}; the first is {report.first_error}"
        )
