"""`w2v-edge encode --engine`: a corpus to shards of Parquet."""

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

from w2v_edge.cli.output import EXTRAS, console, print_json, progress, require
from w2v_edge.errors import MissingExtraError, PartialFailureError

STDERR = 2

MODULES = {"local": ("pyarrow",), "ray": EXTRAS["corpus"]}

OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(list(MODULES)),
        help="Write shards of Parquet: local, with threads here; ray, on Ray Data.",
    ),
    click.option("--pooled", is_flag=True, help="Also write the mean of each file's context."),
    click.option(
        "--shard-size",
        type=click.IntRange(min=1),
        help="Files in a shard.  [default: 1000, or 100 with --context; fewer of few]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="That encode at once, each with --threads, which then is 1 by default.  [default: as "
        "many as there are cores for, or GPUs]",
    ),
    click.option(
        "--address",
        help="Of a Ray cluster, such as auto, all machines of which find BUNDLE, AUDIO and the "
        "output by these names.  [default: one begun here]",
    ),
    click.option("--retry-failed", is_flag=True, help="Do shards again in which files failed."),
)
NAMES = ("engine", "pooled", "shard_size", "workers", "address", "retry_failed")


def corpus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of a corpus; the command gets them as one argument, `corpus`."""

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
    running: dict[str, Any],
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Encode a corpus and print what became of it.

    Raises:
        PartialFailureError: a recording failed, or a shard was lost.
    """
    require("encoding a corpus", "cpu", "audio")
    for module in MODULES[options["engine"]]:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("encoding a corpus", module, "cpu,corpus")
    from w2v_edge import corpus

    asked = ("context", "pooled", "window")
    given = {name: options.pop(name) for name in asked}
    computed = corpus.CorpusOptions(**given, running=running)
    hushed = _hush() if options["engine"] == "ray" else contextlib.nullcontext()
    with hushed, progress("encode") as show:
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
def _hush() -> Iterator[None]:
    """Keep Ray from writing: its libraries to the error stream, and its news to standard output.

    What Python writes to `sys.stderr`, such as the bar, is seen all the same.
    """
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
            f"{len(report.lost)} shards are missing, as their workers died each time (out of "
            f"memory?), the first is {report.lost[0]}; run again to try them once more"
        )
    if report.failed:
        raise PartialFailureError(
            f"{report.failed} of {report.files} files failed, the others are done; see the column "
            f"error in {report.output}; the first is {report.first_error}"
        )
