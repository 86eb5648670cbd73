"""The tables of a report, shared by all formats; cells are formatted text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from w2v_edge.latency.limit import least_ms, least_time, peaks_of
from w2v_edge.latency.report.records import (
    BenchmarkReport,
    CaseResult,
    Estimate,
    Operator,
    Peaks,
    Summary,
)
from w2v_edge.latency.report.wording import (
    KEY_METRICS,
    TIMES,
    clean,
    figure,
    interval,
    labels,
    percent,
)

BARS = "▁▂▃▄▅▆▇█"
BINS = 16
UNSTABLE = "~ "
STAGES = {"import": "import", "load": "load", "first": "first query", "steady": "steady state"}
MAX_PARTS = 4
"""Parts of an installation that are listed by name."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: heading.
        right: whether cells are right-aligned.
    """

    name: str
    right: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: content.
        strong: whether to emphasize it.
    """

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: title.
        columns: columns; the first one labels the row.
        rows: rows with one cell per column.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(report: BenchmarkReport, *, intervals: bool = False) -> tuple[Table, ...]:
    """Return all non-empty tables of a report.

    Args:
        report: the report.
        intervals: show the interval of every estimate, not only of the most important ones.
    """
    made = (
        _steady(report, intervals),
        _cold(report),
        _memory(report),
        _storage(report),
        streaming_table(report, intervals),
        limit_table(report),
        operators_table(report),
        _placement(report),
        _bundles(report),
    )
    return tuple(table for table in made if table.rows)


def sparkline(latencies_ms: Iterable[float], low: float, high: float) -> str:
    """Return a text histogram on a logarithmic axis from `low` to `high` ms.

    Heights are square roots of counts, so that a tail of few queries is visible.
    """
    counts = histogram(latencies_ms, low, high, BINS)
    if not counts.any():
        return ""
    steps = np.ceil(np.sqrt(counts / counts.max()) * len(BARS)).astype(int)
    return "".join(BARS[step - 1] if step else " " for step in steps)


