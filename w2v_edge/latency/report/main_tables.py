"""The few tables that most readers need; `tables` has all."""

from __future__ import annotations

from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.latency.report.tables import (
    Cell,
    Column,
    Table,
    limit_table,
    operators_table,
    streaming_table,
    summaries,
)
from w2v_edge.latency.report.wording import KEY_METRICS, figure, interval


def main_tables(report: BenchmarkReport) -> tuple[Table, ...]:
    """Return what most readers need: latency, start, memory, and what was asked for by options."""
    made = (
        _latency(report),
        _start_and_memory(report),
        streaming_table(report, intervals=False),
        limit_table(report),
        operators_table(report),
    )
    return tuple(table for table in made if table.rows)


def _latency(report: BenchmarkReport) -> Table:
    rows = []
    for label, result, s in summaries(report):
        key = KEY_METRICS[result.case.scenario]
        tails = {"p90": s.p90_ms, "p99": s.p99_ms}
        rows.append(
            (
                Cell(label),
                Cell(interval(s.p50_ms, "ms")),
                *(Cell(figure(x.value, "ms"), name == key) for name, x in tails.items()),
                Cell(figure(s.throughput.value, "s/s"), key == "throughput")
                if result.case.scenario != "streaming"
                else Cell(""),
            )
        )
    names = ("p50", "p90", "p99", "throughput")
    return Table("Latency", (Column("case", right=False), *map(Column, names)), tuple(rows))


def _start_and_memory(report: BenchmarkReport) -> Table:
    found = summaries(report)
    energy = any(s.energy_j is not None for _, _, s in found)
    names = ("import", "load", "first query", "peak memory")
    rows = [
        (
            Cell(label),
            *(Cell(figure(x.value, "ms")) for x in (s.import_ms, s.load_ms, s.first_ms)),
            Cell(figure(s.peak_mb, "MB")),
            *([Cell(figure(s.energy_j.value if s.energy_j else None, "J"))] if energy else ()),
        )
        for label, _, s in found
    ]
    heads = (*names, *(("energy per 1 s",) if energy else ()))
    columns = (Column("case", right=False), *map(Column, heads))
    return Table("Start and memory", columns, tuple(rows))
