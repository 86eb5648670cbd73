"""A fleet as tables and as an HTML page: a row for each device, a column for each case."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from w2v_edge.latency.budget import METRICS
from w2v_edge.latency.report.document import NARROW, WIDE, chart, document, escaped, table_markup
from w2v_edge.latency.report.fleet import Fleet, FleetDevice, FleetResult
from w2v_edge.latency.report.records import Estimate
from w2v_edge.latency.report.scatter import Point, scatter
from w2v_edge.latency.report.tables import UNSTABLE, Cell, Column, Table
from w2v_edge.latency.report.wording import FACTS, clean, count, figure, interval, labels_of

PAGE_METRICS = ("p50", "p99", "rss", "install", "energy", "power")
"""Metrics of a page, as far as any device has them."""


def fleet_tables(fleet: Fleet, metrics: Sequence[str]) -> tuple[Table, ...]:
    """Return a table for each metric that a device has, and one of the devices."""
    made = (_metric(fleet, metric) for metric in metrics)
    return (*(table for table in made if table.rows), _devices(fleet))


def fleet_page(fleet: Fleet) -> str:
    """Return a fleet as one HTML page that loads nothing."""
    title = "w2v-edge fleet report"
    counts = f"{count(len(fleet.devices), 'device')}, {count(len(fleet.cases), 'case')}"
    failures = [
        f"<li><b>{escaped(x.device)}, {escaped(_cases(fleet)[x.case])}</b>: "
        f"{escaped(x.failure)}</li>"
        for x in fleet.results
        if x.failure
    ]
    tables = "".join(map(table_markup, fleet_tables(fleet, PAGE_METRICS)))
    facts = "".join(f"<p>{escaped(fact)}</p>" for fact in (FACTS[0], FACTS[-1]))
    listed = f'<h2 class="alarm">Failed</h2><ul>{"".join(failures)}</ul>'
    body = (
        f'<header><h1>{title}</h1><p class="meta soft">{counts}</p></header><main>',
        _chart(fleet, "price", "price", lambda device, _: device.price),
        _chart(fleet, "power", "W", lambda _, result: _value(result, "power")),
        f"<section>{listed}</section>" if failures else "",
        '<section class="long"><h2>All figures</h2>',
        f'<div class="note">{facts}</div>{tables}</section></main>',
    )
    return document(title, body)


def _chart(
    fleet: Fleet, what: str, unit: str, of: Callable[[FleetDevice, FleetResult], float | None]
) -> str:
    """Draw the median latency over a figure of the devices; empty if they do not have it."""
    devices = {device.name: device for device in fleet.devices}
    names = _cases(fleet)
    points: list[Point] = []
    named: set[str] = set()
    for result in sorted(fleet.results, key=lambda x: -(_value(x, "p50") or 0.0)):
        ms, x = result.figures.get("p50"), of(devices[result.device], result)
        if ms is not None and x is not None:
            # The slowest case of a device carries its name.
            name = "" if result.device in named else result.device
            named.add(result.device)
            hover = f"{result.device}, {names[result.case]}"
            points.append(Point(x, ms, name, result.case, hover))
    title = f"Latency by {what}"
    words = f"Median latency of a query over the device's {what}, with its interval."
    drawn = [scatter(title, words, points, width, unit) for width in (WIDE, NARROW)]
    return chart(title, words, drawn, names)


def _metric(fleet: Fleet, metric: str) -> Table:
    found = {(x.device, x.case): x for x in fleet.results}
    first = fleet.devices[0].name
    rows = []
    for device in fleet.devices:
        each = [found.get((device.name, i)) for i in range(len(fleet.cases))]
        before = [found.get((first, i)) for i in range(len(fleet.cases))]
        cells = [_cell(x, None if device.name == first else y, metric)
                 for x, y in zip(each, before, strict=True)]  # fmt: skip
        rows.append((Cell(clean(device.name)), *map(Cell, cells)))
    if not any(metric in x.figures for x in fleet.results):
        rows = []
    title = f"{metric}, and its ratio to the first device"
    columns = (Column("device", right=False), *map(Column, _cases(fleet)))
    return Table(title, columns, tuple(rows))


def _cell(result: FleetResult | None, first: FleetResult | None, metric: str) -> str:
    """Return a figure with its ratio to the first device's."""
    if result is None:
        return ""
    found = result.figures.get(metric)
    if found is None:
        return "failed" if result.failure else ""
    base = _value(first, metric) if first else None
    ratio = f" ({found.value / base:.2f}x)" if base else ""
    return (UNSTABLE if result.disturbed else "") + _text(found, metric) + ratio


def _text(found: Estimate, metric: str) -> str:
    unit = METRICS[metric][0]
    if unit == "%":
        return figure(100 * found.value, unit)
    return figure(found.value, unit) if found.low == found.high else interval(found, unit)


def _value(result: FleetResult, metric: str) -> float | None:
    found = result.figures.get(metric)
    return None if found is None else found.value


def _devices(fleet: Fleet) -> Table:
    priced = any(x.price is not None for x in fleet.devices)
    columns = (
        Column("device", right=False),
        Column("processor", right=False),
        Column("cores"),
        Column("memory"),
        Column("system", right=False),
        Column("onnxruntime", right=False),
        *([Column("price")] if priced else []),
        Column("identity", right=False),
    )
    rows = [
        (
            Cell(clean(x.name)),
            Cell(clean(f"{x.processor}, {x.architecture}")),
            Cell(str(x.cores)),
            Cell(figure(x.memory_mb, "MB")),
            Cell(clean(x.system)),
            Cell(clean(x.onnxruntime)),
            *([Cell("" if x.price is None else f"{x.price:g}")] if priced else []),
            Cell(clean(x.identity)),
        )
        for x in fleet.devices
    ]
    return Table("Devices", columns, tuple(rows))


def _cases(fleet: Fleet) -> tuple[str, ...]:
    return labels_of(fleet.cases)
