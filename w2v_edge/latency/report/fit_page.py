"""A fit as a table and as an HTML page with a picture of latency over similarity."""

from __future__ import annotations

from w2v_edge.latency.budget import METRICS, Budget
from w2v_edge.latency.fit.choice import Fit, FitCheck, FitPoint, tightest
from w2v_edge.latency.fit.fit import label
from w2v_edge.latency.report import wording
from w2v_edge.latency.report.document import NARROW, WIDE, chart, document, escaped, table_markup
from w2v_edge.latency.report.scatter import Point, scatter
from w2v_edge.latency.report.tables import Cell, Column, Table, tables
from w2v_edge.latency.report.wording import clean, figure, interval

CHOSEN = "chosen"


def fit_table(fit: Fit) -> Table:
    """Return a row for each point: similarity, the figures of the budgets, and the verdict."""
    columns = (
        Column("bundle and settings", right=False),
        Column("precision", right=False),
        Column("layers"),
        Column("similarity"),
        *map(Column, fit.budgets),
        Column("verdict", right=False),
    )
    rows = tuple(_row(fit, i, point) for i, point in enumerate(fit.points))
    return Table(f"Similarity: {fit.similarity}", columns, rows)


def conclusion(fit: Fit) -> str:
    """Say which point was chosen, or which one is nearest."""
    if fit.choice is not None:
        point = fit.points[fit.choice]
        return f"{clean(label(point))} meets all budgets; similarity {point.similarity:.4f}"
    if fit.nearest is None:
        return f"no point could be measured: {fit.points[0].failure}"
    point = fit.points[fit.nearest]
    nearest = f"no measured point surely meets all budgets; the nearest is {clean(label(point))}"
    found = tightest(point.checks)
    if found is None:
        return nearest
    longer = "; measure longer with --time" if found.verdict == "unclear" else ""
    return (
        f"{nearest}: {_figure(found)} at {found.seconds:g} s, budget {found.budget} is "
        f"{found.verdict}{longer}"
    )


def fit_page(fit: Fit) -> str:
    """Return a fit as one HTML page that loads nothing."""
    title = "w2v-edge fit report"
    machine, software = wording.device(fit.report)
    kind = "quiet" if fit.choice is not None else "alarm"
    state = "all budgets met" if fit.choice is not None else "budgets not met for sure"
    remarks = "".join(f"<li>{escaped(text)}</li>" for text in fit.remarks)
    figures = "".join(map(table_markup, tables(fit.report, intervals=True)))
    facts = "".join(f"<p>{escaped(fact)}</p>" for fact in wording.FACTS)
    conditions = "".join(f"<li>{escaped(x)}</li>" for x in wording.conditions(fit.report))
    body = (
        f'<header><h1>{title}</h1><p class="meta">{escaped(machine)}</p>',
        f'<p class="meta soft">{escaped(software)}</p>',
        f'<p class="meta soft"><code>{escaped(fit.report.command)}</code></p>',
        f'<p><span class="badge {kind}"><span>{state}</span></span></p>',
        f"<p>{escaped(conclusion(fit))}</p></header><main>",
        _chart(fit),
        f'<section class="long"><h2>Points</h2>{table_markup(fit_table(fit))}',
        f"<ul>{remarks}</ul></section>" if remarks else "</section>",
        f'<section><h2>Conditions</h2><ul>{conditions}</ul></section><section class="long">',
        f'<h2>All figures</h2><div class="note">{facts}</div>{figures}</section></main>',
    )
    return document(title, body)


def _chart(fit: Fit) -> str:
    names = list(dict.fromkeys(point.bundle for point in fit.points))
    points = [
        Point(
            point.similarity,
            point.latency,
            _name(fit, i, point),
            names.index(point.bundle),
            f"{label(point)}, similarity {point.similarity:.4f}, {point.verdict}",
        )
        for i, point in enumerate(fit.points)
        if point.latency is not None
    ]
    words = (
        f"{fit.latency} over similarity ({fit.similarity}). Measured points only; named are those "
        "that no other point beats in layers, similarity and latency. Line: the budget."
    )
    limits = {"budget": fit.limit_ms} if fit.limit_ms else {}
    drawn = [
        scatter("Latency by similarity", words, points, width, "similarity", limits=limits)
        for width in (WIDE, NARROW)
    ]
    return chart("Latency by similarity", escaped(words), drawn, names)


def _name(fit: Fit, index: int, point: FitPoint) -> str:
    """Return the label of a point in the picture."""
    if index == fit.choice:
        return f"{label(point)} ({CHOSEN})"
    return label(point) if point.pareto else ""


def _row(fit: Fit, index: int, point: FitPoint) -> tuple[Cell, ...]:
    by_budget = {x.budget: x for x in point.checks}
    cells = [by_budget.get(budget) for budget in fit.budgets]
    verdict = CHOSEN if index == fit.choice else point.verdict
    return (
        Cell(clean(label(point)), strong=index == fit.choice),
        Cell(clean(point.precision)),
        Cell(str(point.layers)),
        Cell(f"{point.similarity:.4f}"),
        *(Cell("" if x is None else _figure(x)) for x in cells),
        Cell(clean(f"failed: {point.failure}") if point.failure else verdict),
    )


def _figure(checked: FitCheck) -> str:
    """Return the figure of a check, with its interval if it has one."""
    found = checked.figure
    if found is None:
        return "no figure"
    unit = METRICS[Budget.parse(checked.budget).metric][0]
    if unit == "%":
        return figure(100 * found.value, unit)
    return figure(found.value, unit) if found.low == found.high else interval(found, unit)
