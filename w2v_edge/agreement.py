"""Agreement of a bundle's outputs with a reference: deviations and their tolerances."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

RELATIVE_TOLERANCE = 1e-4
"""Largest absolute deviation, in standard deviations of the reference across frames."""

LARGE_VALUE_TOLERANCE = 1e-6
"""Deviation over the largest value, where values exceed 100 times their standard deviation."""

TIE_MARGIN = 1e-4
"""Two best logits closer than this, in standard deviations of all logits, are a tie."""

MAX_TIES = 1e-4
"""Share of all codes that may differ at ties."""

ROUNDING_FACTOR = 4.0
"""Tolerance over float32's own rounding error, where that is larger than the usual tolerance.

The bundle rounds too, in another order and with kernels that are up to three times less exact. The
factor holds for the largest deviation and for the median over frames: the largest is that of a few
sensitive frames and varies, a changed weight moves all frames.
"""

MAX_ROUNDING = 0.1
"""Rounding error, in standard deviations across frames, beyond which outputs show nothing."""

CLOSE_CALL = 0.05
"""With quantized weights, two labels whose logits are closer than this, in standard deviations of
the frame's logits, are a close call: frames at a cosine of 0.9999 may differ by as much."""


Measure = Literal[
    "max abs",
    "median abs",
    "1 - cosine",
    "codes",
    "labels",
    "share of codes",
    "share of labels",
    "shift, ms",
]
"""Measure of a deviation: the largest absolute difference, or the median over frames of each
frame's largest one; the largest cosine distance; a number of codes or labels that differ, or a
share of them; the time by which labels move."""

COUNTS: frozenset[Measure] = frozenset(("codes", "labels"))
"""Measures that are whole numbers."""


@dataclass(frozen=True)
class Deviation:
    """The deviation of one output in one test case from its reference.

    Attributes:
        case: graph and test case, such as `encoder 7.3 s x 6, noise`.
        output: name of the tensor.
        worst: the deviation, in terms of `measure`.
        allowed: the tolerance for `worst`.
        first_bad: (batch, frame) of the first value out of tolerance, or None.
        problem: a problem other than the deviation, such as a wrong shape.
        measure: what `worst` measures.
    """

    case: str
    output: str
    worst: float
    allowed: float
    first_bad: tuple[int, int] | None = None
    problem: str = ""
    measure: Measure = "max abs"

    @property
    def ok(self) -> bool:
        """Whether the output is within its tolerance."""
        return self.first_bad is None and not self.problem

    def to_dict(self) -> dict[str, Any]:
        """Return the deviation as JSON values, for manifests and reports; see `json_number`."""
        return {
            "case": self.case,
            "output": self.output,
            "worst": json_number(self.worst),
            "allowed": json_number(self.allowed),
            "first_bad": None if self.first_bad is None else list(self.first_bad),
            "problem": self.problem,
            "measure": self.measure,
        }


def json_number(value: float, digits: int = 4) -> float | str:
    """Return a number rounded to `digits` significant digits, for JSON.

    JSON has no infinity and no NaN: those are written as the strings "inf", "-inf" and "nan",
    which Python's `float` reads back.
    """
    return float(f"{value:.{digits}g}") if math.isfinite(value) else str(float(value))


@dataclass
class CodeAgreement:
    """Counts of compared codes.

    Attributes:
        compared: codes within valid frames.
        ties: differing codes whose two best logits are a tie; see `compare_codes`.
        wrong: differing codes that are no tie.
        distinct: entries seen in each group.
    """

    compared: int = 0
    ties: int = 0
    wrong: int = 0
    distinct: list[set[int]] = field(default_factory=list)

    def add(self, other: CodeAgreement) -> None:
        """Add the counts of another comparison."""
        self.compared += other.compared
        self.ties += other.ties
        self.wrong += other.wrong
        self.distinct = self.distinct or [set() for _ in other.distinct]
        for seen, more in zip(self.distinct, other.distinct, strict=False):
            seen.update(more)


def std_across_frames(values: npt.NDArray[Any]) -> float:
    """Return the standard deviation of values (n, d) across frames, as the RMS over channels."""
    return float(np.sqrt(np.mean(np.var(values.astype(np.float64), axis=0))))


