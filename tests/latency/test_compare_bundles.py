"""Comparison of the bundles of one report, and the sentence that says how fast one is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.latency import reports
from w2v_edge.latency.compare_bundles import compare_bundles
from w2v_edge.latency.report.records import CaseResult
from w2v_edge.latency.report.wording import speedups

INT8 = replace(reports.CASE, bundle="tiny-int8")


def test_a_known_ratio_is_found() -> None:
    """Synthetic int8 trials take 0.55 times as long; the interval covers the inverse."""
    found = reports.report(reports.result(), reports.result(INT8))
    (pair,) = compare_bundles(found)
    assert (pair.base, pair.case.bundle) == ("tiny-fp32", "tiny-int8")
    assert pair.speed.value == pytest.approx(1 / 0.55)
    assert pair.speed.low < 1 / 0.55 < pair.speed.high
    (said,) = speedups(found)
    assert said.startswith("tiny-int8 is 1.82 times as fast as tiny-fp32 [1.")


def test_only_cases_that_differ_in_the_bundle_alone_are_compared() -> None:
    """Other threads, other lengths and failed cases have no partner; each pair is named."""
    longer, threads = replace(INT8, seconds=5.0), replace(INT8, threads=2)
    failed = CaseResult(INT8, (), None, failure="it failed")
    alone = reports.report(
        reports.result(), failed, reports.result(longer), reports.result(threads)
    )
    assert not list(compare_bundles(alone))
    assert speedups(alone) == ()
    both = reports.report(
        *(reports.result(replace(x, seconds=s)) for s in (1.0, 5.0) for x in (reports.CASE, INT8))
    )
    assert [x.split(": ")[0] for x in speedups(both)] == ["1 s", "5 s"]


def test_equal_bundles_have_no_clear_difference() -> None:
    """An interval that covers 1 is no statement that one bundle is faster."""
    other = replace(reports.CASE, bundle="tiny-copy")
    (said,) = speedups(reports.report(reports.result(), reports.result(other)))
    assert "no clear difference" in said


def test_one_bundle_is_not_compared() -> None:
    """Nor is an empty report."""
    assert speedups(reports.report(reports.result())) == ()
    assert speedups(reports.empty()) == ()
