"""A report as one HTML page that needs nothing else: no network, no fonts, no libraries."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path

from w2v_edge import strict
from w2v_edge.latency import charts, curves, wording
from w2v_edge.latency.report import Report
from w2v_edge.latency.tables import Table, all_latencies, tables
from w2v_edge.latency.wording import figure, interval

WIDE, NARROW = 1000, 420
"""Pixels that charts are drawn for; the style sheet shows the one that suits the window."""

SCRIPT = """document.getElementById("save").addEventListener("click", () => {
  const text = document.getElementById("report").textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "latency.json";
  link.click();
});"""


def page(report: Report, *, raw: bool = True) -> str:
    """Write a report as one page of HTML.

    Args:
        report: what was measured.
        raw: whether the report itself, with every latency, is in the page to be saved.
    """
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    title = "w2v-edge latency report"
    body = (
        _header(report, title),
        "<main>",
        _cards(report),
        _problems(report),
        *_charts(report),
        _figures(report),
        _device(report),
        "</main>",
        _footer(report, raw),
    )
    # Hashes, not 'unsafe-inline': what a name might smuggle in would not run.
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(SCRIPT)}; "
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
        + (f"\n<script>{SCRIPT}</script>" if raw else "")
        + "</body></html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(report: Report) -> str:
    """Write the report's JSON so that nothing in it can end the element it is in."""
    text = json.dumps(strict.to_plain(report), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _said(text: str) -> str:
    return escape(wording.clean(text))


def _header(report: Report, title: str) -> str:
    doubtful = bool(report.conditions.disturbances) or any(r.unstable for r in report.cases)
    kind, state = ("alarm", "the machine was disturbed") if doubtful else ("quiet", "quiet machine")
    if not doubtful and not report.conditions.samples:
        kind, state = "soft", "state of the machine not known"
    badge = f'<span class="badge {kind}"><span>{state}</span></span>'
    machine, software = wording.device(report)
    same = wording.shared(report)
    trials = sum(len(result.trials) for result in report.cases)
    counts = f"{wording.count(len(report.cases), 'case')}, {wording.count(trials, 'trial')}"
    return (
        f"<header><h1>{title}</h1>"
        f'<p class="meta">{_said(machine)}</p><p class="meta soft">{_said(software)}</p>'
        f'<p class="meta soft">{_said(report.created)}, {counts}, '
        f"<code>{_said(report.command)}</code></p>"
        + (f'<p class="meta soft">All cases: {_said(same)}</p>' if same else "")
        + (f"<p>{badge}</p>" if report.cases else "")
        + "</header>"
    )


def _cards(report: Report) -> str:
    """Make a card for each bundle, of its first case with figures."""
    made, seen = [], set()
    records = {record.name: record for record in report.bundles}
    for label, colour, result, s in charts.drawn(report):
        name = result.case.bundle
        if name in seen:
            continue
        seen.add(name)
        record = records.get(name)
        what = f"{record.precision}, {figure(record.size_mb, 'MB')}" if record else ""
        facts = (
            ("times real time", figure(s.speed.value, wording.TIMES)),
            ("p99", figure(s.p99_ms.value, "ms")),
            ("peak memory", figure(s.peak_mb, "MB")),
            ("load", figure(s.load_ms.value, "ms")),
        )
        items = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts)
        value, _, rest = interval(s.p50_ms, "ms").partition(" [")
        limits, _, unit = rest.partition("] ")
        made.append(
            f'<article class="card {colour}"><h3>{_said(name)}</h3>'
            f'<p class="note">{_said(what)}</p>'
            f'<div class="big">{value} {unit}</div>'
            f'<div class="note">median, [{limits}] {unit}; '
            f"{_said(label)}</div>"
            f"<dl>{items}</dl></article>"
        )
    return f'<div class="cards">{"".join(made)}</div>' if made else ""


def _problems(report: Report) -> str:
    parts = []
    if not report.cases:
        parts.append("<p>Nothing was measured: the report has no cases.</p>")
    for title, pairs in (
        ("Failed", wording.failures(report)),
        ("Unstable, marked ~", wording.unstable(report)),
    ):
        if pairs:
            items = "".join(f"<li><b>{_said(label)}</b>: {_said(why)}</li>" for label, why in pairs)
            parts.append(f'<h2 class="alarm">{title}</h2><ul>{items}</ul>')
    return f"<section>{''.join(parts)}</section>" if parts else ""


def _charts(report: Report) -> Iterable[str]:
    thin = charts.thinning(report)
    most = max((len(t.latencies_ms) for r in report.cases for t in r.trials), default=0)
    thinned = f" At most {thin} dots of a trial are drawn, evenly by rank." if most > thin else ""
    yield _chart(
        "Latency",
        "Shape: all queries, heights as square roots of counts. Each row of dots is one trial, a "
        "process of its own: rows that are shifted show drift. Line: median, with its interval; "
        f"dashed: p90 and p99.{thinned}",
        [charts.spreads(report, width) for width in (WIDE, NARROW)],
    )
    lengths, threads = curves.series(report, "seconds"), curves.series(report, "threads")
    yield _pair(
        _chart(
            "By length of audio",
            "Median of a query; below the dashed line it is faster than real time.",
            [curves.by_length(report, width) for width in (WIDE, NARROW)],
            [name for name, _ in lengths],
        ),
        _chart(
            "By threads",
            "Median of a query; dashed: as if each thread did its full share.",
            [curves.by_threads(report, width) for width in (WIDE, NARROW)],
            [name for name, _ in threads],
        ),
    )
    yield _chart(
        "Streaming",
        "Latency of each block over the time of the stream; of longer ones the slowest block of "
        "each stretch. A block above the line is late.",
        [curves.stream(report, width) for width in (WIDE, NARROW)],
    )
    memory = [charts.memory(report, width) for width in (WIDE, NARROW)]
    yield _pair(
        _chart(
            "Cold start",
            "From the start of a process to its steady state.",
            [charts.cold_start(report, width) for width in (WIDE, NARROW)],
            charts.COLD,
        ),
        _chart("Memory", "Resident: filled after loading, light at the peak.", memory)
        or (
            "<section><h2>Memory</h2><p>Not available on this system.</p></section>"
            if charts.drawn(report)
            else ""
        ),
    )
    yield _chart(
        "Operators",
        "One run, profiled apart from the trials.",
        [charts.operators(report, width) for width in (WIDE, NARROW)],
        charts.operator_names(report),
    )
    yield _chart(
        "The whole run",
        "A lane for each case, its trials as bars; shaded: what disturbed them.",
        [curves.run(report, width) for width in (WIDE, NARROW)],
    )


