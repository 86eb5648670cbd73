"""Charts along an axis: latency by audio length and by threads, streams, the whole benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from w2v_edge.latency.report import svg
from w2v_edge.latency.report.charts import COLOURS, colours, drawn
from w2v_edge.latency.report.records import BenchmarkCase, BenchmarkReport, Summary
from w2v_edge.latency.report.tables import marked_labels
from w2v_edge.latency.report.wording import case_fields, case_words, clean, figure, interval

HEIGHT = 300
MAX_BLOCKS = 600
"""Points per trial in the chart of a stream: the slowest block of each interval."""

Series = tuple[str, list[tuple[float, BenchmarkCase, Summary]]]


def series(report: BenchmarkReport, along: Literal["seconds", "threads"]) -> list[Series]:
    """Return groups of at least two cases that differ only in the field `along`."""
    groups: dict[str, list[tuple[float, BenchmarkCase, Summary]]] = {}
    for _, _, result, summary in drawn(report):
        if result.case.scenario == "streaming":
            continue
        same = _without(result.case, along)
        groups.setdefault(repr(same), []).append(
            (getattr(result.case, along), result.case, summary)
        )
    several = [sorted(g, key=lambda p: p[0]) for g in groups.values() if len({p[0] for p in g}) > 1]
    words = [case_words(group[0][1]) for group in several]
    fields = [f for f in case_fields() if f != along]
    differing = [f for f in fields if len({w[f] for w in words}) > 1] or ["bundle", "graph"]
    names = [" ".join(w[f] for f in differing if w[f]) for w in words]
    return list(zip(names, several, strict=True))


def _without(case: BenchmarkCase, along: Literal["seconds", "threads"]) -> BenchmarkCase:
    if along == "seconds":
        return dataclasses.replace(case, seconds=0.0)
    return dataclasses.replace(case, threads=0)


def by_length(report: BenchmarkReport, width: int) -> str:
    """Draw the median latency over the length of audio, and the real-time line."""
    found = series(report, "seconds")
    if not found:
        return ""
    first = found[0][1]
    most = max(group[-1][0] for _, group in found)
    # All audio of a batch counts; the line is that of the first series.
    limit = [
        (first[0][0], 1000 * first[0][0] * first[0][1].batch),
        (most, 1000 * most * first[0][1].batch),
    ]
    words = "Median latency of a query over seconds of audio, both logarithmic, with intervals."
    return _curves(
        "Latency by length of audio", words, found, width, "s of audio", {"real time": limit}
    )


def by_threads(report: BenchmarkReport, width: int) -> str:
    """Draw the median latency over threads, and ideal scaling of each series."""
    found = series(report, "threads")
    ideal = {}
    for name, group in found:
        start, end, base = group[0][0], group[-1][0], group[0][2].p50_ms.value
        ideal[f"ideal: {name}"] = [(start, base), (end, base * start / end)]
    words = "Median latency of a query over threads, both logarithmic; dashed: ideal scaling."
    return _curves("Latency by threads", words, found, width, "threads", ideal) if found else ""


def _curves(
    name: str,
    words: str,
    found: Sequence[Series],
    width: int,
    unit: str,
    dashed: dict[str, list[tuple[float, float]]],
) -> str:
    points = [point for _, group in found for point in group]
    extra = [y for line in dashed.values() for _, y in line]
    across = svg.axis((p[0] for p in points), 62, width - 12, log=True)
    up = svg.axis(
        [*(x for p in points for x in (p[2].p50_ms.low, p[2].p50_ms.high)), *extra],
        HEIGHT - 36, 12, log=True,
    )  # fmt: skip
    made = [grid(across, up, sorted({p[0] for p in points}), unit, width)]
    for index, (label, line) in enumerate(dashed.items()):
        ends = [(across(x), up(y)) for x, y in line]
        drawn_line = svg.polyline(ends, "dashed", label)
        colour = f"c{index % COLOURS}" if label.startswith("ideal") else None
        made.append(svg.element("g", drawn_line, class_=colour))
        if colour is None:
            made.append(svg.text(ends[-1][0], ends[-1][1] + 34, label, "small", "end"))
    for index, (label, group) in enumerate(found):
        made.append(_curve(across, up, label, group, index))
    return svg.picture(name, words, width, HEIGHT, *made)


def _curve(
    across: svg.Axis,
    up: svg.Axis,
    label: str,
    group: list[tuple[float, BenchmarkCase, Summary]],
    index: int,
) -> str:
    middle = [(across(x), up(s.p50_ms.value)) for x, _, s in group]
    lows = [(across(x), up(s.p50_ms.low)) for x, _, s in group]
    highs = [(across(x), up(s.p50_ms.high)) for x, _, s in group]
    band = svg.polyline([*lows, *reversed(highs)], "band")
    marks = []
    for (x, y), (at, _, summary) in zip(middle, group, strict=True):
        hover = f"{label}, {at:g}: {interval(summary.p50_ms, 'ms')}"
        marks.append(mark(x, y, index, hover))
    return svg.element(
        "g", band, svg.polyline(middle, "line", label), *marks, class_=f"c{index % COLOURS}"
    )


def mark(x: float, y: float, index: int, hover: str) -> str:
    """Return the mark of a series; marks differ in shape too, for colour-blind readers."""
    title = svg.title(hover)
    shape = {
        0: svg.element("circle", title, cx=x, cy=y, r=4, class_="bar"),
        1: svg.element("rect", title, x=x - 4, y=y - 4, width=8, height=8, class_="bar"),
    }
    return shape.get(
        index % 3, svg.element("path", title, d=f"M{x} {y - 5}l5 9h-10z", class_="bar")
    )


def grid(across: svg.Axis, up: svg.Axis, at: list[float], unit: str, width: int) -> str:
    """Return lines and labels of both axes: ms upwards, and `at` some places across."""
    made = []
    for tick in up.ticks(6):
        y = up(tick)
        made += [svg.line(across.begin, y, across.end, y, "grid"),
                 svg.text(across.begin - 6, y + 4, short(tick), "tick", "end")]  # fmt: skip
    last = -1e9
    for value in at:
        x = across(value)
        if x - last > 34:  # noqa: PLR2004
            made += [svg.line(x, up.end, x, up.begin, "grid"),
                     svg.text(x, up.begin + 16, f"{value:g}", "tick", "middle")]  # fmt: skip
            last = x
    made.append(svg.text(width / 2, up.begin + 32, unit, "tick", "middle"))
    return "".join(made)


def short(ms: float) -> str:
    """Return a time for an axis."""
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"  # noqa: PLR2004


def stream(report: BenchmarkReport, width: int) -> str:
    """Draw the latency of each block over time, and the deadline."""
    rows = [row for row in drawn(report) if row[2].case.scenario == "streaming" and row[2].trials]
    if not rows:
        return ""
    made, y = [], 6.0
    for label, colour, result, summary in rows:
        case, trials = result.case, [t for t in result.trials if t.latencies_ms]
        up = svg.axis(
            [case.block_ms, *(max(t.latencies_ms) for t in trials)], y + 130, y + 24, zero=True
        )
        blocks = max((len(t.latencies_ms) for t in trials), default=1)
        across = svg.Axis(0.0, blocks * case.block_ms / 1000 or 1.0, 62, width - 12)
        made.append(svg.text(8, y + 12, label, "label"))
        for tick in up.ticks(3):
            made += [svg.line(62, up(tick), width - 12, up(tick), "grid"),
                     svg.text(56, up(tick) + 4, short(tick), "tick", "end")]  # fmt: skip
        made += [
            svg.text(across(tick), y + 146, f"{tick:g} s", "tick", "middle")
            for tick in across.ticks()
        ]
        for number, trial in enumerate(trials, 1):
            line = [
                (across(t * case.block_ms / 1000), up(ms)) for t, ms in slowest(trial.latencies_ms)
            ]
            hover = f"trial {number}: {trial.late} of {len(trial.latencies_ms)} blocks missed"
            made.append(
                svg.element("g", svg.polyline(line, f"thin t{number % 2}", hover), class_=colour)
            )
        deadline = up(case.block_ms)
        made.append(svg.line(62, deadline, width - 12, deadline, "deadline"))
        missed = f"missed {100 * (summary.miss_rate or 0):.3g} %"
        said = f"block size {figure(case.block_ms, 'ms')}; {missed}"
        made.append(svg.text(width - 12, deadline - 5, said, "small", "end"))
        y += 166
    words = "Latency of each block over time, and the deadline, when the next block arrives."
    return svg.picture("Blocks of streams over time", words, width, y, *made)


def slowest(latencies_ms: Sequence[float]) -> list[tuple[int, float]]:
    """Return (block, ms) of the slowest block in each of `MAX_BLOCKS` intervals."""
    parts = np.array_split(np.array(latencies_ms), min(len(latencies_ms), MAX_BLOCKS))
    made, begin = [], 0
    for part in parts:
        worst = int(part.argmax())
        made.append((begin + worst, float(part[worst])))
        begin += len(part)
    return made


PANELS = (
    ("others", "other load", "cores"),
    ("mhz", "frequency", "MHz"),
    ("temperature_c", "temperature", "°C"),
)


def run(report: BenchmarkReport, width: int) -> str:
    """Draw the whole benchmark: trials, state of the machine, and disturbances."""
    trials = [trial for result in report.cases for trial in result.trials]
    found = report.conditions
    ends = [
        *(t.end_s for t in trials),
        *(s.at_s for s in found.samples),
        *(d.end_s for d in found.disturbances),
    ]
    if not trials or max(ends) <= 0:
        return ""
    across = svg.Axis(0.0, max(ends), 84, width - 12)
    lane = 12.0 if len(report.cases) <= 16 else 4.0  # noqa: PLR2004
    made, y = [], 24.0
    for label, colour, result in zip(
        marked_labels(report), colours(report), report.cases, strict=True
    ):
        spans = [
            svg.rect(across(t.begin_s), y, across(t.end_s) - across(t.begin_s), lane - 2, "bar",
                     f"{label}, trial {n}: {t.begin_s:.1f} s to {t.end_s:.1f} s")
            for n, t in enumerate(result.trials, 1)
        ]  # fmt: skip
        made.append(svg.element("g", *spans, class_=colour))
        y += lane
    made.append(svg.text(78, 33, "trials", "tick", "end"))
    for name, title, unit in PANELS:
        values = [(s.at_s, v) for s in found.samples if (v := getattr(s, name)) is not None]
        if values:
            made.append(_panel(across, y + 10, title, unit, values))
            y += 56
    back = [
        svg.line(x := across(t), 16, x, y + 4, "grid")
        + svg.text(x, 11, f"{t:g} s", "tick", "middle")
        for t in across.ticks(max(2, width // 110))
    ]
    for d in found.disturbances:
        hover = f"{d.kind}: {clean(d.detail)}, {d.begin_s:.1f} s to {d.end_s:.1f} s"
        back.append(
            svg.rect(
                across(d.begin_s), 16, across(d.end_s) - across(d.begin_s), y - 12, "trouble", hover
            )
        )
    words = (
        "Trials as bars over time, one lane per case; below, the state of the machine; shaded: "
        "disturbances."
    )
    return svg.picture("The whole run", words, width, y + 8, *back, *made)


def _panel(
    across: svg.Axis, y: float, title: str, unit: str, values: list[tuple[float, float]]
) -> str:
    up = svg.axis((v for _, v in values), y + 40, y + 4, zero=title == "other load")
    low, high = min(v for _, v in values), max(v for _, v in values)
    path = svg.polyline(
        [(across(t), up(v)) for t, v in values], "state", f"{title}, {low:.4g} to {high:.4g} {unit}"
    )
    digits = 2 if unit == "cores" else 0
    words = (
        svg.text(78, y + 12, title, "tick", "end"),
        svg.text(78, y + 24, f"{low:.{digits}f}-{high:.{digits}f}", "small", "end"),
        svg.text(78, y + 36, unit, "small", "end"),
    )
    return path + "".join(words)
