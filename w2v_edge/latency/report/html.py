"""A report as one self-contained HTML page: no network, fonts or libraries."""

from __future__ import annotations

from collections.abc import Iterable

from w2v_edge import strict
from w2v_edge.latency.report import charts, curves, wording
from w2v_edge.latency.report.document import NARROW, WIDE, chart, document, escaped, table_markup
from w2v_edge.latency.report.files import dumps
from w2v_edge.latency.report.records import BenchmarkReport
from w2v_edge.latency.report.tables import all_latencies, tables
from w2v_edge.latency.report.wording import figure, interval

MAX_EMBEDDED = 500_000
"""Latencies up to which the report itself is embedded; a page with more would load slowly."""

SCRIPT = """document.getElementById("save").addEventListener("click", () => {
  const text = document.getElementById("report").textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "latency.json";
  link.click();
});"""


def page(report: BenchmarkReport, *, raw: bool | None = None) -> str:
    """Return a report as one HTML page.

    Args:
        report: the report.
        raw: embed the report with every latency, so that it can be saved from the page; default:
            up to `MAX_EMBEDDED` latencies.

    Raises:
        InputError: a figure is not finite.
    """
    if raw is None:
        raw = sum(len(all_latencies(result)) for result in report.cases) <= MAX_EMBEDDED
    title = "w2v-edge latency report"
    body = (
        _header(report, title),
        "<main>",
        _cards(report),
        _comparison(report),
        _problems(report),
        *_charts(report),
        _figures(report),
        _device(report),
        "</main>",
        _footer(report, raw),
    )
    return document(title, body, SCRIPT if raw else "")


def _embedded(report: BenchmarkReport) -> str:
    """Return the report's JSON, escaped so that it cannot close its element."""
    text = dumps(strict.to_plain(report), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _header(report: BenchmarkReport, title: str) -> str:
    doubtful = bool(report.conditions.disturbances) or any(r.unstable for r in report.cases)
    kind, state = ("alarm", "the machine was disturbed") if doubtful else ("quiet", "quiet machine")
    if not doubtful and not report.conditions.samples:
        kind, state = "soft", "state of the machine unknown"
    badge = f'<span class="badge {kind}"><span>{state}</span></span>'
    machine, software = wording.device(report)
    same = wording.shared(report)
    trials = sum(len(result.trials) for result in report.cases)
    counts = f"{wording.count(len(report.cases), 'case')}, {wording.count(trials, 'trial')}"
    return (
        f"<header><h1>{title}</h1>"
        f'<p class="meta">{escaped(machine)}</p><p class="meta soft">{escaped(software)}</p>'
        f'<p class="meta soft">{escaped(report.created)}, {counts}, '
        f"<code>{escaped(report.command)}</code></p>"
        + (f'<p class="meta soft">All cases: {escaped(same)}</p>' if same else "")
        + (f"<p>{badge}</p>" if report.cases else "")
        + "</header>"
    )


def _cards(report: BenchmarkReport) -> str:
    """Return a card for the first successful case of each bundle."""
    made, seen = [], set()
    records = {record.name: record for record in report.bundles}
    for label, colour, result, s in charts.drawn(report):
        name = result.case.bundle
        if name in seen:
            continue
        seen.add(name)
        record = records.get(name)
        description = f"{record.precision}, {figure(record.size_mb, 'MB')}" if record else ""
        facts = (
            ("speed (real time = 1)", figure(s.speed.value, wording.TIMES)),
            ("p99", figure(s.p99_ms.value, "ms")),
            ("peak memory", figure(s.peak_mb, "MB")),
            ("load", figure(s.load_ms.value, "ms")),
        )
        items = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts)
        value, _, rest = interval(s.p50_ms, "ms").partition(" [")
        limits, _, unit = rest.partition("] ")
        made.append(
            f'<article class="card {colour}"><h2>{escaped(name)}</h2>'
            f'<p class="note">{escaped(description)}</p>'
            f'<div class="big">{value} {unit}</div>'
            f'<div class="note">median, [{limits}] {unit}; '
            f"{escaped(label)}</div>"
            f"<dl>{items}</dl></article>"
        )
    return f'<div class="cards">{"".join(made)}</div>' if made else ""


def _comparison(report: BenchmarkReport) -> str:
    """Return how the bundles compare, if there are several."""
    items = "".join(f"<li>{escaped(line)}</li>" for line in wording.speedups(report))
    return f"<section><h2>Comparison</h2><ul>{items}</ul></section>" if items else ""


def _problems(report: BenchmarkReport) -> str:
    parts = []
    if not report.cases:
        parts.append("<p>Nothing was measured: the report has no cases.</p>")
    for title, pairs in (
        ("Failed", wording.failures(report)),
        ("Unstable, marked ~", wording.unstable(report)),
    ):
        if pairs:
            items = "".join(
                f"<li><b>{escaped(label)}</b>: {escaped(why)}</li>" for label, why in pairs
            )
            parts.append(f'<h2 class="alarm">{title}</h2><ul>{items}</ul>')
    return f"<section>{''.join(parts)}</section>" if parts else ""