def _chart(title: str, words: str, drawn: list[str], legend: Iterable[str] = ()) -> str:
    """Make a section of a chart at both widths; nothing where there is nothing to draw."""
    if not any(drawn):
        return ""
    items = "".join(
        f'<li class="c{i % charts.COLOURS}">{_said(name)}</li>' for i, name in enumerate(legend)
    )
    keys = f'<ul class="legend">{items}</ul>' if items else ""
    return (
        f'<section class="long"><h2>{title}</h2><p class="note">{words}</p>{keys}'
        f"{''.join(drawn)}</section>"
    )


def _pair(left: str, right: str) -> str:
    """Set two sections side by side where there are two."""
    return f'<div class="pair">{left}{right}</div>' if left and right else left or right


def _figures(report: Report) -> str:
    made = "".join(map(_table, tables(report, intervals=True)))
    facts = "".join(f"<p>{_said(fact)}</p>" for fact in wording.FACTS)
    return (
        f'<section class="long"><h2>All figures</h2><div class="note">{facts}</div>{made}</section>'
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_class(column.right)}>{_said(column.name)}</th>'
        for column in table.columns
    )
    rows = []
    for row in table.rows:
        first = f'<th scope="row">{_said(row[0].text)}</th>'
        cells = (
            f"<td{_class(column.right)}>"
            + (f"<strong>{_said(cell.text)}</strong>" if cell.strong else _said(cell.text))
            + "</td>"
            for column, cell in zip(table.columns[1:], row[1:], strict=True)
        )
        rows.append(f"<tr>{first}{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_said(table.title)}"><table>'
        f"<caption>{_said(table.title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _class(right: bool) -> str:
    return ' class="right"' if right else ' class="name"'


def _device(report: Report) -> str:
    it, cpu, how, audio = report.device, report.device.cpu, report.settings, report.audio
    quota = f", quota {cpu.quota:g}" if cpu.quota else ""
    facts = {
        "identity": it.identity,
        "processor": f"{cpu.model}, {cpu.architecture}",
        "cores": f"{cpu.cores} ({cpu.physical_cores or 'unknown'} physical), {cpu.usable_cores} "
        f"usable, affinity {' '.join(map(str, cpu.affinity)) or 'unknown'}{quota}",
        "frequency": f"{_or(cpu.min_mhz)} to {_or(cpu.max_mhz)} MHz, "
        f"governor {cpu.governor or 'unknown'}",
        "instructions": " ".join(cpu.features) or "unknown",
        "memory": f"{figure(it.memory_mb, 'MB')}, "
        + (f"limit {figure(it.memory_limit_mb, 'MB')}" if it.memory_limit_mb else "no limit"),
        "GPUs": "; ".join(
            f"{g.name}, driver {g.driver}, {figure(g.memory_mb, 'MB')}" for g in it.gpus
        )
        or "none",
        "system": f"{it.system}, container {it.container or 'none'}, virtual "
        f"{ {True: 'yes', False: 'no', None: 'unknown'}[it.virtual] }",
        "Python": it.python,
        "onnxruntime": f"{it.onnxruntime}, {it.onnxruntime_build}",
        "providers": ", ".join(it.providers),
        "packages": ", ".join(f"{name} {version}" for name, version in it.packages.items()),
        "speech": f"{audio.source}: {wording.count(audio.recordings, 'recording')}, "
        f"{audio.seconds:.1f} s, sha256 {audio.sha256}",
        "settings": f"{wording.count(how.rounds, 'process', 'processes')} for each case".replace(
            "processs", "processes"
        )
        + f", steady state of {how.steady_s:g} s or more, precision {100 * how.precision:g} %, "
        f"{how.time_s:g} s at most, {100 * how.confidence:g} % confidence, seed {how.seed}",
    }
    items = "".join(f"<dt>{key}</dt><dd>{_said(value)}</dd>" for key, value in facts.items())
    state = "".join(f"<li>{_said(words)}</li>" for words in wording.conditions(report))
    return (
        f"<section><h2>Conditions</h2><ul>{state}</ul></section>"
        f'<section><h2>Device and settings</h2><dl class="facts">{items}</dl></section>'
    )


def _or(number: float | None) -> str:
    return "unknown" if number is None else f"{number:g}"


def _footer(report: Report, raw: bool) -> str:
    """Offer the report itself, unless it is without its samples: such a one cannot be compared."""
    if not raw:
        return (
            '<footer><span class="note">The report is too large to lie in this page: '
            "w2v-edge bench --json FILE writes it.</span></footer>"
        )
    queries = sum(len(all_latencies(result)) for result in report.cases)
    return (
        '<footer><button id="save" type="button">Save the report as JSON</button> '
        f'<span class="note">with all {queries} raw samples</span>'
        f'<script type="application/json" id="report">{_embedded(report)}</script></footer>'
    )