def frame_cosines(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the cosine similarity of each pair of frames (n, d), (n,); 1 for two zero frames."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines: npt.NDArray[np.float64] = np.where(
        both_zero, 1.0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    )
    return cosines


def tolerance(std: float, peak: float) -> float:
    """Return the tolerance for an output with standard deviation `std` and largest value `peak`.

    The tolerance is relative to `std`. Where values are too large for float32 to reach it, it is
    relative to `peak`, and at most 1e-4.
    """
    return max(RELATIVE_TOLERANCE * std, min(RELATIVE_TOLERANCE, LARGE_VALUE_TOLERANCE * peak))


def compare_values(
    case: str,
    output: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    std: float,
    rounding: npt.NDArray[np.float64] | None = None,
) -> Deviation:
    """Compare values (b, n, d) by their largest absolute deviation.

    `worst` and `allowed` of the result are those of the utterance that is nearest to its tolerance.

    Args:
        case: graph and test case.
        output: name of the tensor.
        found: values of the bundle.
        expected: values of the reference.
        lengths: (b,) valid frames; frames past them must be exact zeros.
        std: standard deviation of the output, for its tolerance.
        rounding: (b, 2) deviation of PyTorch's own float32 from the reference in each utterance, if
            it was measured: the largest, and the median over frames.
    """
    peak = float(np.abs(expected).max(initial=0.0))
    usual = tolerance(std, peak)
    if found.shape != expected.shape:
        return Deviation(case, output, np.inf, usual, None, _shapes(found, expected))
    rounding = np.zeros((len(found), 2)) if rounding is None else rounding
    allowed, typical = np.maximum(usual, ROUNDING_FACTOR * rounding).T
    deviation = np.abs(found.astype(np.float64) - expected).max(axis=2, initial=0.0)
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    leaked = ~valid & (np.abs(found).max(axis=2, initial=0.0) != 0)
    bad = (valid & ~(deviation <= allowed[:, np.newaxis])) | leaked
    worst = np.where(valid, deviation, 0.0).max(axis=1, initial=0.0)
    measures: list[Measure] = ["max abs"] * len(found)
    for i, frames in enumerate(valid):
        median = np.median(deviation[i, frames]) if frames.any() else 0.0
        if not bad[i].any() and median > typical[i]:
            bad[i] = frames & (deviation[i] >= median)
            worst[i], allowed[i], measures[i] = median, typical[i], "median abs"
    # NaN is nearest of all.
    strain = np.where(np.isnan(worst), np.inf, worst / np.maximum(allowed, 1e-300))
    row = int(strain.argmax()) if len(strain) else None
    problem = "frames past the end are not zero" if leaked.any() else ""
    return Deviation(
        case,
        output,
        0.0 if row is None else float(worst[row]),
        usual if row is None else float(allowed[row]),
        _first(bad),
        problem,
        "max abs" if row is None else measures[row],
    )


def compare_frames(
    case: str,
    output: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    min_cosine: float,
) -> Deviation:
    """Compare frames (b, n, d) by their cosine similarity.

    `worst` and `allowed` of the result are cosine distances, one minus the cosine. Frames past the
    lengths (b,) must be exact zeros.
    """
    allowed = 1 - min_cosine
    if found.shape != expected.shape:
        return Deviation(
            case, output, np.inf, allowed, None, _shapes(found, expected), "1 - cosine"
        )
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    cosines = np.stack([frame_cosines(x, y) for x, y in zip(found, expected, strict=True)])
    distance = np.where(valid, 1 - cosines, 0.0)
    leaked = ~valid & (np.abs(found).max(axis=2, initial=0.0) != 0)
    problem = "frames past the end are not zero" if leaked.any() else ""
    bad = ~(distance <= allowed) | leaked
    worst = float(distance.max(initial=0.0))
    return Deviation(case, output, worst, allowed, _first(bad), problem, "1 - cosine")


def compare_most_codes(
    case: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    max_share: float,
) -> Deviation:
    """Compare codes (b, n, g); up to `max_share` of them may differ.

    Codes past the lengths (b,) must be zero.
    """
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    if found.shape != expected.shape:
        return Deviation(case, "codes", np.inf, 0, None, _shapes(found, expected), "codes")
    allowed = np.ceil(max_share * valid.sum() * found.shape[2])
    differs = (found != expected) & valid[..., None]
    problem = "codes past the end are not zero" if found[~valid].any() else ""
    count = int(differs.sum())
    first = _first(differs.any(axis=2)) if count > allowed else None
    return Deviation(case, "codes", float(count), float(allowed), first, problem, "codes")