def _charts(report: BenchmarkReport) -> Iterable[str]:
    thin = charts.thinning(report)
    most = max((len(t.latencies_ms) for r in report.cases for t in r.trials), default=0)
    thinned = (
        f" At most {thin} dots per trial are drawn, evenly spaced by rank." if most > thin else ""
    )
    yield chart(
        "Latency",
        "Shape: histogram of all queries, heights are square roots of counts. Each row of dots is "
        "one trial (a process): shifted rows indicate drift. Line: median with its interval; "
        f"dashed: p90 and p99.{thinned}",
        [charts.distributions(report, width) for width in (WIDE, NARROW)],
    )
    lengths, threads = curves.series(report, "seconds"), curves.series(report, "threads")
    yield _pair(
        chart(
            "By length of audio",
            "Median latency of a query; below the dashed line, faster than real time.",
            [curves.by_length(report, width) for width in (WIDE, NARROW)],
            [name for name, _ in lengths],
        ),
        chart(
            "By threads",
            "Median latency of a query; dashed: ideal scaling.",
            [curves.by_threads(report, width) for width in (WIDE, NARROW)],
            [name for name, _ in threads],
        ),
    )
    yield chart(
        "Streaming",
        "Latency of each block over time; in long streams, of the slowest block in each interval. "
        "A block above the line misses its deadline.",
        [curves.stream(report, width) for width in (WIDE, NARROW)],
    )
    memory = [charts.memory(report, width) for width in (WIDE, NARROW)]
    yield _pair(
        chart(
            "Cold start",
            "Time from the start of a process to its steady state.",
            [charts.cold_start(report, width) for width in (WIDE, NARROW)],
            charts.COLD,
        ),
        chart("Memory", "Resident memory: after loading (solid) and peak (light).", memory)
        or (
            "<section><h2>Memory</h2><p>Not available on this system.</p></section>"
            if charts.drawn(report)
            else ""
        ),
    )
    yield chart(
        "Operators",
        "One run, profiled outside the trials.",
        [charts.operators(report, width) for width in (WIDE, NARROW)],
        charts.operator_names(report),
    )
    yield chart(
        "The whole run",
        "One lane per case with its trials as bars; shaded: disturbances.",
        [curves.run(report, width) for width in (WIDE, NARROW)],
    )


def _pair(left: str, right: str) -> str:
    """Return two sections side by side, or the one that is not empty."""
    return f'<div class="pair">{left}{right}</div>' if left and right else left or right


def _figures(report: BenchmarkReport) -> str:
    made = "".join(map(table_markup, tables(report, intervals=True)))
    facts = "".join(f"<p>{escaped(fact)}</p>" for fact in wording.FACTS)
    return (
        f'<section class="long"><h2>All figures</h2><div class="note">{facts}</div>{made}</section>'
    )


def _device(report: BenchmarkReport) -> str:
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
        "Python": it.python or "none",
        "onnxruntime": f"{it.onnxruntime}, {it.onnxruntime_build}",
        "providers": ", ".join(it.providers),
        "packages": ", ".join(f"{name} {version}" for name, version in it.packages.items())
        or "none",
        "speech": f"{audio.source}: {wording.count(audio.recordings, 'recording')}, "
        f"{audio.seconds:.1f} s, sha256 {audio.sha256}",
        "settings": f"{wording.count(how.rounds, 'process', 'processes')} per case, steady state "
        f"of at least {how.steady_s:g} s, requested interval +-{100 * how.precision:g} %, "
        f"time limit {how.time_s:g} s, {100 * how.confidence:g} % confidence, seed {how.seed}",
    }
    items = "".join(f"<dt>{key}</dt><dd>{escaped(value)}</dd>" for key, value in facts.items())
    state = "".join(f"<li>{escaped(words)}</li>" for words in wording.conditions(report))
    return (
        f"<section><h2>Conditions</h2><ul>{state}</ul></section>"
        f'<section><h2>Device and settings</h2><dl class="facts">{items}</dl></section>'
    )


def _or(number: float | None) -> str:
    return "unknown" if number is None else f"{number:g}"


def _footer(report: BenchmarkReport, raw: bool) -> str:
    """Return the button that saves the report, if the report is embedded."""
    if not raw:
        return (
            '<footer><span class="note">The report is too large to be embedded; write it as JSON '
            "to compare or share it.</span></footer>"
        )
    queries = sum(len(all_latencies(result)) for result in report.cases)
    return (
        '<footer><button id="save" type="button">Save the report as JSON</button> '
        f'<span class="note">with all {queries} raw samples</span>'
        f'<script type="application/json" id="report">{_embedded(report)}</script></footer>'
    )
