"""Parts of HTML pages that load nothing: the document with its policy, charts and tables."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from pathlib import Path

from w2v_edge.latency.report import charts, wording
from w2v_edge.latency.report.tables import Table

WIDE, NARROW = 1000, 420
"""Widths of the charts in pixels; the style sheet shows the one that fits the window."""


def document(title: str, body: Iterable[str], script: str = "") -> str:
    """Return a page.

    Args:
        title: of the window.
        body: markup.
        script: the only script that may run.
    """
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    # Hashes, not 'unsafe-inline': a script injected by a name would not run.
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style>"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(body)
        + (f"\n<script>{script}</script>" if script else "")
        + "</body></html>\n"
    )


def escaped(text: str) -> str:
    """Return text as markup that shows it, without control characters."""
    return escape(wording.clean(text))


def chart(title: str, words: str, drawn: list[str], legend: Iterable[str] = ()) -> str:
    """Return a section with a chart at both widths; empty if the chart is."""
    if not any(drawn):
        return ""
    items = "".join(
        f'<li class="c{i % charts.COLOURS}">{escaped(name)}</li>' for i, name in enumerate(legend)
    )
    keys = f'<ul class="legend">{items}</ul>' if items else ""
    return (
        f'<section class="long"><h2>{title}</h2><p class="note">{words}</p>{keys}'
        f"{''.join(drawn)}</section>"
    )


def table_markup(table: Table) -> str:
    """Return a table that scrolls within its own width."""
    head = "".join(
        f'<th scope="col"{_class(column.right)}>{escaped(column.name)}</th>'
        for column in table.columns
    )
    rows = []
    for row in table.rows:
        first = f'<th scope="row">{wording.keep_units(escaped(row[0].text))}</th>'
        cells = (
            f"<td{_class(column.right)}>"
            + (f"<strong>{escaped(cell.text)}</strong>" if cell.strong else escaped(cell.text))
            + "</td>"
            for column, cell in zip(table.columns[1:], row[1:], strict=True)
        )
        rows.append(f"<tr>{first}{''.join(cells)}</tr>")
    title = escaped(table.title)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table>'
        f"<caption><span>{title}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _class(right: bool) -> str:
    return ' class="right"' if right else ' class="name"'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
