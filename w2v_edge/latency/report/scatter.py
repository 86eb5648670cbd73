"""Charts of points: latency against another figure, such as price, power or similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from w2v_edge.latency.report import svg
from w2v_edge.latency.report.charts import COLOURS
from w2v_edge.latency.report.curves import grid, mark, short
from w2v_edge.latency.report.records import Estimate
from w2v_edge.latency.report.wording import clean, interval

HEIGHT = 340
WIDE_RANGE = 5.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True)
class Point:
    """A measured point.

    Attributes:
        x: value across.
        ms: latency in ms.
        name: label beside the point; empty for none.
        series: number of its series, for colour and shape.
        hover: text that is shown when the point is hovered.
    """

    x: float
    ms: Estimate
    name: str
    series: int
    hover: str


def scatter(
    title: str,
    words: str,
    points: Sequence[Point],
    width: int,
    unit: str,
    *,
    limits: Mapping[str, float] | None = None,
    line: Sequence[Point] = (),
) -> str:
    """Draw measured points with the intervals of their latency; empty without points.

    Args:
        title: of the chart.
        words: its description.
        points: the points.
        width: in pixels.
        unit: what is measured across.
        limits: limits of latency in ms by label, drawn as lines.
        line: points to connect.
    """
    if not points:
        return ""
    limits = limits or {}
    values = [point.x for point in points]
    spread = min(values) > 0 and max(values) > WIDE_RANGE * min(values)
    across = svg.axis(values, 62, width - 30, log=spread)
    ends = [x for p in points for x in (p.ms.low, p.ms.high)]
    up = svg.axis([*ends, *limits.values()], HEIGHT - 36, 14, log=True)
    made = [grid(across, up, across.ticks(max(3, width // 120)), unit, width)]
    for label, ms in limits.items():
        made += [
            svg.line(across.begin, up(ms), across.end, up(ms), "deadline"),
            svg.text(across.end, up(ms) - 5, clean(f"{label}: {short(ms)}"), "small", "end"),
        ]
    if line:
        path = [(across(point.x), up(point.ms.value)) for point in line]
        made.append(svg.polyline(path, "dashed"))
    for point in points:
        x, y = across(point.x), up(point.ms.value)
        hover = clean(f"{point.hover}: {interval(point.ms, 'ms')}")
        right = x > width * 0.7
        made.append(
            svg.element(
                "g",
                svg.line(x, up(point.ms.low), x, up(point.ms.high), "line"),
                mark(x, y, point.series, hover),
                svg.text(x + (-8 if right else 8), y - 6, clean(point.name), "small",
                         "end" if right else "start"),
                class_=f"c{point.series % COLOURS}",
            )
        )  # fmt: skip
    return svg.picture(title, words, width, HEIGHT, *made)
