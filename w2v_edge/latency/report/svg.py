"""SVG building blocks: escaped elements, axes and paths; independent of reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Axis:
    """A mapping from values to pixels.

    Attributes:
        low: value at `begin`.
        high: value at `end`.
        begin: position in pixels.
        end: position in pixels; smaller than `begin` for an upward axis.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value in pixels, clipped to the axis."""
        low, high, at = (self._map(x) for x in (self.low, self.high, value))
        share = min(max((at - low) / (high - low), 0.0), 1.0)
        return round(self.begin + share * (self.end - self.begin), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most about `most` round values on the axis."""
        return _log_ticks(self.low, self.high, most) if self.log else self._linear_ticks(most)

    def _map(self, value: float) -> float:
        return math.log(max(value, 1e-12)) if self.log else value

    def _linear_ticks(self, most: int) -> list[float]:
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def axis(
    values: Iterable[float], begin: float, end: float, *, log: bool = False, zero: bool = False
) -> Axis:
    """Return an axis that covers all values with some margin."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
    low, high = min(known), max(known)
    if log:
        room = max((high / low) ** 0.04, 1.04)
        return Axis(low / room, high * room, begin, end, log=True)
    low = min(low, 0.0) if zero else low
    room = 0.05 * (high - low) or max(abs(high) * 0.05, 0.5)
    return Axis(low if zero else low - room, high + room, begin, end)


def element(tag: str, *children: str, **attributes: object) -> str:
    """Return an element; children are markup, attributes are escaped, `_` becomes `-`."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>"


def text(x: float, y: float, words: str, class_: str | None = None, anchor: str = "start") -> str:
    """Return text at a position."""
    where = None if anchor == "start" else anchor
    return element("text", escape(words), x=x, y=y, class_=class_, text_anchor=where)


def title(words: str) -> str:
    """Return a tooltip for the surrounding element."""
    return f"<title>{escape(words)}</title>"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a line."""
    return element("path", d=f"M{_number(x1)} {_number(y1)}L{_number(x2)} {_number(y2)}",
                   class_=class_)  # fmt: skip


def rect(x: float, y: float, width: float, height: float, class_: str, hover: str = "") -> str:
    """Return a rectangle at least a third of a pixel wide."""
    return element(
        "rect",
        title(hover) if hover else "",
        x=x,
        y=y,
        width=max(width, 0.3),
        height=height,
        class_=class_,
    )


def polyline(points: Sequence[tuple[float, float]], class_: str, hover: str = "") -> str:
    """Return lines between consecutive points."""
    path = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
    return element("path", title(hover) if hover else "", d=path, class_=class_)


def dots(points: Iterable[tuple[float, float]], class_: str, hover: str = "") -> str:
    """Return dots: zero-length lines with round ends take fewer bytes than circles."""
    path = "".join(f"M{_number(x)} {_number(y)}h0" for x, y in points)
    return element("path", title(hover) if hover else "", d=path, class_=class_)


def picture(name: str, description: str, width: int, height: float, *children: str) -> str:
    """Return an SVG picture with an accessible name and description."""
    number = f"{name.lower().replace(' ', '-')}-{width}"
    return element(
        "svg",
        f'<title id="{number}-title">{escape(name)}</title>',
        f'<desc id="{number}-words">{escape(description)}</desc>',
        *children,
        viewBox=f"0 0 {width} {_number(height)}",
        role="img",
        aria_labelledby=f"{number}-title {number}-words",
        class_="wide" if width > 500 else "narrow",  # noqa: PLR2004
    )


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return the finest series of ticks (1-2-5, 1-3, powers of ten) within the limit."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(found) <= most:
            break
    return found[:: math.ceil(len(found) / most)] if found else [low, high]


def _number(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
