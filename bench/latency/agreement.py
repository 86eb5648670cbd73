"""Repeatability of the benchmark, and detection of a 10 % slow-down by `compare`.

    python -m bench.latency.agreement BUNDLE [--trials 20] [--time 20]

Alternates plain runs with runs in which each graph takes 10 % longer. Neighbouring plain runs
should have overlapping intervals and no regression; slowed runs should be a regression.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge import strict
from w2v_edge.latency.benchmark import DEFAULT_SETTINGS, benchmark
from w2v_edge.latency.compare_reports import compare
from w2v_edge.latency.measure.plan import Matrix
from w2v_edge.latency.measure.trial import TRIAL
from w2v_edge.latency.report.records import BenchmarkReport

SLOWED = "bench.latency.slowed:run_slowed_trial"
FOLDER = Path(__file__).parent.parent / "results"


def main() -> None:
    """Run all trials, print each, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--time", type=float, default=20)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0])
    parser.add_argument("--keep", type=Path, help="folder to keep all reports in")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "harness-agreement.json")
    given = parser.parse_args()
    # The processes of slowed trials import this folder's neighbours.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    runs = [_run(given, False, 0)]
    trials = []
    for number in range(1, given.trials + 1):
        slowed = _run(given, True, number)
        trials.append(_judge("slowed", runs[-1], slowed))
        runs.append(_run(given, False, number))
        trials.append(_judge("plain", runs[-2], runs[-1]))
        print(_words(number, trials[-2:]), flush=True)
    result = summarise(trials)
    print(json.dumps(result, indent=1, allow_nan=False))
    device = strict.to_plain(runs[0].device)
    given.output.write_text(
        json.dumps({"device": device, **result, "trials": trials}, indent=1, allow_nan=False)
    )


def _run(given: argparse.Namespace, slowed: bool, number: int) -> BenchmarkReport:
    matrix = Matrix(seconds=tuple(given.seconds))
    settings = replace(DEFAULT_SETTINGS, time_s=given.time, precision=0.0)
    begun = time.time()
    task = SLOWED if slowed else TRIAL
    report = benchmark([given.bundle], matrix, settings, task=task)
    if given.keep:
        given.keep.mkdir(exist_ok=True)
        name = f"{number:02d}-{'slowed' if slowed else 'plain'}.json"
        data = strict.to_plain(report) | {"begun": begun}
        (given.keep / name).write_text(json.dumps(data, allow_nan=False))
    return report


def _judge(kind: str, before: BenchmarkReport, after: BenchmarkReport) -> dict[str, Any]:
    found = compare(before, after)
    cases = []
    for old, new, pair in zip(before.cases, after.cases, found.pairs, strict=True):
        if old.summary is None or new.summary is None:
            raise SystemExit(f"a case failed: {old.failure or new.failure}")
        a, b = old.summary.p50_ms, new.summary.p50_ms
        cases.append(
            {
                "graph": pair.case.graph,
                "seconds": pair.case.seconds,
                "before": [a.low, a.value, a.high],
                "after": [b.low, b.value, b.high],
                "overlap": a.low <= b.high and b.low <= a.high,
                "ratio": [pair.ratio.low, pair.ratio.value, pair.ratio.high],
                "p": pair.p,
                "verdict": pair.verdict,
                "unstable": pair.unstable,
            }
        )
    return {"kind": kind, "flagged": bool(found.regressions), "cases": cases}


def summarise(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the trials with the expected outcome."""
    plain = [x for x in trials if x["kind"] == "plain"]
    slowed = [x for x in trials if x["kind"] == "slowed"]
    of_cases = [case for trial in plain for case in trial["cases"]]
    widths = [(c["after"][2] - c["after"][0]) / 2 / c["after"][1] for c in of_cases]
    return {
        "trials": len(plain),
        "overlapping_cases": f"{sum(c['overlap'] for c in of_cases)} of {len(of_cases)}",
        "plain_flagged": f"{sum(x['flagged'] for x in plain)} of {len(plain)}",
        "slowed_flagged": f"{sum(x['flagged'] for x in slowed)} of {len(slowed)}",
        "slowed_cases_flagged": sum(c["verdict"] == "slower" for x in slowed for c in x["cases"]),
        "half_width_median": round(float(np.median(widths)), 4),
    }


def _words(number: int, pair: list[dict[str, Any]]) -> str:
    words = [f"{number:2d}"]
    for trial in pair:
        ratios = " ".join(
            f"{c['ratio'][1]:.3f}{'' if c['overlap'] else '!'}" for c in trial["cases"]
        )
        words.append(f"{trial['kind']} {ratios} {'FLAGGED' if trial['flagged'] else ''}")
    return "  ".join(words)


if __name__ == "__main__":
    main()
