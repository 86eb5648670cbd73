"""Comparison of the bundles of one report, case by case: how many times as fast one is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from w2v_edge.latency.compare_reports import compare_cases
from w2v_edge.latency.report.records import BenchmarkCase, BenchmarkReport, Estimate


@dataclass(frozen=True)
class BundleComparison:
    """Speed of a bundle in one case, over the first bundle's in the same case.

    Attributes:
        case: the case, with the bundle that is compared.
        base: name of the first bundle.
        speed: ratio of the medians: 2 is twice as fast.
        unstable: whether disturbed trials had to be included.
    """

    case: BenchmarkCase
    base: str
    speed: Estimate
    unstable: bool = False


def compare_bundles(report: BenchmarkReport) -> Iterator[BundleComparison]:
    """Compare each further bundle with the first one, in the cases that differ in nothing else."""
    if not report.bundles:
        return
    base = report.bundles[0].name
    results = [result for result in report.cases if result.trials and not result.failure]
    baselines = {repr(x.case): x for x in results if x.case.bundle == base}
    for result in results:
        before = baselines.get(repr(replace(result.case, bundle=base)))
        if before is None or result.case.bundle == base:
            continue
        found = compare_cases(before, result, report.conditions)
        if not found.failure:
            time = found.ratio
            speed = Estimate(1 / time.value, 1 / time.high, 1 / max(time.low, 1e-9))
            yield BundleComparison(result.case, base, speed, found.unstable)
