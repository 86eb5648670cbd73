"""A fit: measured points, budgets met by whole intervals, and the choice by similarity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.latency import reports
from tests.latency.test_html import Structure
from w2v_edge import data
from w2v_edge.errors import InputError
from w2v_edge.latency.budget import Budget
from w2v_edge.latency.fit.choice import (
    FitPoint,
    check,
    choose,
    nearest,
    on_front,
    wanted,
    worst,
)
from w2v_edge.latency.fit.fit import doubts, fit
from w2v_edge.latency.fit.similarity import measure_similarity
from w2v_edge.latency.measure.inputs import Speech
from w2v_edge.latency.measure.plan import Matrix, open_bundles
from w2v_edge.latency.measure.schedule import MIN_ROUNDS
from w2v_edge.latency.report.fit_page import conclusion, fit_page, fit_table
from w2v_edge.latency.report.records import CaseResult, Estimate

PLANTED = "tests.latency.planted_trial:run_bench_trial"
P50 = Budget.parse("p50<10ms@1s")


def _result(low: float, value: float, high: float) -> CaseResult:
    made = reports.result()
    assert made.summary is not None
    return replace(made, summary=replace(made.summary, p50_ms=Estimate(value, low, high)))


def _point(low: float, value: float, high: float, **fields: object) -> FitPoint:
    checks = tuple(x for x in [check(P50, [_result(low, value, high)])] if x)
    point = FitPoint(
        *("a", "fp32", 12, "cpu", 1, (), 1.0, "a"),
        Estimate(value, low, high),
        checks,
        worst(checks),
    )
    return replace(point, **fields)  # type: ignore[arg-type]


FAST = _point(4, 5, 6, similarity=0.99)
FASTER = _point(2, 3, 4, similarity=0.99)
UNCLEAR = _point(9, 9.5, 10.5, similarity=1.0)
SLOW = _point(11, 12, 13, similarity=1.0)
CUT = _point(1, 1.5, 2, similarity=1.0, layers=6)


def test_a_budget_holds_only_with_its_whole_interval() -> None:
    """A limit within the interval is unclear, whatever side the figure is on; so for minima."""
    assert [x.verdict for x in (FAST, UNCLEAR, SLOW)] == ["met", "unclear", "missed"]
    speed = Budget.parse("speed>20x")
    result = reports.result()
    assert result.summary is not None
    for ends, verdict in (((19, 25, 30), "unclear"), ((21, 25, 30), "met")):
        low, value, high = ends
        found = replace(result.summary, speed=Estimate(value, low, high))
        checked = check(speed, [replace(result, summary=found)])
        assert checked is not None
        assert checked.verdict == verdict
        assert checked.excess == pytest.approx(20 / 25)
    assert check(Budget.parse("p50<1s@7s"), [result]) is None
    failed = check(P50, [CaseResult(reports.CASE, (), None, failure="lost")])
    assert failed is not None
    assert failed.verdict == "failed"


def test_the_choice_loses_the_least() -> None:
    """More layers come first, then similarity, then room; unclear points are not chosen."""
    assert choose([FAST, FASTER, UNCLEAR, SLOW, CUT]) == 1
    assert choose([SLOW, CUT]) == 1
    assert choose([UNCLEAR, SLOW]) is None
    assert nearest([SLOW, UNCLEAR]) == 1
    assert nearest([replace(SLOW, failure="lost")]) is None


def test_only_points_that_would_be_better_are_measured_on() -> None:
    """An unclear point that is no more similar than the choice needs no rounds."""
    assert wanted([FAST, UNCLEAR, SLOW]) == [1]
    assert wanted([UNCLEAR, replace(UNCLEAR, similarity=0.5), SLOW]) == [0, 1]
    assert wanted([FAST, replace(UNCLEAR, similarity=0.99), CUT]) == []


def test_the_front_has_points_that_none_beats() -> None:
    """A point that is slower and no more similar is not on it."""
    points = [FAST, FASTER, UNCLEAR, SLOW, CUT]
    assert [on_front(x, points) for x in points] == [False, True, True, False, True]


def test_doubts_are_said() -> None:
    """Of unclear points, other layers, and a reference that is not exact."""
    (named,) = open_bundles([data.TINY_INT8])
    said = " ".join(doubts([FAST, UNCLEAR, CUT], {"a": named}, reports.usual()))
    assert "a, 1 thread: unclear whether it meets the budgets" in said
    assert "bundles keep 6, 12 layers" in said
    assert "no fp32 bundle of 4 layers was given" in said
    assert "the machine was disturbed" in said


def test_a_fit_of_two_precisions(
    bundle: Callable[[str], Path],
    int8_bundle: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The length that a budget names is measured; a better point that is unclear gets rounds."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    times = {"tiny-fp32": 45.0, "tiny-int8": 2.0, "counts": str(tmp_path)}
    monkeypatch.setenv("PLANTED", json.dumps(times))
    found = fit(
        [bundle("tiny"), int8_bundle("tiny")],
        [Budget.parse(text) for text in ("p50<50ms@0.4s", "rss<150MB")],
        Matrix(graphs=("encoder",), seconds=(), threads=(1,)),
        time_s=3600.0,
        task=PLANTED,
    )
    assert {x.case.seconds for x in found.report.cases} == {0.4}
    exact, coarse = found.points
    assert (exact.bundle, exact.similarity, exact.verdict) == ("tiny-fp32", 1.0, "met")
    assert coarse.reference == "tiny-fp32"
    assert 0.9 < coarse.similarity < 1.0
    assert found.choice == 0
    assert "tiny-fp32, 1 thread meets all budgets" in conclusion(found)
    rounds = {x.case.bundle: len(x.trials) for x in found.report.cases}
    assert rounds["tiny-fp32"] > rounds["tiny-int8"] == MIN_ROUNDS
    text = fit_page(found)
    tags = {tag for tag, _ in Structure(text).tags}
    assert not tags & {"script", "img", "link", "iframe", "a"}
    assert "Latency by similarity" in text
    assert "budget: 50 ms" in text
    assert "(chosen)" in text
    nothing = replace(found, choice=None, nearest=1)
    assert "nearest is tiny-int8" in conclusion(nothing)
    assert "chosen" not in [row[-1].text for row in fit_table(nothing).rows]


def test_similarity_is_to_the_most_exact_bundle_of_the_same_layers(
    bundle: Callable[[str], Path],
    int8_bundle: Callable[[str], Path],
    tmp_path: Path,
    reseal: Callable[..., None],
) -> None:
    """A cut bundle is not compared with a whole one; codes are compared by their share."""
    cut = shutil.copytree(int8_bundle("tiny"), tmp_path / "cut")
    reseal(cut, selection={"layer": 2})
    named = open_bundles([bundle("tiny"), int8_bundle("tiny"), cut])
    speech = Speech.read([], named[0].bundle.manifest.sample_rate)
    short = replace(speech, samples=speech.samples[: 4 * speech.rate])
    found = measure_similarity(named, [()], "encoder", short, streaming=False)
    assert found["tiny-fp32", ()].value == 1.0
    assert found["tiny-int8", ()].reference == "tiny-fp32"
    assert (found["cut", ()].reference, found["cut", ()].value) == ("cut", 1.0)
    codes = measure_similarity(named[:2], [()], "tokenizer", short, streaming=False)
    assert 0.5 < codes["tiny-int8", ()].value <= 1.0
    windows = [(0.32, 4.0, 0.32), (0.32, 0.0, 0.0)]
    streams = measure_similarity(named[:1], windows, "encoder", short, streaming=True)
    wide, narrow = (streams["tiny-fp32", x].value for x in windows)
    assert 1.0 > wide > narrow


def test_other_requests_are_refused(bundle: Callable[[str], Path]) -> None:
    """Bundles of different checkpoints, and budgets on what is chosen."""
    matrix = Matrix(graphs=("encoder",), seconds=(), threads=(1,))
    with pytest.raises(InputError, match="expected bundles of one checkpoint"):
        fit([bundle("tiny"), data.TINY_INT8], [P50], matrix, time_s=0)
    with pytest.raises(InputError, match=r"expected a length such as 0\.5s"):
        fit([data.TINY_INT8], [Budget.parse("p50<1s@threads=1")], matrix, time_s=0)
    with pytest.raises(InputError, match=r"0\.0001 s of audio"):
        fit([data.TINY_INT8], [Budget.parse("p50<1s@0.0001s")], matrix, time_s=0)