def compare_labels(
    case: str,
    output: str,
    found: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    lengths: Iterable[int],
    max_share: float,
) -> Deviation:
    """Compare the best labels of logits (b, n, labels); up to `max_share` of them may differ.

    Logits near zero have no stable direction, so that labels are compared and not cosines. Close
    calls may differ, see `CLOSE_CALL`. Frames past the lengths (b,) must be exact zeros.
    """
    if found.shape != expected.shape:
        return Deviation(case, output, np.inf, 0, None, _shapes(found, expected), "labels")
    lengths = list(lengths)
    labels = without_close_calls(found.argmax(axis=2), expected)
    best = expected.argmax(axis=2)
    row = compare_most_codes(
        case, labels[..., np.newaxis], best[..., np.newaxis], lengths, max_share
    )
    padding = np.arange(found.shape[1]) >= np.asarray(lengths)[:, None]
    problem = "frames past the end are not zero" if found[padding].any() else row.problem
    problem = problem if np.isfinite(found).all() else "not finite"
    return replace(row, output=output, problem=problem, measure="labels")


def without_close_calls(
    found: npt.NDArray[np.int64], expected: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Return labels (b, n) with close calls replaced by the best label of logits (b, n, labels)."""
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
    agreement: CodeAgreement,
    rounding: npt.NDArray[np.float64] | None = None,
    scores: npt.NDArray[Any] | None = None,
) -> Deviation:
    """Compare codes (b, n, g), which may differ at ties only.

    Args:
        case: graph and test case.
        found: codes of the bundle.
        expected: codes of the reference.
        margins: (b, n, g) distance of the two best logits, in standard deviations of all logits.
        lengths: (b,) valid frames; codes past them must be zero.
        agreement: counts, updated in place.
        rounding: (b, 2) deviation of PyTorch's own float32 logits in each utterance, in the unit of
            `margins`, if it was measured: the largest, first, widens the tie margin.
        scores: (b, n, g, v) logits of the reference in the same unit: a tie is then between the
            best entry and the one found.
    """
    if found.shape != expected.shape:
        return Deviation(case, "codes", np.inf, 0, None, _shapes(found, expected), "codes")
    valid = np.arange(found.shape[1]) < np.asarray(list(lengths))[:, None]
    differs = found != expected
    if scores is not None:
        chosen = np.clip(found, 0, scores.shape[3] - 1)[..., np.newaxis]
        margins = scores.max(axis=3) - np.take_along_axis(scores, chosen, axis=3)[..., 0]
    rounding = np.zeros((len(found), 2)) if rounding is None else rounding
    # The two logits may both deviate.
    tie_margins = np.maximum(TIE_MARGIN, 2 * ROUNDING_FACTOR * rounding[:, 0])
    tie = differs & (margins < tie_margins[:, np.newaxis, np.newaxis]) & valid[..., None]
    bad = (differs & ~tie).any(axis=2)
    agreement.compared += int(valid.sum()) * found.shape[2]
    agreement.ties += int(tie.sum())
    agreement.wrong += int((differs & ~tie).sum())
    if not agreement.distinct:
        agreement.distinct = [set() for _ in range(found.shape[2])]
    for group, seen in enumerate(agreement.distinct):
        seen.update(np.unique(expected[valid][:, group]).tolist())
    wrong = float((differs & ~tie).sum())
    return Deviation(case, "codes", wrong, 0, _first(bad), measure="codes")


def compare_lengths(
    case: str, output: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> Deviation:
    """Compare lengths in frames (b,), which must be equal."""
    if found.shape != expected.shape:
        return Deviation(case, output, np.inf, 0, None, _shapes(found, expected))
    bad = found != expected
    worst = float(np.abs(found - expected).max(initial=0))
    return Deviation(case, output, worst, 0, (int(np.argmax(bad)), 0) if bad.any() else None)


def _first(bad: npt.NDArray[np.bool_]) -> tuple[int, int] | None:
    where = np.argwhere(bad)
    return (int(where[0, 0]), int(where[0, 1])) if len(where) else None


def _shapes(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> str:
    return f"shape {found.shape}, expected {expected.shape}"
