"""The rules of the gate's comparisons, each on arrays that hold one fault."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.agreement import (
    CodeAgreement,
    Deviation,
    compare_codes,
    compare_lengths,
    compare_values,
    std_across_frames,
    tolerance,
)

LENGTHS = [20, 12]


@pytest.fixture
def values() -> npt.NDArray[np.float32]:
    """Two utterances of 20 and 12 frames and 5 channels, zero past their ends."""
    drawn = np.random.default_rng(3).standard_normal((2, 20, 5)).astype(np.float32)
    drawn[1, 12:] = 0
    return drawn


@pytest.fixture
def codes() -> npt.NDArray[np.int64]:
    """The codes of such utterances, in 2 groups."""
    drawn = np.random.default_rng(4).integers(1, 40, (2, 20, 2))
    drawn[1, 12:] = 0
    return drawn


def _values(found: npt.NDArray[Any], expected: npt.NDArray[Any], std: float = 1.0) -> Deviation:
    return compare_values("case", "context", found, expected, LENGTHS, std)


def _codes(
    found: npt.NDArray[Any], expected: npt.NDArray[Any], margins: float = 1.0
) -> tuple[Deviation, CodeAgreement]:
    agreement = CodeAgreement()
    row = compare_codes(
        "case", found, expected, np.full(expected.shape, margins), LENGTHS, agreement
    )
    return row, agreement


def test_equal_values_pass(values: npt.NDArray[np.float32]) -> None:
    """Equal arrays are within any tolerance."""
    row = _values(values, values.copy(), std=0.0)
    assert row.ok
    assert row.worst == 0
    assert row.problem == ""


@given(
    std=st.floats(1e-3, 1e3),
    share=st.sampled_from([0.5, 0.98, 1.02, 2.0, np.inf, np.nan]),
    frame=st.integers(0, 11),
)
def test_the_tolerance_is_relative_to_the_standard_deviation(
    std: float, share: float, frame: int
) -> None:
    """Deviations up to 1e-4 standard deviations pass; the first frame beyond is named."""
    expected = np.zeros((2, 20, 5))
    found = expected.copy()
    found[1, frame, 3] = share * 1e-4 * std
    row = compare_values("case", "context", found, expected, LENGTHS, std)
    assert row.allowed == pytest.approx(1e-4 * std)
    assert row.ok == (share < 1)
    assert row.first_bad == (None if share < 1 else (1, frame))
    assert row.worst == pytest.approx(share * 1e-4 * std, nan_ok=True)


def test_large_values_have_an_absolute_tolerance() -> None:
    """Where values are far larger than they vary, 1e-6 of them is allowed, 1e-4 at most."""
    assert tolerance(1.0, 1.0) == 1e-4
    assert tolerance(1e-4, 0.01) == pytest.approx(1e-8)
    assert tolerance(1e-4, 10.0) == pytest.approx(1e-5)
    assert tolerance(1e-4, 1e9) == pytest.approx(1e-4)
    assert tolerance(100.0, 1e9) == pytest.approx(1e-2)


@given(offset=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_standard_deviation_is_across_frames(offset: float, scale: float) -> None:
    """How much an output varies does not depend on where each channel lies."""
    frames = np.random.default_rng(0).standard_normal((500, 8)) * scale
    channels = np.linspace(-offset, offset, 8)
    assert std_across_frames(frames + channels) == pytest.approx(scale, rel=0.1)
    assert std_across_frames(np.tile(channels, (9, 1))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("worst", [np.inf, -np.inf, np.nan, 1.23456e-7])
def test_deviations_are_valid_json(worst: float) -> None:
    """JSON has no infinity and no NaN: those are strings, which `float` reads back."""
    row = Deviation("case", "codes", worst, 0.0, (1, 2))
    found = json.loads(json.dumps(row.to_dict(), allow_nan=False))
    assert float(found["worst"]) == pytest.approx(worst, rel=1e-3, nan_ok=True)
    assert found["first_bad"] == [1, 2]


@pytest.mark.parametrize("value", [1e-30, np.nan, -1.0])
def test_leaked_padding_is_flagged(values: npt.NDArray[np.float32], value: float) -> None:
    """A frame past the end that is not exactly zero fails."""
    found = values.copy()
    found[1, 15, 2] = value
    row = _values(found, values)
    assert not row.ok
    assert row.first_bad == (1, 15)
    assert "not zero" in row.problem
    assert row.worst == 0


def test_shapes_are_compared(values: npt.NDArray[np.float32], codes: npt.NDArray[np.int64]) -> None:
    """Arrays of another shape fail, and both shapes are reported."""
    for found in (values[:, :19], values[:1], values[..., :4], values[0]):
        row = _values(found, values)
        assert not row.ok
        assert row.worst == np.inf
        assert str(found.shape) in row.problem
        assert str(values.shape) in row.problem
    row, agreement = _codes(codes[:, :19], codes)
    assert not row.ok
    assert "(2, 19, 2), expected (2, 20, 2)" in row.problem
    assert agreement == CodeAgreement()
    lengths = np.array(LENGTHS)
    assert not compare_lengths("case", "frame_lengths", lengths[:1], lengths).ok


def test_equal_codes_pass(codes: npt.NDArray[np.int64]) -> None:
    """Equal codes pass; those of valid frames are counted, and which entries were seen."""
    row, agreement = _codes(codes.copy(), codes)
    assert row.ok
    assert (agreement.compared, agreement.ties, agreement.wrong) == (64, 0, 0)
    seen = [set(codes[0, :, g]) | set(codes[1, :12, g]) for g in range(2)]
    assert agreement.distinct == seen
    compare_codes("case", codes, codes, np.ones(codes.shape), LENGTHS, agreement)
    assert agreement.compared == 128


@pytest.mark.parametrize(("margin", "ties"), [(0.0, 1), (0.9e-4, 1), (1.1e-4, 0), (1.0, 0)])
def test_ties_are_counted(codes: npt.NDArray[np.int64], margin: float, ties: int) -> None:
    """Codes may differ at ties of the two best logits, which are counted."""
    found = codes.copy()
    found[1, 7, 1] += 1
    row, agreement = _codes(found, codes, margin)
    assert row.ok == bool(ties)
    assert (agreement.ties, agreement.wrong) == (ties, 1 - ties)
    assert row.first_bad == (None if ties else (1, 7))
    assert row.worst == 1 - ties


def test_a_tie_is_between_the_best_entry_and_the_one_found(codes: npt.NDArray[np.int64]) -> None:
    """Given all scores, an entry that is no runner-up is wrong, however close the two best are."""
    scores = np.zeros((*codes.shape, 50))
    np.put_along_axis(scores, codes[..., np.newaxis], 1.0, axis=3)
    runner_up = (codes + 1) % 50
    np.put_along_axis(scores, runner_up[..., np.newaxis], 0.99999, axis=3)
    margins = np.full(codes.shape, 1e-5)
    for other, ties in ((runner_up, 1), ((codes + 2) % 50, 0)):
        found, agreement = codes.copy(), CodeAgreement()
        found[1, 7, 1] = other[1, 7, 1]
        row = compare_codes("case", found, codes, margins, LENGTHS, agreement, None, scores)
        assert (row.ok, agreement.ties) == (bool(ties), ties)


def test_rounding_widens_the_tolerance_of_its_utterance(
    values: npt.NDArray[np.float32],
) -> None:
    """Four times float32's own error is allowed, at the largest and at the median frame."""
    rounding = np.array([[0.0, 0.0], [1e-2, 1e-3]])

    def compare(row: int, frames: int, deviation: float) -> Deviation:
        found = values.astype(np.float64)
        found[row, :frames, 2] += deviation
        return compare_values("case", "context", found, values, LENGTHS, 1.0, rounding)

    assert compare(1, 1, 3.9e-2).ok
    assert not compare(1, 1, 4.1e-2).ok
    assert not compare(0, 1, 3.9e-2).ok
    assert compare(1, 12, 3.9e-3).ok
    beyond = compare(1, 12, 4.1e-3)
    assert not beyond.ok
    assert beyond.worst > beyond.allowed == pytest.approx(4e-3)
    assert beyond.first_bad is not None
    assert beyond.first_bad[0] == 1


def test_codes_past_the_end(codes: npt.NDArray[np.int64]) -> None:
    """A code past the end is wrong even where the margin would call it a tie."""
    found = codes.copy()
    found[1, 13, 0] = 5
    row, _ = _codes(found, codes, 0.0)
    assert not row.ok
    assert row.first_bad == (1, 13)


def test_lengths_must_be_equal() -> None:
    """Another number of frames is an error that names the utterance."""
    lengths = np.array([20, 12, 0])
    assert compare_lengths("case", "frame_lengths", lengths, lengths).ok
    row = compare_lengths("case", "frame_lengths", np.array([20, 12, 1]), lengths)
    assert not row.ok
    assert row.first_bad == (2, 0)
    assert row.worst == 1
