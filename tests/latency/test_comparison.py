"""Comparison of two reports: matching cases, refusals and regressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.latency.reports import KINDS
from w2v_edge.errors import InputError
from w2v_edge.latency.compare_reports import METRICS, compare
from w2v_edge.latency.report.machine_records import Conditions
from w2v_edge.latency.report.records import (
    BenchmarkReport,
    CaseResult,
    Trial,
)


def _changed(report: BenchmarkReport, change: Callable[[Trial], Trial]) -> BenchmarkReport:
    return replace(
        report,
        cases=tuple(replace(x, trials=tuple(map(change, x.trials))) for x in report.cases),
    )


def _slower(trial: Trial, factor: float) -> Trial:
    return replace(trial, latencies_ms=tuple(x * factor for x in trial.latencies_ms))


@pytest.fixture
def usual() -> BenchmarkReport:
    """A report of several bundles and lengths, one case of which failed."""
    return KINDS["usual"]()


def test_a_report_is_the_same_as_itself(usual: BenchmarkReport) -> None:
    """No case is slower or faster than itself, by any metric."""
    good = replace(usual, cases=tuple(x for x in usual.cases if not x.failure))
    found = compare(good, good, metrics=tuple(METRICS))
    assert {pair.verdict for pair in found.pairs} <= {"same", "unclear"}
    assert all(pair.ratio.value == pytest.approx(1) for pair in found.pairs if not pair.failure)
    assert not found.regressions


def test_raw_samples_decide_and_not_the_summary(usual: BenchmarkReport) -> None:
    """Regressions are computed from samples, not from the summary."""
    slow = _changed(usual, lambda trial: _slower(trial, 2))
    found = compare(usual, slow)
    judged = [pair for pair in found.pairs if not pair.failure]
    assert judged
    assert {pair.verdict for pair in judged} == {"slower"}
    assert all(pair.ratio.value == pytest.approx(2) for pair in judged)
    assert {pair.verdict for pair in compare(slow, usual).pairs if not pair.failure} == {"faster"}


def test_a_threshold_is_what_may_be_lost(usual: BenchmarkReport) -> None:
    """With a threshold of 25 %, 20 % slower is no regression."""
    slow = _changed(usual, lambda trial: _slower(trial, 1.2))
    assert not compare(usual, slow, threshold=0.25).regressions


def test_another_device_is_refused(usual: BenchmarkReport) -> None:
    """Reports of different devices are refused, unless --across-devices is given."""
    other = replace(
        usual, device=replace(usual.device, cpu=replace(usual.device.cpu, model="Other"))
    )
    with pytest.raises(InputError, match=r"different devices: .*--across-devices"):
        compare(usual, other)
    assert "different devices" in compare(usual, other, across_devices=True).differences[0]


def test_another_bundle_is_refused_and_compared_by_name_if_forced(usual: BenchmarkReport) -> None:
    """Bundles are known by their hashes."""
    other = replace(
        usual, bundles=tuple(replace(x, sha256=f"{i}" * 64) for i, x in enumerate(usual.bundles))
    )
    with pytest.raises(InputError, match=r"different bundles: .*--across-devices"):
        compare(usual, other)
    assert len(compare(usual, other, across_devices=True).pairs) == len(compare(usual, usual).pairs)


def test_a_renamed_folder_is_the_same_bundle(usual: BenchmarkReport) -> None:
    """Its hash counts, not its name."""
    first = usual.bundles[0]
    renamed = replace(
        usual,
        bundles=(replace(first, name="elsewhere"), *usual.bundles[1:]),
        cases=tuple(
            replace(x, case=replace(x.case, bundle="elsewhere"))
            if x.case.bundle == first.name
            else x
            for x in usual.cases
        ),
    )
    assert len(compare(usual, renamed).pairs) == len(compare(usual, usual).pairs)


def test_reports_without_a_common_case_are_refused(usual: BenchmarkReport) -> None:
    """There is nothing to compare."""
    longer = replace(
        usual,
        cases=tuple(replace(x, case=replace(x.case, seconds=999.0)) for x in usual.cases),
    )
    with pytest.raises(InputError, match="share no case"):
        compare(usual, longer)


def test_unmatched_cases_are_listed(usual: BenchmarkReport) -> None:
    """Cases that one report lacks are listed."""
    fewer = replace(usual, cases=usual.cases[1:])
    assert compare(usual, fewer).only_before == (usual.cases[0].case,)
    assert compare(fewer, usual).only_after == (usual.cases[0].case,)


def test_a_case_that_fails_now_is_a_regression(usual: BenchmarkReport) -> None:
    """No figures are worse than slow ones."""
    good = next(i for i, x in enumerate(usual.cases) if x.summary)
    failing = list(usual.cases)
    failing[good] = replace(failing[good], summary=None, trials=(), failure="out of memory")
    found = compare(usual, replace(usual, cases=tuple(failing)))
    assert [pair.verdict for pair in found.regressions] == ["failed"]


def test_many_comparisons_are_no_more_alarming_than_one(usual: BenchmarkReport) -> None:
    """The verdict corrects for multiple comparisons; a clear change stays one."""
    good = next(x for x in usual.cases if x.summary)
    random = np.random.default_rng(3)

    def noisy(seed: int, slow: float) -> tuple[CaseResult, CaseResult]:
        case = replace(good.case, seconds=100.0 + seed)
        sides = []
        for factor in (1.0, slow):
            levels = factor * np.exp(0.025 * random.permutation(np.linspace(-1.2, 1.2, 6)))
            made = [replace(good.trials[0], latencies_ms=(10.0 * x,)) for x in levels]
            sides.append(replace(good, case=case, trials=tuple(made), unstable=()))
        return sides[0], sides[1]

    def compared(pairs: list[tuple[CaseResult, CaseResult]]) -> list[str]:
        calm = replace(usual, conditions=Conditions((), ()))
        a, b = (replace(calm, cases=tuple(x)) for x in zip(*pairs, strict=True))
        return [pair.verdict for pair in compare(a, b).pairs]

    doubtful, clear = noisy(0, 1.1), noisy(1, 1.5)
    assert compared([doubtful]) == ["slower"]
    others = [noisy(i, 1.0) for i in range(2, 40)]
    verdicts = compared([doubtful, clear, *others])
    assert verdicts[:2] == ["unclear", "slower"]
    assert not {"slower", "faster"} & set(verdicts[2:])


def test_late_blocks_are_compared_where_there_is_a_stream(usual: BenchmarkReport) -> None:
    """More missed blocks of a stream are a regression."""
    late = _changed(usual, lambda t: replace(t, late=len(t.latencies_ms), behind_ms=900.0))
    found = compare(usual, late, metrics=("missed", "behind"))
    verdicts = {(x.case.scenario == "streaming", x.verdict) for x in found.pairs if not x.failure}
    assert verdicts == {(True, "slower")}


def test_another_length_is_noted(usual: BenchmarkReport) -> None:
    """Another length of the steady state is noted."""
    longer = replace(usual, settings=replace(usual.settings, steady_s=7.5))
    assert any("7.5" in x for x in compare(usual, longer).differences)


def test_another_onnxruntime_is_noted(usual: BenchmarkReport) -> None:
    """Another onnxruntime version is compared and noted."""
    newer = replace(usual, device=replace(usual.device, onnxruntime="99.0"))
    assert any("99.0" in x for x in compare(usual, newer).differences)
