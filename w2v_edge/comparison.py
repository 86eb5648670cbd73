"""Is the bundle equal to the reference? The bars, and what is reported when one is missed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

RELATIVE_BAR = 1e-4
"""Largest deviation, in standard deviations of the reference across frames."""

LARGE_VALUE_BAR = 1e-6
"""Where values are more than 100 times larger than they vary: deviation over the largest value."""

TIE_MARGIN = 1e-4
"""Two best logits closer than this, in standard deviations of all logits, are a tie."""

MAX_TIES = 1e-4
"""Share of all codes that may differ at ties."""


CLOSE_CALL = 0.05
"""Where weights have fewer bits, two labels whose logits lie closer than this, in standard
deviations of a frame's logits, are a close call: two frames at a cosine of 0.9999, as near as
roundings leave them, may differ by as much."""


@dataclass(frozen=True)
class Row:
    """One output of one case.

    Attributes:
        case: what was run, such as `encoder 7.3 s x 6, noise`.
        output: the tensor.
        worst: largest absolute deviation, or for codes how many differ.
        allowed: what it may be.
        first_bad: (batch, frame) of the first value out of bounds, or None.
        problem: what is wrong beyond that, such as a shape.
    """

    case: str
    output: str
    worst: float
    allowed: float
    first_bad: tuple[int, int] | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the row is within its bar."""
        return self.first_bad is None and not self.problem


@dataclass
class Tally:
    """Codes compared so far.

    Attributes:
        compared: codes within valid frames.
        ties: differing codes whose two best logits were too close to call.
        wrong: differing codes that were no tie.
        distinct: entries seen in each group.
    """

    compared: int = 0
    ties: int = 0
    wrong: int = 0
    distinct: list[set[int]] = field(default_factory=list)


def spread(values: npt.NDArray[Any]) -> float:
    """Return how much values (n, d) vary across frames: the RMS of the channels' deviations."""
    return float(np.sqrt(np.mean(np.var(values.astype(np.float64), axis=0))))


def frame_cosines(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the cosine of each frame of (n, d) with that of the other; 1 for two zero frames."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines: npt.NDArray[np.float64] = np.where(
        both_zero, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    )
    return cosines


def tolerance(std: float, peak: float) -> float:
    """Return the largest deviation allowed for an output that varies by `std` and peaks at `peak`.

    It is relative to `std`. Only where values are so large that float32 cannot do better does the
    absolute bar, 1e-4 at most, take its place.
    """
    return max(RELATIVE_BAR * std, min(RELATIVE_BAR, LARGE_VALUE_BAR * peak))


def compare_values(
    case: str,
    output: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    std: float,
) -> Row:
    """Compare (b, n, d) with (b, n, d), of which `lengths` frames are valid.

    Frames past the lengths must be exact zeros.
    """
    peak = float(np.abs(expected).max(initial=0.0))
    allowed = tolerance(std, peak)
    if found.shape != expected.shape:
        return Row(case, output, np.inf, allowed, None, _shapes(found, expected))
    deviation = np.abs(found.astype(np.float64) - expected).max(axis=2, initial=0.0)
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    leaked = ~valid & (np.abs(found).max(axis=2, initial=0.0) != 0)
    bad = (valid & ~(deviation <= allowed)) | leaked
    worst = np.where(valid, deviation, 0.0).max(initial=0.0)
    problem = "frames past the end are not zero" if leaked.any() else ""
    return Row(case, output, float(worst), allowed, _first(bad), problem)


def compare_frames(
    case: str,
    output: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    min_cosine: float,
) -> Row:
    """Compare the direction of each valid frame of (b, n, d) with that of the reference.

    The row's figures are one minus a cosine. Frames past the lengths must be exact zeros.
    """
    allowed = 1 - min_cosine
    if found.shape != expected.shape:
        return Row(case, output, np.inf, allowed, None, _shapes(found, expected))
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    cosines = np.stack([frame_cosines(x, y) for x, y in zip(found, expected, strict=True)])
    distance = np.where(valid, 1 - cosines, 0.0)
    leaked = ~valid & (np.abs(found).max(axis=2, initial=0.0) != 0)
    problem = "frames past the end are not zero" if leaked.any() else ""
    bad = ~(distance <= allowed) | leaked
    return Row(case, output, float(distance.max(initial=0.0)), allowed, _first(bad), problem)


