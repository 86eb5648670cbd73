"""The least time of a case: its products at the highest speed that this device reached.

Everything else counts as free: norms, activations, rounding, and moving data. So no program that
multiplies the same matrices with the same instructions is faster, and time over the least time can
be compared between kinds of processors, where milliseconds and ratios to other programs cannot.
The model is the roofline of Williams et al., "Roofline: an insightful visual performance model for
multicore architectures", CACM 2009, with the weights as the only traffic.
"""

from __future__ import annotations

from dataclasses import dataclass

from w2v_edge.latency.report.records import BenchmarkReport, CaseResult, Operator, Peaks


@dataclass(frozen=True)
class Least:
    """The least time of a case.

    Attributes:
        products_ms: of the products, by the type of their numbers, in ms.
        weights_ms: to read all weights once from memory, in ms.
    """

    products_ms: dict[str, float]
    weights_ms: float

    @property
    def ms(self) -> float:
        """The larger one, as memory can be read while products are computed."""
        return max(sum(self.products_ms.values()), self.weights_ms)


def least_time(report: BenchmarkReport, result: CaseResult) -> Least | None:
    """Return the least time of a case; None if it has no profile, no peaks or unknown products."""
    peaks = peaks_of(report, result)
    times = [] if peaks is None else [least_ms(x, peaks) for x in result.operators]
    if peaks is None or not times or None in times:
        return None
    products: dict[str, float] = {}
    for operator, time in zip(result.operators, times, strict=True):
        if operator.arithmetic and time is not None:
            products[operator.arithmetic] = products.get(operator.arithmetic, 0.0) + time
    return Least(products, 1e9 * result.weights_mb / peaks.memory)


def peaks_of(report: BenchmarkReport, result: CaseResult) -> Peaks | None:
    """Return the peaks for the threads of a case on the CPU."""
    if result.case.provider != "cpu":
        return None
    return next((x for x in report.peaks if x.threads == result.case.threads), None)


def least_ms(operator: Operator, peaks: Peaks) -> float | None:
    """Return the least time of an operator type in ms: 0 without products, None if unknown."""
    if not operator.arithmetic:
        return 0.0
    speeds = {
        "float32": peaks.float32,
        "int8": peaks.int8,
        # A vector holds half as many.
        "float64": peaks.float32 / 2,
    }
    speed = speeds.get(operator.arithmetic)
    if speed is None or operator.multiplications is None:
        return None
    return 1e3 * operator.multiplications / speed
