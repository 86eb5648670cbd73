"""Output shared by the verbs: tables, JSON, progress, warnings, and the text of errors."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from w2v_edge import strict
from w2v_edge.agreement import COUNTS, Deviation
from w2v_edge.errors import MissingExtraError, W2VEdgeError
from w2v_edge.providers import import_onnxruntime
from w2v_edge.providers.installation import installed_wheels
from w2v_edge.providers.session import FATAL

if TYPE_CHECKING:
    from w2v_edge_export import Stages

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

QUIET_SECONDS = 2.0
"""Work that ends, or fails, within this time prints no progress lines."""

STILL_RUNNING_SECONDS = 60.0
"""Interval between progress lines within one stage, where stderr is not a terminal."""

EXTRAS = {
    "export": ("torch", "einops", "onnx", "onnxscript", "onnx_ir", "safetensors"),
    "cpu": ("onnxruntime",),
    "audio": ("soundfile", "soxr"),
    "cli": ("pysubs2", "psutil"),
    "corpus": ("pyarrow", "ray"),
    "lm": ("ctc_beam_decoder",),
    "train": ("torch", "einops", "accelerate", "tensorboard", "webdataset", "jiwer"),
    "mic": ("sounddevice",),
    "hub": ("huggingface_hub",),
    "romanize": ("uroman",),
    "report": ("matplotlib",),
    "mlperf": ("mlperf_loadgen",),
}
"""Modules that each extra of the package installs, in the order in which commands name extras."""

TOGETHER = {
    "cpu": ("cpu", "cli"),
    "audio": ("cli",),
    "corpus": ("cpu", "cli", "corpus"),
    "export": ("export", "cpu"),
    "train": ("export", "cpu", "train"),
}
"""Extras to install with one that is missing: those that the next verb needs too."""


def require(purpose: str, *extras: str) -> None:
    """Check that all modules of the extras are installed, and silence onnxruntime for `cpu`.

    Args:
        purpose: what needs them, for the error.
        extras: names in `EXTRAS`; the error also names extras that `named` adds.

    Raises:
        MissingExtraError: a module is not installed; the message has the pip command.
    """
    for extra in extras:
        for module in EXTRAS[extra]:
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError(purpose, module, *named(*extras))
    if "cpu" in extras:
        # Its default logger would print the cause of a failure beside the error's one line.
        import_onnxruntime().set_default_logger_severity(FATAL)


def named(*extras: str) -> list[str]:
    """Return the extras to install for these, as the documentation names them together.

    A build of onnxruntime that is installed already takes the place of the extra `cpu`.
    """
    asked = {name for extra in extras for name in TOGETHER.get(extra, (extra,))}
    if asked & {"export", "train"}:
        # They include the command line.
        asked.discard("cli")
    if (wheels := installed_wheels()) and "onnxruntime" not in wheels:
        asked.discard("cpu")
    return [name for name in EXTRAS if name in asked]


def console() -> Console:
    """Return the console for results, as wide as the terminal or COLUMNS; in files, 180 columns."""
    width = None if _has_width() else 180
    return Console(width=width, highlight=False, markup=False)


def print_line(text: str) -> None:
    """Print a line; on a terminal it is wrapped between words, in files and pipes it is not."""
    console().print(text, soft_wrap=not _has_width())


def _has_width() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def warn(message: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"warning: {' '.join(message.split())}", err=True)


def to_json(result: Any, *, indent: int | None = None) -> str:
    """Return a result as JSON; non-finite numbers, for which JSON has no syntax, become null.

    Args:
        result: dataclasses, dictionaries, lists and scalars.
        indent: spaces per level; arrays of numbers stay on one line. By default all is on one line.
    """
    plain = _finite(strict.to_plain(result))
    return json.dumps(plain, allow_nan=False) if indent is None else _indented(plain, indent)


def frame_text(codes: Iterable[int]) -> str:
    """Return the codes of one frame, one per group, as people read them: `4,18`."""
    return ",".join(map(str, codes))


def print_json(result: Any) -> None:
    """Print a result as one JSON document."""
    click.echo(to_json(result, indent=2))


def _indented(value: Any, indent: int, margin: str = "") -> str:
    """Return JSON with a line per item, but arrays of numbers on one line."""
    inner = margin + " " * indent
    if isinstance(value, dict):
        ends = "{}"
        items = [
            f"{json.dumps(str(key))}: {_indented(item, indent, inner)}"
            for key, item in value.items()
        ]
    elif isinstance(value, list) and not _is_numeric(value):
        ends, items = "[]", [_indented(item, indent, inner) for item in value]
    else:
        return json.dumps(value, allow_nan=False)
    lines = f",\n{inner}".join(items)
    return f"{ends[0]}\n{inner}{lines}\n{margin}{ends[1]}" if items else ends


def _is_numeric(items: list[Any]) -> bool:
    return all(
        _is_numeric(x) if isinstance(x, list) else x is None or isinstance(x, int | float)
        for x in items
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; columns whose name begins with `>` are aligned right.

    Args:
        title: of the table.
        columns: headings; without any text, the table has no line of headings.
        rows: cells.
    """
    columns = list(columns)
    cells = [[_printable(str(cell)) for cell in row] for row in rows]
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        show_header=any(columns),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        # A blank line between rows of several lines.
        leading=int(any("\n" in cell for row in cells for cell in row)),
    )
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in cells:
        # Axes and paths may hold brackets, which rich would take for markup.
        table.add_row(*map(Text, row))
    console().print(table)


