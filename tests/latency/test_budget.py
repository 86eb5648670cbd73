"""Budgets: syntax, the cases they apply to, and verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.latency.reports import CASE, INSTALL, summary, trials
from w2v_edge.errors import InputError
from w2v_edge.latency.budget import METRICS, Budget, check_used
from w2v_edge.latency.report.records import CaseResult, Estimate

MADE = tuple(trials(CASE, 4, 50))
RESULT = CaseResult(CASE, MADE, summary(CASE, list(MADE)))


def test_units_are_understood() -> None:
    """A limit is the same in any unit that the figure can have."""
    cases: list[tuple[str, str, str, float]] = [
        ("p99<50ms@1s", "p99", "<", 50),
        ("p99<0.05s", "p99", "<", 50),
        ("first <= 800us", "first", "<=", 0.8),
        ("rss<200MB", "rss", "<", 200),
        ("rss<0.2GB", "rss", "<", 200),
        ("speed>20x", "speed", ">", 20),
        ("rtf<.05", "rtf", "<", 0.05),
        ("missed<=0%", "missed", "<=", 0),
        ("missed<1%@streaming", "missed", "<", 0.01),
    ]
    for text, metric, sign, limit in cases:
        found = Budget.parse(text)
        assert (found.metric, found.sign) == (metric, sign)
        assert found.limit == pytest.approx(limit)


def test_sizes_on_a_device_have_budgets() -> None:
    """Bytes read and a minimal installation are metrics; unknown figures miss them."""
    found = replace(RESULT, install=INSTALL)
    assert Budget.parse("install<=92MB").check(found).met
    assert not Budget.parse("install<91MB").check(found).met
    assert Budget.parse("read<8MB").check(found).met
    assert not Budget.parse("install<1GB").check(RESULT).met


def test_a_limit_within_the_interval_is_unsure() -> None:
    """The figure decides; a limit within its interval is marked as unsure."""
    assert RESULT.summary is not None
    p50 = RESULT.summary.p50_ms
    inside, beyond = (p50.value + p50.high) / 2, p50.high + 1
    for limit, sure in ((inside, False), (beyond, True)):
        check = Budget.parse(f"p50<{limit:.6f}ms").check(RESULT)
        assert (check.met, check.sure) == (True, sure)
    assert not Budget.parse(f"p50<{p50.low / 2:.6f}ms").check(RESULT).met


def test_invalid_budgets_are_refused() -> None:
    """An invalid budget is one line with what was found and expected."""
    cases: list[tuple[str, str]] = [
        ("", "expected METRIC<LIMIT"),
        ("p99", "expected METRIC<LIMIT"),
        ("p99=50ms", "expected METRIC<LIMIT"),
        ("p98<50ms", "choose one of: p50"),
        ("p99<50", "expected p99 in us or ms or s"),
        ("p99<50MB", "expected p99 in us or ms or s"),
        ("rss<200ms", "expected rss in kb or mb or gb"),
        ("p99<-1ms", "expected METRIC<LIMIT"),
        ("p99<nanms", "expected METRIC<LIMIT"),
    ]
    for text, word in cases:
        with pytest.raises(InputError, match=word.replace("<", "<")) as refused:
            Budget.parse(text)
        assert "\n" not in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_a_budget_or_one_line(text: str) -> None:
    """Any text is a budget or an error of one line."""
    try:
        assert Budget.parse(text).metric in METRICS
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_a_budget_is_for_the_cases_it_names() -> None:
    """A budget applies to cases by length, graph, bundle, scenario or field; words combine."""
    cases: list[str] = [
        "1s",
        "1.0s",
        "encoder",
        "tiny-fp32",
        "single",
        "threads=1",
        "batch=1",
        "1s@encoder",
        "1s,single",
    ]
    for word in cases:
        assert Budget.parse(f"p50<1s@{word}").applies_to(CASE)
        other = replace(
            CASE, seconds=2.0, graph="tokenizer", bundle="b", scenario="multi", threads=2, batch=3
        )
        assert not Budget.parse(f"p50<1s@{word}").applies_to(other)


def test_a_budget_for_no_case_is_an_error() -> None:
    """A budget that applies to no case is an error."""
    with pytest.raises(InputError, match=r"@30s"):
        check_used([Budget.parse("p50<1s@30s")], [CASE])


def test_a_limit_around_the_figure_decides() -> None:
    """A limit above the figure is met, below it is missed; a missing figure is a miss."""
    for metric in METRICS:
        figure = METRICS[metric][1](RESULT, RESULT.summary) if RESULT.summary else None
        value = figure.value if isinstance(figure, Estimate) else figure
        budget = Budget("", metric, sign="<", limit=(value or 1) * 1.001, where=())
        assert budget.check(RESULT).met is (value is not None)
        assert not replace(budget, limit=(value or 1) * 0.999).check(RESULT).met
        assert replace(budget, limit=(value or 1) * 0.999, sign=">").check(RESULT).met is (
            value is not None
        )
        assert not budget.check(replace(RESULT, summary=None, failure="it failed")).met
