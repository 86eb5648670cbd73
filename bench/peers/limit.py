"""The least time of each length, by the precision of a side's products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from w2v_edge.latency.benchmark import DEFAULT_SETTINGS, benchmark
from w2v_edge.latency.limit import least_time
from w2v_edge.latency.measure.plan import Matrix
from w2v_edge.strict import to_plain

TIME_S = 60.0


def measure_limit(
    bundles: Mapping[str, Path], seconds: Sequence[float], threads: int
) -> dict[str, Any]:
    """Count the products of our bundles, and measure the highest speeds of this device.

    Every side multiplies the same matrices. Sides in 8 bits are held to the products that our
    bundle has in 8 bits, with the others in float32.

    Args:
        bundles: by precision.
        seconds: lengths of audio.
        threads: of one operator.

    Returns:
        `peaks`, and `least_ms` by precision and length.
    """
    matrix = Matrix(graphs=("encoder",), seconds=tuple(seconds), threads=(threads,))
    settings = replace(DEFAULT_SETTINGS, time_s=TIME_S)
    report = benchmark(list(bundles.values()), matrix, settings, rounds=1, limit=True)
    precisions = dict(zip((x.name for x in report.bundles), bundles, strict=True))
    found: dict[str, dict[str, float]] = {precision: {} for precision in bundles}
    for result in report.cases:
        least = least_time(report, result)
        if least is not None:
            precision = precisions[result.case.bundle]
            found[precision][f"{result.case.seconds:g}"] = round(least.ms, 3)
    return {"peaks": [to_plain(x) for x in report.peaks], "least_ms": found}
