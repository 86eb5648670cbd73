"""Pictures of the results, as small SVG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.peers.results import Results
from w2v_edge.latency.report import curves
from w2v_edge.latency.report.records import BenchmarkReport

INK, PAPER, GRID = "#1c2430", "#fbfaf7", "#d9d5cc"
FAMILIES = (
    ("ours", "#b3402a"),
    ("openvino", "#7a5aa6"),
    ("dynamic", "#b58a1b"),
    ("torchscript", "#2f6f8f"),
    ("dynamo", "#5fa3c4"),
    ("compiled", "#4f7a3a"),
    ("", "#6b7280"),
)
"""Start of a side's name and its colour; the first that fits."""

SMALLEST_DISTANCE = 1e-9
SPEED_SECONDS = 10
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p", "d")


def draw_latency(results: Results, path: Path) -> None:
    """Draw the time per second of audio of each encoder, by length of audio."""
    figure, axes = _figure("Encoder: time for a second of audio", (9.5, 5.2))
    for name, points in _latencies(results).items():
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=_colour(name),
            label=results.sides[name]["title"],
            linewidth=2.4 if name.startswith("ours") else 1.2,
            marker="o",
            markersize=4,
            linestyle=_style(name),
        )
    _by_length(axes, results.lengths())
    axes.set_ylabel("ms for a second of audio", color=INK)
    _save(figure, path)


def draw_accuracy(results: Results, path: Path) -> None:
    """Draw each encoder's distance from PyTorch against its speed."""
    every = results.lengths()
    seconds = SPEED_SECONDS if SPEED_SECONDS in every else every[-1]
    figure, axes = _figure(f"Encoder, {seconds:g} s: distance from PyTorch, and speed", (9.5, 5.2))
    for i, (name, points) in enumerate(_latencies(results).items()):
        cosine = results.look(name, "accuracy", "cosine_worst_decile")
        cost = dict(points).get(seconds)
        if cosine is not None and cost:
            distance = max(1 - cosine, SMALLEST_DISTANCE)
            axes.scatter(
                distance,
                1e3 / cost,
                color=_colour(name),
                label=results.sides[name]["title"],
                marker=MARKERS[i % len(MARKERS)],
                s=60,
            )
    axes.set_xscale("log")
    axes.set_xlabel(f"1 - cosine at the worst decile (at least {SMALLEST_DISTANCE:g})", color=INK)
    axes.set_ylabel("times faster than real time", color=INK)
    axes.set_ylim(bottom=0)
    _save(figure, path)


def draw_lengths(report: BenchmarkReport, path: Path) -> None:
    """Draw the medians of a latency report, with their intervals, by length of audio."""
    figure, axes = _figure("Time of a query, 95 % intervals", (9.5, 5.2))
    found = curves.series(report, "seconds")
    for i, (name, points) in enumerate(found):
        colour = FAMILIES[i % len(FAMILIES)][1]
        seconds = [x for x, _, _ in points]
        medians = [summary.p50_ms for *_, summary in points]
        axes.plot(seconds, [x.value for x in medians], color=colour, label=name,
                  marker=MARKERS[i % len(MARKERS)], markersize=4)  # fmt: skip
        axes.fill_between(seconds, [x.low for x in medians], [x.high for x in medians],
                          color=colour, alpha=0.2, linewidth=0)  # fmt: skip
    _by_length(axes, sorted({x for _, points in found for x, _, _ in points}))
    axes.set_ylabel("ms", color=INK)
    _save(figure, path)


def _by_length(axes: Axes, seconds: list[float]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(seconds, [f"{x:g}" for x in seconds])
    axes.set_xlabel("seconds of audio", color=INK)


def _latencies(results: Results) -> dict[str, list[tuple[float, float]]]:
    """Return (seconds, ms per second of audio) of each timed encoder."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in results.rows("encoder"):
        if row.raw_ms:
            found.setdefault(row.side, []).append((row.seconds, row.median_ms / row.seconds))
    return {name: sorted(points) for name, points in found.items()}


def _figure(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    style(axes, title)
    return figure, axes


def style(axes: Axes, title: str) -> None:
    """Apply the common style to axes."""
    axes.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold")
    axes.set_facecolor(PAPER)
    axes.grid(color=GRID, linewidth=0.6, which="both")
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _colour(name: str) -> str:
    return next(colour for start, colour in FAMILIES if name.startswith(start))


def _style(name: str) -> str:
    if name.endswith(("bf16", "int8", "matmul")):
        return "-"
    return ":" if "-ours" in name else "--"


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture as SVG."""
    # Text as text and a fixed salt: small files that only change when the numbers do.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "w2v-edge"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