def print_comparison(
    title: str, rows: Iterable[Deviation], rounding: Mapping[str, float] | None = None
) -> None:
    """Print comparisons of outputs with their tolerances, in columns that are not empty.

    Args:
        title: of the table.
        rows: the comparisons.
        rounding: deviation of PyTorch's own float32 from float64, by output, for a column.
    """
    rows = list(rows)
    columns = (
        "output",
        "case",
        "measure",
        ">found",
        ">allowed",
        ">rounding",
        "first bad",
        "result",
    )
    cells = [
        (
            row.output,
            row.case,
            row.measure,
            _deviation(row, row.worst),
            _deviation(row, row.allowed),
            # The deviation of values; codes have one too, in another unit.
            f"{rounding[row.output]:.1e}"
            if rounding and row.output in rounding and row.measure == "max abs"
            else "",
            "" if row.first_bad is None else "batch {}, frame {}".format(*row.first_bad),
            "ok" if row.ok else row.problem or "differs",
        )
        for row in rows
    ]
    shown = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    if all(row.ok for row in rows):
        shown.remove(columns.index("result"))
    print_table(title, [columns[i] for i in shown], [[row[i] for i in shown] for row in cells])
    if columns.index(">rounding") in shown:
        console().print("rounding: deviation of PyTorch's own float32 from float64")


def _deviation(row: Deviation, value: float) -> str:
    return f"{value:g}" if row.measure in COUNTS or not value else f"{value:.1e}"


def megabytes(size: int) -> str:
    """Format a size in bytes in units of 10^6 bytes, with three digits, as reports do."""
    from w2v_edge.latency.report.wording import figure

    return figure(size / 1e6, "MB")


@contextlib.contextmanager
def progress(title: str, *, lines: bool = True) -> Iterator[ProgressHook]:
    """Show the progress of long work on stderr.

    Args:
        title: of the bar and of each line.
        lines: where stderr is not a terminal, print a line per stage.
    """
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield _Lines(title) if lines else ProgressHook()
        return
    columns = (
        TextColumn("[bold]{task.fields[title]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        _TimeLeft(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        yield _Bar(bar, title)


@contextlib.contextmanager
def stages(title: str) -> Iterator[Stages]:
    """Show the stages of an export: a bar on a terminal, else one line per stage on stderr."""
    from w2v_edge_export import Stages

    if not Console(stderr=True).is_terminal:
        yield Stages(log=sys.stderr, title=title)
        return
    shown, ended = Stages(), threading.Event()

    def redraw(show: ProgressHook) -> None:
        while not ended.wait(0.1):
            if (stage := shown.current) is not None:
                show(f"{stage.name} {stage.detail}", shown.share)

    with progress(title) as show:
        thread = threading.Thread(target=redraw, args=(show,), daemon=True)
        thread.start()
        try:
            yield shown
        finally:
            ended.set()
            thread.join()


class ProgressHook:
    """Progress of long work. This one shows nothing."""

    def __call__(self, stage: str, done: float) -> None:
        """Report progress.

        Args:
            stage: name of the stage; details follow a colon or comma.
            done: fraction of all work, 0 to 1.
        """


class _TimeLeft(ProgressColumn):
    """The time left, if the rest takes as long for its share as what is done."""

    def render(self, task: Task) -> Text:
        """Return the text; none before there is something to go by."""
        done, elapsed = task.completed, task.elapsed or 0.0
        if done <= 0 or elapsed < QUIET_SECONDS:
            return Text("")
        left = round(elapsed * (1 - done) / done)
        return Text(f"{left // 60}:{left % 60:02} left", style="progress.remaining")


class _Bar(ProgressHook):
    """A bar on the terminal."""

    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1.0, title=title)

    def __call__(self, stage: str, done: float) -> None:
        self._bar.update(self._task, description=stage, completed=done)


class _Lines(ProgressHook):
    """A line with the seconds so far for each stage, and one a minute in long stages."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._begun = self._printed = time.monotonic()
        self._stages: set[str] = set()

    def __call__(self, stage: str, done: float) -> None:
        name = re.split(r"[:,\d]", stage)[0].strip()
        now = time.monotonic()
        if now - self._begun < QUIET_SECONDS:
            return
        if name in self._stages and now - self._printed < STILL_RUNNING_SECONDS:
            return
        text = f"{done:.0%}, {stage}" if name in self._stages else name or stage
        self._stages.add(name)
        self._printed = now
        click.echo(f"{self._title}: {text} ({now - self._begun:.1f} s)", err=True)


def explain(error: BaseException) -> tuple[str, int]:
    """Return the message of an error, on one line, and the exit code."""
    message, code = _explain(error)
    return " ".join(message.split()), code


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, W2VEdgeError):
        return str(error), error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted; nothing half-written was left", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 1
    if isinstance(error, MemoryError):
        return "out of memory; use shorter audio or a smaller model", 1
    what = f"{type(error).__name__}: {error}"
    return f"internal error, please report it: {what:.200} (W2V_EDGE_DEBUG=1 shows more)", 1


def _printable(text: str) -> str:
    """Escape characters that would steer a terminal: labels may hold any."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
