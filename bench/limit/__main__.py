"""Time of bundles over the least that their products need, by two limits.

    python -m bench.limit BUNDLE... [--seconds 1 10 30] [--threads 2] [-o FILE.json]

The first limit is the highest speed that onnxruntime reaches here on products of a good size, as in
`w2v-edge bench --limit`. The second one is what the instructions allow: loops of nothing but
multiply-adds in registers (`instructions.c`), the fastest kind for each type of numbers. Time
over the second limit is what any program could still gain; the first tells how much of it is in
onnxruntime's own kernels.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.limit.instructions import fastest, instruction_peaks
from bench.peers.hardware import describe
from w2v_edge.latency.benchmark import DEFAULT_SETTINGS, benchmark
from w2v_edge.latency.limit import least_time, peaks_of
from w2v_edge.latency.measure.plan import Matrix
from w2v_edge.latency.report.records import BenchmarkReport, CaseResult, Peaks
from w2v_edge.strict import to_plain


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.limit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--seconds", nargs="+", type=float, default=[1, 10, 30], metavar="S")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="file for the results")
    given = parser.parse_args()
    hardware = describe()
    before = instruction_peaks(given.threads)
    matrix = Matrix(graphs=("encoder",), seconds=tuple(given.seconds), threads=(given.threads,))
    report = benchmark(
        given.bundles, matrix, DEFAULT_SETTINGS, rounds=given.rounds, limit=True, show=_show
    )
    after = instruction_peaks(given.threads)
    peaks = {name: max(speed, after[name]) for name, speed in before.items()}
    rows = [x for result in report.cases if (x := _row(report, result, peaks))]
    result = {
        "hardware": hardware,
        "threads": given.threads,
        "instructions": peaks,
        "onnxruntime": [to_plain(x) for x in report.peaks],
        "rows": rows,
    }
    _print(result)
    if given.output:
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _row(
    report: BenchmarkReport, result: CaseResult, instructions: dict[str, float]
) -> dict[str, Any] | None:
    """Return the figures of a case; None if it failed or cannot be counted."""
    least, peaks = least_time(report, result), peaks_of(report, result)
    if least is None or peaks is None or result.summary is None:
        return None
    (_, floats), (_, bytes_) = fastest(instructions, "float32"), fastest(instructions, "int8")
    best = Peaks(peaks.threads, floats, bytes_, peaks.memory)
    ideal = least_time(replace(report, peaks=(best,)), result)
    assert ideal is not None
    p50 = result.summary.p50_ms.value
    return {
        "bundle": result.case.bundle,
        "seconds": result.case.seconds,
        "p50_ms": round(p50, 3),
        "unstable": bool(result.unstable),
        "least_ms": {"onnxruntime": round(least.ms, 3), "instructions": round(ideal.ms, 3)},
        "over_least": {
            "onnxruntime": round(p50 / least.ms, 3),
            "instructions": round(p50 / ideal.ms, 3),
        },
        "multiplications": {
            kind: sum(x.multiplications or 0 for x in result.operators if x.arithmetic == kind)
            for kind in sorted({x.arithmetic for x in result.operators if x.arithmetic})
        },
        "operators": [to_plain(x) for x in result.operators if x.time_ms],
    }


def _print(result: dict[str, Any]) -> None:
    for name, speed in result["instructions"].items():
        print(f"{name}: {speed / 1e9:.0f} billion multiply-adds a second")
    for peaks in result["onnxruntime"]:
        print(
            f"onnxruntime: float32 {peaks['float32'] / 1e9:.0f}, int8 {peaks['int8'] / 1e9:.0f}; "
            f"memory {peaks['memory'] / 1e9:.1f} GB/s"
        )
    for row in result["rows"]:
        over = row["over_least"]
        print(
            f"{row['bundle']} {row['seconds']:g} s: {row['p50_ms']:.1f} ms, "
            f"{over['onnxruntime']:.2f} x onnxruntime's limit, "
            f"{over['instructions']:.2f} x the instructions'"
        )


def _show(what: str, share: float) -> None:
    print(f"\r{100 * share:3.0f} % {what:40}", end="", flush=True)
    if share >= 1:
        print()


if __name__ == "__main__":
    main()
