"""Options shared by the verbs that measure: cases, audio and reports."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import click

from w2v_edge.cli.options import PROVIDER, Decorator, WindowType, list_option
from w2v_edge.files import check_writable

graph_option = click.option(
    "--graph",
    type=click.Choice(("encoder", "tokenizer")),
    default="encoder",
    help="Graph to run: context, or codes.",
)
block_option = click.option(
    "--block-ms",
    type=click.FloatRange(min=1, max=10_000),
    default=320,
    help="Block size of the streaming scenario, in milliseconds.",
)
windows_option = click.option(
    "--window",
    "windows",
    type=WindowType(live=True),
    multiple=True,
    metavar="step=S,left=S,right=S",
    show_default="step=0.32,left=4,right=0.32",
    help="Attention window of the streaming scenario, in seconds; may be repeated.",
)
audio_option = click.option(
    "--audio",
    type=click.Path(path_type=Path),
    multiple=True,
    show_default="the built-in clips",
    help="Speech to measure with, a file or a folder; may be repeated.",
)
markdown_option = click.option("--markdown", "as_markdown", is_flag=True, hidden=True)
"""Deprecated: Markdown on stdout."""


def providers_option(text: str) -> Decorator:
    """Add `--provider`, a list, with the beginning of its help text."""
    text = f"{text}: {PROVIDER.listed}."
    return list_option("--provider", of=PROVIDER, default="cpu", help=text)


def threads_tried_option(text: str) -> Decorator:
    """Add `--threads`, a list of what a search tries, with a help text."""
    return list_option(
        "--threads",
        of=click.IntRange(min=1),
        show_default="powers of two, half of the cores, all",
        help=text,
    )


def time_option(seconds: float, rest: str) -> Decorator:
    """Add `--time`, a limit in seconds, and what happens to work beyond it."""
    return click.option(
        "--time",
        "time_s",
        type=click.FloatRange(min=0, max=86_400),
        default=seconds,
        help=f"Time limit in seconds; {rest}.",
    )


def report_option(*formats: str) -> Decorator:
    """Add `--report` for some of the formats; the command gets (path, format) pairs."""
    from w2v_edge.latency.report.files import FORMATS

    suffixes = [suffix for suffix, name in FORMATS.items() if name in formats]

    def with_formats(
        _: click.Context, __: click.Parameter, paths: tuple[Path, ...]
    ) -> list[tuple[Path, str]]:
        for path in paths:
            if path.suffix.lower() not in suffixes:
                raise click.BadParameter(
                    f"found {str(path)!r}, expected a file name that ends in one of "
                    f"{', '.join(suffixes)}"
                )
        if len({path.absolute() for path in paths}) < len(paths):
            raise click.BadParameter("found one file twice; name another one")
        return [(path, FORMATS[path.suffix.lower()]) for path in paths]

    shown = "|".join(suffix for suffix in suffixes if suffix in {".json", ".md", ".html", ".prom"})
    return click.option(
        "--report",
        "reports_to",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar=f"FILE{shown}",
        callback=with_formats,
        help="Write a report, in the format of the file's suffix; may be repeated.",
    )


def check_reports_writable(reports: Collection[tuple[Path, str]]) -> None:
    """Check that report files can be written, before the work that goes into them."""
    for path, _ in reports:
        check_writable(path)


def schema_option(text: Callable[[], str], of: str) -> Decorator:
    """Add `--schema`, which prints the JSON Schema of a document and exits."""

    def show(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            click.echo(text().rstrip())
            ctx.exit()

    return click.option(
        "--schema",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help=f"Print the JSON Schema of {of} and exit.",
    )