def compare_most_codes(
    case: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    max_share: float,
) -> Row:
    """Compare codes (b, n, g) of which a share may differ; those past the lengths must be zero."""
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    if found.shape != expected.shape:
        return Row(case, "codes", np.inf, 0, None, _shapes(found, expected))
    allowed = np.ceil(max_share * valid.sum() * found.shape[2])
    differs = (found != expected) & valid[..., None]
    problem = "codes past the end are not zero" if found[~valid].any() else ""
    count = int(differs.sum())
    first = _first(differs.any(axis=2)) if count > allowed else None
    return Row(case, "codes", float(count), float(allowed), first, problem)


def compare_labels(
    case: str,
    output: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    max_share: float,
) -> Row:
    """Compare the best labels of logits (b, n, labels), of which a share may differ.

    Roundings turn logits that are near zero by any angle; what counts is which one is largest, but
    for close calls. Frames past the lengths must be exact zeros.
    """
    if found.shape != expected.shape:
        return Row(case, output, np.inf, 0, None, _shapes(found, expected))
    lengths = list(lengths)
    labels = without_close_calls(found.argmax(axis=2), expected)
    best = expected.argmax(axis=2)
    row = compare_most_codes(
        case, labels[..., np.newaxis], best[..., np.newaxis], lengths, max_share
    )
    padding = np.arange(found.shape[1]) >= np.asarray(lengths)[:, None]
    problem = "frames past the end are not zero" if found[padding].any() else row.problem
    return replace(row, output=output, problem=problem)


def without_close_calls(
    found: npt.NDArray[np.int64], expected: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Return labels (b, n) as expected by logits (b, n, labels), where the choice was close."""
    best = expected.argmax(axis=2)
    lead = (
        expected.max(axis=2) - np.take_along_axis(expected, found[..., np.newaxis], axis=2)[..., 0]
    )
    close = lead <= CLOSE_CALL * expected.std(axis=2)
    settled: npt.NDArray[np.int64] = np.where(close, best, found)
    return settled


def compare_codes(
    case: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    margins: npt.NDArray[Any],
    lengths: Iterable[int],
    tally: Tally,
) -> Row:
    """Compare codes (b, n, g); one may differ where its margin says that it is a tie.

    Args:
        case: what was run.
        found: by the bundle.
        expected: by the reference.
        margins: (b, n, g) distance of the two best logits, in standard deviations of all logits.
        lengths: valid frames; codes past them must be zero.
        tally: is added to.
    """
    if found.shape != expected.shape:
        return Row(case, "codes", np.inf, 0, None, _shapes(found, expected))
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    differs = found != expected
    tie = differs & (margins < TIE_MARGIN) & valid[..., None]
    bad = (differs & ~tie).any(axis=2)
    tally.compared += int(valid.sum()) * found.shape[2]
    tally.ties += int(tie.sum())
    tally.wrong += int((differs & ~tie).sum())
    if not tally.distinct:
        tally.distinct = [set() for _ in range(found.shape[2])]
    for group, seen in enumerate(tally.distinct):
        seen.update(np.unique(expected[valid][:, group]).tolist())
    return Row(case, "codes", float((differs & ~tie).sum()), 0, _first(bad))


def compare_lengths(case: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Row:
    """Compare frame lengths (b,), which must be equal."""
    if found.shape != expected.shape:
        return Row(case, "frame_lengths", np.inf, 0, None, _shapes(found, expected))
    bad = found != expected
    worst = float(np.abs(found - expected).max(initial=0))
    return Row(case, "frame_lengths", worst, 0, (int(np.argmax(bad)), 0) if bad.any() else None)


def _first(bad: npt.NDArray[np.bool_]) -> tuple[int, int] | None:
    where = np.argwhere(bad)
    return (int(where[0, 0]), int(where[0, 1])) if len(where) else None


def _shapes(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> str:
    return f"shape {found.shape}, expected {expected.shape}"
