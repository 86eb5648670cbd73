"""Charts of the cases side by side: distributions of latency, cold start, memory, operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from w2v_edge.latency.report import svg
from w2v_edge.latency.report.records import BenchmarkReport, CaseResult, Estimate, Summary
from w2v_edge.latency.report.tables import all_latencies, histogram, marked_labels
from w2v_edge.latency.report.wording import clean, count, figure, interval

COLOURS = 7
MAX_DOTS = 20_000
"""Number of dots in the chart of distributions; figures are computed from all samples."""
NARROW = 500
"""Width in pixels above which p90 and p99 are printed next to the median."""
SHAPE = 34
LABEL = 19
BAR = 16


def colours(report: BenchmarkReport) -> tuple[str, ...]:
    """Return the colour class of each case: by bundle, or by case if there is one bundle."""
    names = list(dict.fromkeys(result.case.bundle for result in report.cases))
    order = [
        names.index(r.case.bundle) if len(names) > 1 else i for i, r in enumerate(report.cases)
    ]
    return tuple(f"c{index % COLOURS}" for index in order)


def drawn(report: BenchmarkReport) -> list[tuple[str, str, CaseResult, Summary]]:
    """Return label, colour, result and summary of the successful cases."""
    each = zip(marked_labels(report), colours(report), report.cases, strict=True)
    return [(label, colour, r, r.summary) for label, colour, r in each if r.summary is not None]


def thinning(report: BenchmarkReport) -> int:
    """Return the maximum number of dots per trial in the chart of distributions."""
    trials = sum(len(result.trials) for result in report.cases)
    return max(8, min(400, MAX_DOTS // max(1, trials)))


def distributions(report: BenchmarkReport, width: int) -> str:
    """Draw the distribution of each case, and below it each trial as a row of dots."""
    rows = [(*row, all_latencies(row[2])) for row in drawn(report)]
    rows = [row for row in rows if row[4]]
    if not rows:
        return ""
    # Logarithmic: the slowest query in a thousand would waste most of a linear axis.
    across = svg.axis((f(row[4]) for row in rows for f in (min, max)), 8, width - 8, log=True)
    made, y = [], 22.0
    for label, colour, result, summary, values in rows:
        step = 5.0 if len(result.trials) <= 8 else 3.0  # noqa: PLR2004
        most = thinning(report)
        made.append(_distribution(across, y, label, colour, result, summary, values, step, most))
        y += LABEL + SHAPE + step * len(result.trials) + 16
    name = "Distribution of latencies by case"
    words = (
        "Logarithmic axis; for each case the density of all queries, the median with its "
        "interval, p90 and p99; below, one row of dots per trial. "
        + "; ".join(f"{row[0]}: p50 {interval(row[3].p50_ms, 'ms')}" for row in rows[:12])
    )
    return svg.picture(name, words, width, y, _top(across, y), *made)


def _distribution(
    across: svg.Axis,
    y: float,
    label: str,
    colour: str,
    result: CaseResult,
    summary: Summary,
    values: list[float],
    step: float,
    most: int,
) -> str:
    base = y + LABEL + SHAPE
    named = [("p50", summary.p50_ms), ("p90", summary.p90_ms), ("p99", summary.p99_ms)]
    shown = named if across.end > NARROW else named[:1]
    right = ", ".join(f"{name} {figure(x.value, 'ms')}" for name, x in shown)
    parts = [_heading(across, y, label, right), _density(across, base, values)]
    for number, trial in enumerate(result.trials, 1):
        ms = np.sort(np.array(trial.latencies_ms))
        if not len(ms):
            continue
        places = np.unique(np.linspace(0, len(ms) - 1, min(len(ms), most)).astype(int))
        at = base + step * (number - 0.5) + 2
        queries = count(len(ms), "query", "queries")
        middle, last = figure(float(np.median(ms)), "ms"), figure(float(ms[-1]), "ms")
        hover = (
            f"trial {number} of {len(result.trials)}: {queries}, median {middle}, slowest {last}"
        )
        parts.append(
            svg.dots(((across(float(ms[i])), at) for i in places), f"dots t{number % 2}", hover)
        )
    bottom = base + step * len(result.trials) + 4
    p50 = summary.p50_ms
    left, right_end, top = across(p50.low), across(p50.high), y + LABEL + 4
    said = f"p50 {interval(p50, 'ms')}"
    parts.append(svg.rect(left, top, right_end - left, bottom - top, "interval", said))
    parts.append(svg.line(across(p50.value), y + LABEL + 4, across(p50.value), bottom, "median"))
    for name, estimate in named[1:]:
        x = across(estimate.value)
        mark = svg.line(x, base - 14, x, bottom, "mark")
        hover = svg.title(f"{name} {interval(estimate, 'ms')}")
        # Close to the median or its interval, the label of a mark would overlap them.
        free = x > max(across(p50.value) + 24, right_end + 20) and name == "p99"
        words = _mark_name(across, x, base - 17, name) if free else ""
        parts.append(svg.element("g", hover, mark, words))
    return svg.element("g", *parts, class_=colour)


def _mark_name(across: svg.Axis, x: float, y: float, name: str) -> str:
    near_end = x > across.end - 16
    return svg.text(x, y, name, "small", "end" if near_end else "middle")


def _density(across: svg.Axis, base: float, values: list[float]) -> str:
    bins = int((across.end - across.begin) / 4)
    counts = histogram(values, across.low, across.high, bins)
    heights = np.sqrt(counts / max(1, counts.max())) * (SHAPE - 4)
    edges = np.linspace(across.begin, across.end, bins + 1)
    points: list[tuple[float, float]] = []
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height:
            if not points or points[-1] != (left, base):
                points.append((left, base))
            points += [(left, base - height), (right, base - height), (right, base)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
    return svg.element("path", d=path, class_="shape")


def _top(across: svg.Axis, bottom: float) -> str:
    """Draw the time axis at the top and its grid lines."""
    marks = []
    for tick in across.ticks(int((across.end - across.begin) / 70)):
        x = across(tick)
        anchor = "start" if x < across.begin + 14 else "end" if x > across.end - 14 else "middle"
        marks += [svg.line(x, 16, x, bottom, "grid"), svg.text(x, 11, _tick(tick), "tick", anchor)]
    return "".join(marks)


def _tick(ms: float) -> str:
    """Format a tick of the time axis."""
    unit = (1e3, "s") if ms >= 1e3 else (1.0, "ms") if ms >= 0.1 or ms == 0 else (1e-3, "µs")  # noqa: PLR2004
    return f"{ms / unit[0]:g} {unit[1]}"


def _heading(across: svg.Axis, y: float, label: str, right: str) -> str:
    # Labels are bold; 14 pixels stay free before the figures.
    room = int((across.end - across.begin - 6.6 * len(right) - 14) / 7.4)
    shown = label if len(label) <= room else label[: room - 1] + "…"
    left = svg.element("g", svg.title(label), svg.text(across.begin, y + 13, shown, "label"))
    return left + svg.text(across.end, y + 13, right, "value", "end")


COLD = ("start", "import", "load", "first query", "warm-up")


def cold_start(report: BenchmarkReport, width: int) -> str:
    """Draw the phases until the steady state, one bar per case."""
    parts_of = [(label, _cold_parts(summary)) for label, _, _, summary in drawn(report)]
    return _stacks(
        "Cold start by case",
        "Time from the start of a process to its steady state: start, import, load, first query, "
        "warm-up.",
        [
            (label, [(name, x.value, interval(x, "ms")) for name, x in parts])
            for label, parts in parts_of
        ],
        width,
    )


def _cold_parts(s: Summary) -> list[tuple[str, Estimate]]:
    times = (s.start_ms, s.import_ms, s.load_ms, s.first_ms, s.warm_up_ms)
    return list(zip(COLD, times, strict=True))


def operators(report: BenchmarkReport, width: int) -> str:
    """Draw the time of operator types in one run, one bar per profiled case."""
    names = operator_names(report)
    rows = []
    for label, result in zip(marked_labels(report), report.cases, strict=True):
        if not result.operators:
            continue
        times = dict.fromkeys(names, 0.0)
        for found in result.operators:
            name = clean(found.operator)
            times[name if name in times else names[-1]] += found.time_ms
        rows.append((label, [(name, ms, figure(ms, "ms")) for name, ms in times.items()]))
    return _stacks("Operators by case", "Time of one run by type of operator.", rows, width)


def operator_names(report: BenchmarkReport) -> list[str]:
    """Return the slowest operator types, and `all others` if there are more than colours."""
    times: dict[str, float] = {}
    for result in report.cases:
        for found in result.operators:
            name = clean(found.operator)
            times[name] = times.get(name, 0.0) + found.time_ms
    names = sorted(times, key=lambda name: -times[name])
    return names if len(names) <= COLOURS else [*names[: COLOURS - 1], "all others"]


def _stacks(
    name: str, words: str, rows: Sequence[tuple[str, list[tuple[str, float, str]]]], width: int
) -> str:
    if not rows:
        return ""
    totals = [sum(max(0.0, part[1]) for part in parts) for _, parts in rows]
    across = svg.Axis(0.0, max(*totals, 1e-6) * 1.02, 8, width - 8)
    made, y = [], 22.0
    for (label, parts), total in zip(rows, totals, strict=True):
        made.append(_heading(across, y, label, figure(total, "ms")))
        sum_ms = 0.0
        for index, (part, ms, said) in enumerate(parts):
            left, right = across(sum_ms), across(sum_ms + max(0.0, ms))
            bar = svg.rect(left, y + LABEL, right - left, BAR, "bar", f"{part}: {said}")
            made.append(svg.element("g", bar, class_=f"c{index % COLOURS}"))
            sum_ms += max(0.0, ms)
        y += LABEL + BAR + 10
    return svg.picture(name, words, width, y, _top(across, y), *made)


def memory(report: BenchmarkReport, width: int) -> str:
    """Draw resident memory after loading and its peak, one bar per case."""
    rows = [
        (label, colour, s.loaded_mb, s.peak_mb)
        for label, colour, _, s in drawn(report)
        if s.loaded_mb is not None or s.peak_mb is not None
    ]
    if not rows:
        return ""
    across = svg.Axis(
        0.0, max(x or 0.0 for row in rows for x in row[2:]) * 1.02 or 1.0, 8, width - 8
    )
    made, y = [], 6.0
    for label, colour, loaded, peak in rows:
        said = f"{figure(loaded, 'MB')}, peak {figure(peak, 'MB')}"
        bars = [
            svg.rect(8, y + LABEL, across(x) - 8, BAR, kind, f"{kind}: {figure(x, 'MB')}")
            for kind, x in (("peak", peak), ("loaded", loaded))
            if x is not None
        ]
        made.append(_heading(across, y, label, said) + svg.element("g", *bars, class_=colour))
        y += LABEL + BAR + 10
    words = "Resident memory after loading (solid) and peak (light)."
    return svg.picture("Memory by case", words, width, y, *made)
