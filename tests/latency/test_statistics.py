"""Percentiles and intervals on samples of known distributions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.latency.compare_reports import Verdict, verdict_of
from w2v_edge.latency.statistics import (
    MAX_RATIO,
    NORMAL,
    difference,
    estimate,
    percentile,
    permutation_p,
    student,
    student_p,
)

Trials = list[npt.NDArray[np.float64]]


def _run(random: np.random.Generator, trials: int, *, carried: float = 0.0) -> Trials:
    """Trials around 10 ms: 2 % from process to process, 3 % within, neighbours alike."""
    level, made = float(random.standard_normal()), []
    for _ in range(trials):
        made.append(10 * np.exp(0.02 * level + 0.03 * random.standard_normal(40)))
        fresh = math.sqrt(1 - carried**2) * float(random.standard_normal())
        level = carried * level + fresh
    return made


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float) -> None:
    """A percentile is the value of nearest rank."""
    array = np.array(values)
    found = float(percentile(share)(array))
    assert found in array
    assert np.mean(array <= found) >= share - 1e-9
    assert np.mean(array < found) < share


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 5))
def test_an_interval_holds_its_figure(trials: int, queries: int, seed: int) -> None:
    """Low, value and high are in order and positive, however few trials and queries there are."""
    random = np.random.default_rng(seed)
    made = [np.exp(random.standard_normal(queries)) for _ in range(trials)]
    for share in (0.5, 0.99, 1.0):
        found = estimate(made, percentile(share))
        assert 0 < found.low <= found.value <= found.high


@pytest.mark.parametrize(("trials", "carried"), [(5, 0.0), (5, 0.5), (10, 0.5), (20, 0.5)])
def test_the_truth_is_in_19_of_20_intervals(trials: int, carried: float) -> None:
    """For few trials and for neighbours that resemble each other as far as is allowed for."""
    random = np.random.default_rng(trials)
    inside = 0
    for _ in range(200):
        found = estimate(_run(random, trials, carried=carried), percentile(0.5))
        inside += found.low <= 10 <= found.high
    # 190 is the promise; what is below 181 comes by chance less than once in a hundred times.
    assert inside >= 181


def test_intervals_are_finite() -> None:
    """Trials that differ by 24 orders of magnitude have a bounded interval, and no overflow."""
    found = estimate([np.array([1e-12, 1e-12]), np.array([1e12, 1e12])], percentile(0.5))
    assert math.isfinite(found.high)
    ratio, _ = difference(np.array([-27.6, 27.6]), np.array([0.0]))
    assert ratio.high <= MAX_RATIO * ratio.value * 1.001


def test_intervals_that_ignore_processes_would_not_hold() -> None:
    """Queries of one process are not independent: the interval must be wider than theirs."""
    random = np.random.default_rng(0)
    made = [10 * np.exp(0.05 * random.standard_normal() + np.zeros(500)) for _ in range(6)]
    found = estimate(made, percentile(0.5))
    assert (found.high - found.low) / found.value > 0.04


def test_student_is_that_of_tables() -> None:
    """The 95 % points of Student's t, as printed in tables."""
    for freedom, point in {
        1: 12.706,
        5: 2.571,
        11: 2.201,
        20: 2.086,
        60: 2.000,
        200: 1.972,
    }.items():
        assert student(freedom) == pytest.approx(point, abs=2e-3)
    assert student(10**6) == pytest.approx(NORMAL, abs=1e-4)


def test_a_permutation_test_counts_arrangements() -> None:
    """P is the share of arrangements at least as far apart, counted one by one."""
    before, after = np.array([1.0, 2.0, 3.0, 4.5]), np.array([3.5, 5.0, 6.0])
    values = np.concatenate([before, after])
    found = abs(before.mean() - after.mean())
    apart = [
        abs(values[list(x)].mean() - np.delete(values, list(x)).mean()) >= found - 1e-12
        for x in itertools.combinations(range(7), 4)
    ]
    assert permutation_p(before, after) == pytest.approx(np.mean(apart))


def _verdict(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Verdict:
    ratio, p = difference(a, b)
    return verdict_of(ratio.value, p, 0.05)


def test_students_t_is_beyond_its_point_once_in_twenty() -> None:
    """The distribution is the inverse of the points, and of 0 everything is as far."""
    for freedom in [1, 2, 3, 8, 9, 40]:
        assert student_p(student(freedom), freedom) == pytest.approx(0.05, abs=1e-4)
        assert student_p(-student(freedom), freedom) == pytest.approx(0.05, abs=1e-4)
        assert student_p(0.0, freedom) == pytest.approx(1)


@pytest.mark.parametrize("size", [5, 12])
def test_what_did_not_change_is_seldom_called_slower(size: int) -> None:
    """Of identical runs on a machine that drifts, less than one in twenty is flagged."""
    random = np.random.default_rng(1)
    flagged = 0
    for _ in range(200):
        a, b = (
            np.array([np.log(np.median(x)) for x in _run(random, size, carried=0.5)])
            for _ in range(2)
        )
        flagged += _verdict(a, b) == "slower"
    assert flagged <= 10


def test_ten_percent_are_found() -> None:
    """Of runs that are 10 % slower, 19 of 20 are flagged, with ten processes each."""
    random = np.random.default_rng(2)
    flagged = 0
    for _ in range(100):
        a, b = (
            np.array([np.log(np.median(x)) for x in _run(random, 10, carried=0.3)])
            for _ in range(2)
        )
        b = b + math.log(1.1)
        flagged += _verdict(a, b) == "slower"
    assert flagged >= 95


def test_a_small_change_is_no_regression_however_sure() -> None:
    """A change below the threshold is never flagged; a gain beyond it is."""
    spread = np.linspace(-1e-4, 1e-4, 8)
    for factor, verdict in ((1.04, "same"), (1.06, "slower"), (1 / 1.06, "faster")):
        shifted = spread + math.log(factor)
        assert _verdict(spread, shifted) == verdict
