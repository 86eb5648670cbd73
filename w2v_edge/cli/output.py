"""What the verbs share: tables, JSON, progress bars, and the check for extras."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from w2v_edge import strict
from w2v_edge.agreement import Deviation
from w2v_edge.errors import MissingExtraError

if TYPE_CHECKING:
    from w2v_edge_export import Stages

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force_option = click.option("--force", is_flag=True, help="Replace an output that is there.")

EXTRAS = {
    "cpu": ("onnxruntime",),
    "audio": ("soundfile", "soxr"),
    "cli": ("pysubs2", "psutil"),
    "corpus": ("pyarrow", "ray"),
    "lm": ("ctc_beam_decoder",),
    "export": ("torch", "einops", "onnx", "onnxscript", "onnx_ir", "safetensors"),
    "train": ("torch", "einops", "accelerate", "tensorboard", "webdataset", "jiwer"),
    "hub": ("huggingface_hub",),
    "report": ("matplotlib",),
    "mlperf": ("mlperf_loadgen",),
}


def require(purpose: str, *extras: str) -> None:
    """Raise `MissingExtraError` with the pip line if a module of an extra is not installed."""
    for extra in extras:
        for module in EXTRAS[extra]:
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError(purpose, module, ",".join(extras))


def console() -> Console:
    """Return the console for results; tables stay whole when the output is no terminal."""
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False, markup=False)


def print_json(result: Any) -> None:
    """Print a result as one JSON document."""
    click.echo(json.dumps(strict.to_plain(result), indent=2))


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; columns whose name begins with `>` are aligned right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        # Axes and paths may hold brackets, which rich would take for markup.
        table.add_row(*(Text(_printable(str(cell))) for cell in row))
    console().print(table)


def print_comparison(title: str, rows: Iterable[Deviation]) -> None:
    """Print comparisons with their bars."""
    print_table(
        title,
        ("output", "case", ">max abs", ">allowed", "first bad", ""),
        (
            (
                row.output,
                row.case,
                f"{row.worst:.2e}",
                f"{row.allowed:.2e}",
                _place(row),
                _word(row),
            )
            for row in rows
        ),
    )


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on the terminal; yields (what, share done). Silent where there is no terminal."""
    columns = (
        TextColumn("[bold]{task.fields[title]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=1.0, title=title)
        yield lambda what, done: bar.update(task, description=what, completed=done)


@contextlib.contextmanager
def progress_of_stages(title: str) -> Iterator[Stages]:
    """Show stages as a bar on a terminal, or as one line for each on stderr elsewhere."""
    from w2v_edge_export import Stages

    if not sys.stderr.isatty():
        yield Stages(log=sys.stderr)
        return
    stages, ended = Stages(), threading.Event()

    def redraw(show: Callable[[str, float], None]) -> None:
        while not ended.wait(0.1):
            if (stage := stages.current) is not None:
                show(f"{stage.name} {stage.detail}", stages.share)

    with progress(title) as show:
        thread = threading.Thread(target=redraw, args=(show,), daemon=True)
        thread.start()
        try:
            yield stages
        finally:
            ended.set()
            thread.join()


def _printable(text: str) -> str:
    """Write characters that would steer a terminal as Python does: labels may hold any."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def megabytes(size: int) -> str:
    """Write a size in bytes as megabytes."""
    return f"{size / 1e6:.2f} MB"


def _place(row: Deviation) -> str:
    return "" if row.first_bad is None else f"batch {row.first_bad[0]}, frame {row.first_bad[1]}"


def _word(row: Deviation) -> str:
    return "ok" if row.ok else row.problem or "differs"