def histogram(
    latencies_ms: Iterable[float], low: float, high: float, bins: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Count latencies in bins of equal ratio; returns (bins,)."""
    edges = np.log(np.array([low, high]))
    if edges[1] <= edges[0]:
        edges = edges + np.array([-0.05, 0.05])
    values = np.log(np.maximum(np.fromiter(latencies_ms, float), 1e-9))
    # Rounding may move the extremes slightly outside of the axis.
    return np.histogram(values.clip(*edges), bins=bins, range=(edges[0], edges[1]))[0]


def all_latencies(result: CaseResult) -> list[float]:
    """Return the latencies of all trials of a case, in ms."""
    return [x for trial in result.trials for x in trial.latencies_ms if np.isfinite(x)]


def span(report: BenchmarkReport) -> tuple[float, float]:
    """Return the smallest and largest latency of a report in ms; 1 and 1 if it is empty."""
    ends = [f(x) for r in report.cases if (x := all_latencies(r)) for f in (min, max)]
    return (max(min(ends), 1e-6), max(*ends, 1e-6)) if ends else (1.0, 1.0)


def marked_labels(report: BenchmarkReport) -> tuple[str, ...]:
    """Return the labels of the cases, with a mark on unstable ones."""
    pairs = zip(labels(report), report.cases, strict=True)
    return tuple((UNSTABLE if result.unstable else "") + label for label, result in pairs)


def summaries(report: BenchmarkReport) -> list[tuple[str, CaseResult, Summary]]:
    """Return label, result and summary of the successful cases."""
    pairs = zip(marked_labels(report), report.cases, strict=True)
    return [(label, result, result.summary) for label, result in pairs if result.summary]


def _steady(report: BenchmarkReport, intervals: bool) -> Table:
    names = "p50 p90 p95 p99 max RTF speed throughput queries".split()
    columns = (
        Column("case", right=False),
        *map(Column, names),
        Column("distribution", right=False),
    )
    rows = []
    low, high = span(report)
    for label, result, s in summaries(report):
        matters = KEY_METRICS[result.case.scenario]

        def cell(
            name: str, estimate: Estimate, unit: str, matters: str = matters, full: bool = intervals
        ) -> Cell:
            text = interval(estimate, unit) if full else figure(estimate.value, unit)
            return Cell(text, name == matters)

        rows.append(
            (
                Cell(label),
                cell("p50", s.p50_ms, "ms", full=True),
                cell("p90", s.p90_ms, "ms"),
                cell("p95", s.p95_ms, "ms"),
                cell("p99", s.p99_ms, "ms"),
                cell("max", s.max_ms, "ms"),
                cell("RTF", s.real_time_factor, ""),
                cell("speed", s.speed, TIMES),
                # The throughput of a stream is real time.
                Cell("")
                if result.case.scenario == "streaming"
                else cell("throughput", s.throughput, "s/s"),
                Cell(str(s.queries)),
                Cell(sparkline(all_latencies(result), low, high)),
            )
        )
    return Table("Steady state", columns, tuple(rows))


def _cold(report: BenchmarkReport) -> Table:
    names = ("start", "import", "load", "first query", "warm-up")
    rows = [
        (
            Cell(label),
            *(
                Cell(interval(x, "ms"))
                for x in (s.start_ms, s.import_ms, s.load_ms, s.first_ms, s.warm_up_ms)
            ),
        )
        for label, _, s in summaries(report)
    ]
    return Table("Cold start", (Column("case", right=False), *map(Column, names)), tuple(rows))


def _memory(report: BenchmarkReport) -> Table:
    """Resident memory by stage; where the peak is not reset, it is that of the process so far."""
    found = summaries(report)
    stages = [x for x in STAGES if any(x in s.stage_peaks_mb for _, _, s in found)]
    columns = (
        Column("case", right=False),
        Column("loaded"),
        Column("peak"),
        *(Column(f"in {STAGES[stage]}") for stage in stages),
        Column("energy per 1 s of audio"),
        Column("energy counter", right=False),
    )
    rows = [
        (
            Cell(label),
            Cell(figure(s.loaded_mb, "MB")),
            Cell(figure(s.peak_mb, "MB")),
            *(Cell(_stage_peak(result, s, stage)) for stage in stages),
            Cell(interval(s.energy_j, "J")),
            Cell(clean(s.energy_source or "none")),
        )
        for label, result, s in found
    ]
    return Table("Memory and energy", columns, tuple(rows))


def _stage_peak(result: CaseResult, summary: Summary, stage: str) -> str:
    peak = summary.stage_peaks_mb.get(stage)
    own = peak is None or all(trial.peaks_reset for trial in result.trials)
    return figure(peak, "MB") + ("" if own else " so far")


def _storage(report: BenchmarkReport) -> Table:
    """Bytes read at the start, and what has to be installed for a case."""
    columns = (
        Column("case", right=False),
        Column("read until loaded"),
        Column("from storage"),
        Column("minimal install"),
        Column("packages"),
        Column("bundle files used"),
        Column("not needed", right=False),
    )
    rows = [
        (
            Cell(label),
            Cell(figure(s.read_mb, "MB")),
            Cell(figure(s.storage_mb, "MB")),
            Cell(figure(result.install_mb, "MB"), strong=True),
            *(Cell(_needed(result, kind)) for kind in ("package", "file")),
            Cell(_left_out(result)),
        )
        for label, result, s in summaries(report)
        if s.read_mb is not None or result.install
    ]
    return Table("Storage, without Python itself", columns, tuple(rows))


def _needed(result: CaseResult, kind: str) -> str:
    sizes = [x.size_mb for x in result.install if x.needed and x.kind == kind]
    return figure(sum(sizes) if sizes else None, "MB")


def _left_out(result: CaseResult) -> str:
    """Return the largest parts that are not needed, files of the bundle first."""
    parts = sorted(
        (x for x in result.install if not x.needed), key=lambda x: (x.kind != "file", -x.size_mb)
    )
    named = [clean(f"{x.name} {figure(x.size_mb, 'MB')}") for x in parts[:MAX_PARTS]]
    rest = parts[MAX_PARTS:]
    if rest:
        named.append(f"{len(rest)} more, {figure(sum(x.size_mb for x in rest), 'MB')}")
    return ", ".join(named)


def streaming_table(report: BenchmarkReport, intervals: bool) -> Table:
    """Return the blocks that missed their deadline, and the latency of a block."""
    names = ("block size", "blocks", "missed", "miss rate", "p99", "longest wait")
    rows = [
        (
            Cell(label),
            Cell(figure(result.case.block_ms, "ms")),
            Cell(str(s.queries)),
            Cell(str(sum(trial.late for trial in result.trials))),
            Cell(percent(s.miss_rate), strong=True),
            Cell(
                interval(s.p99_ms, "ms") if intervals else figure(s.p99_ms.value, "ms"),
                strong=True,
            ),
            Cell(figure(s.behind_ms, "ms")),
        )
        for label, result, s in summaries(report)
        if result.case.scenario == "streaming"
    ]
    return Table("Streaming", (Column("case", right=False), *map(Column, names)), tuple(rows))


def limit_table(report: BenchmarkReport) -> Table:
    """Compare the case's median with its least time; see `w2v_edge.latency.limit`."""
    columns = (
        Column("case", right=False),
        Column("p50 / least"),
        Column("least"),
        Column("float32 products"),
        Column("int8 products"),
        Column("reading weights"),
    )
    rows = []
    for label, result, s in summaries(report):
        least = least_time(report, result)
        if least is not None and least.ms > 0:
            floats = sum(ms for name, ms in least.products_ms.items() if name != "int8")
            rows.append(
                (
                    Cell(label),
                    Cell(figure(s.p50_ms.value / least.ms), strong=True),
                    Cell(figure(least.ms, "ms")),
                    Cell(figure(floats, "ms")),
                    Cell(figure(least.products_ms.get("int8", 0.0), "ms")),
                    Cell(figure(least.weights_ms, "ms")),
                )
            )
    return Table("Least time on this device", columns, tuple(rows))


def operators_table(report: BenchmarkReport) -> Table:
    """Return the time of each operator type in the cases that were profiled."""
    columns = (
        Column("case", right=False),
        Column("operator", right=False),
        Column("provider", right=False),
        Column("runs"),
        Column("time"),
        Column("share"),
        *([Column("numbers", right=False), Column("time / least")] if report.peaks else ()),
    )
    rows = [
        (
            Cell(label),
            Cell(clean(x.operator)),
            Cell(clean(x.provider.removesuffix("ExecutionProvider"))),
            Cell(figure(x.runs) if x.runs % 1 else str(int(x.runs))),
            Cell(figure(x.time_ms, "ms")),
            Cell(percent(x.share)),
            *(_over_least(x, peaks_of(report, result)) if report.peaks else ()),
        )
        for label, result in zip(marked_labels(report), report.cases, strict=True)
        for x in result.operators
    ]
    return Table("Operators, profiled outside the trials", columns, tuple(rows))


def _over_least(operator: Operator, peaks: Peaks | None) -> tuple[Cell, Cell]:
    """Return what an operator multiplies, and its time over the least; empty without products."""
    least = None if peaks is None else least_ms(operator, peaks)
    ratio = figure(operator.time_ms / least) if least else ""
    return Cell(clean(operator.arithmetic)), Cell(ratio)


def _placement(report: BenchmarkReport) -> Table:
    columns = (Column("case", right=False), Column("provider", right=False), Column("nodes"))
    rows = [
        (Cell(label), Cell(clean(name.removesuffix("ExecutionProvider"))), Cell(str(number)))
        for label, result in zip(marked_labels(report), report.cases, strict=True)
        for name, number in result.nodes.items()
    ]
    return Table("Operators by provider", columns, tuple(rows))


def _bundles(report: BenchmarkReport) -> Table:
    columns = (
        Column("bundle", right=False),
        Column("model", right=False),
        Column("precision", right=False),
        Column("target", right=False),
        Column("size"),
        Column("sha256", right=False),
    )
    rows = [
        (
            *(Cell(clean(text)) for text in (x.name, x.model, x.precision, x.target)),
            Cell(figure(x.size_mb, "MB")),
            Cell(clean(x.sha256[:12])),
        )
        for x in report.bundles
    ]
    return Table("Bundles", columns, tuple(rows))
