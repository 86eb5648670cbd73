"""Speed and parity of the OpenVINO provider against the CPU provider, in alternating runs.

    python -m bench.openvino_provider CPU_BUNDLE OPENVINO_BUNDLE --python .venv-openvino/bin/python

Both bundles are exports of one checkpoint. onnxruntime-openvino cannot share an environment with
onnxruntime: `--python` names one that has it. `w2v-edge bench` runs alternately in both, a few
rounds at a time; the rounds of each side are merged into `latency-openvino-SIDE.json`, for
`w2v-edge compare`. The outputs of both bundles are compared in `openvino-parity.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import w2v_edge
from w2v_edge import data
from w2v_edge.bundle.golden import check_golden
from w2v_edge.latency.compare_reports import compare
from w2v_edge.latency.report.files import read_report, to_json, write
from w2v_edge.latency.report.machine_records import Conditions
from w2v_edge.latency.report.records import BenchmarkReport, CaseResult
from w2v_edge.latency.statistics import summarise

SECONDS = (1, 3, 10, 30)
ROUNDS = 3
OUTPUTS = ("features", "context")
FOLDER = Path(__file__).parent / "results"
BENCH = "from w2v_edge.cli import main; main()"


def main() -> None:
    """Measure, print the comparison, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.openvino_provider",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", type=Path, nargs="+", help="bundles of the CPU and of OpenVINO")
    parser.add_argument(
        "--python", type=Path, help="Python of an environment with onnxruntime-openvino"
    )
    parser.add_argument("--turns", type=int, default=3, help="runs per side")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="folder for the results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(outputs(given.bundles[0], given.worker, given.output), allow_nan=False))
        return
    sides = {
        "cpu": (sys.executable, given.bundles[0]),
        "openvino": (given.python, given.bundles[1]),
    }
    with tempfile.TemporaryDirectory() as folder:
        parity = _parity(sides, Path(folder))
        reports = _take_turns(sides, given.turns, Path(folder))
    for side, report in reports.items():
        write(given.output / f"latency-openvino-{side}.json", to_json(report))
    write(
        given.output / "openvino-parity.json", json.dumps(parity, indent=1, allow_nan=False) + "\n"
    )
    print(json.dumps(parity, indent=1, allow_nan=False))
    same = replace(reports["openvino"], cases=tuple(map(_nameless, reports["openvino"].cases)))
    other = replace(reports["cpu"], cases=tuple(map(_nameless, reports["cpu"].cases)))
    for pair in compare(same, other, across_devices=True).pairs:
        ratio = pair.ratio
        print(f"{pair.case.seconds:g} s: {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]")


def _nameless(result: CaseResult) -> CaseResult:
    """Return the report without provider names, so that cases of two providers match."""
    return replace(result, case=replace(result.case, provider="", bundle=""))


def outputs(bundle: Path, provider: str, path: Path) -> dict[str, Any]:
    """Write what a provider computes to `path`, and return what runs it, golden vectors or not."""
    import onnxruntime

    model = w2v_edge.load(bundle, provider=provider)
    speech = np.concatenate(list(data.clips(model.sample_rate).values()))
    made: dict[str, Any] = {}
    for seconds in SECONDS:
        encoding = model.encode(np.resize(speech, seconds * model.sample_rate))
        made |= {f"{name}_{seconds}": getattr(encoding, name) for name in OUTPUTS}
    np.savez(path, **made)
    rows, _ = check_golden(model)
    return {"onnxruntime": onnxruntime.__version__, "golden": all(row.ok for row in rows)}


def _parity(sides: dict[str, tuple[Any, Path]], folder: Path) -> dict[str, Any]:
    found = {}
    for side, (python, bundle) in sides.items():
        module = ["-m", "bench.openvino_provider", bundle, "--worker", side]
        done = _run(python, *module, "-o", folder / f"{side}.npz", stdout=subprocess.PIPE)
        found[side] = json.loads(done.stdout)
    with np.load(folder / "cpu.npz") as one, np.load(folder / "openvino.npz") as other:
        deviation = {
            name: float(np.abs(one[name] - other[name]).max() / one[name].std())
            for name in one.files
        }
    return {
        "onnxruntime": {side: x["onnxruntime"] for side, x in found.items()},
        "golden vectors hold": {side: x["golden"] for side, x in found.items()},
        "largest deviation, in standard deviations": deviation,
    }


def _take_turns(
    sides: dict[str, tuple[Any, Path]], turns: int, folder: Path
) -> dict[str, BenchmarkReport]:
    """Return one report per side, merged from alternating runs."""
    begun = time.perf_counter()
    parts: dict[str, list[tuple[float, BenchmarkReport]]] = {side: [] for side in sides}
    for turn in range(turns):
        # The first side alternates.
        for side in sorted(sides, reverse=turn % 2 == 1):
            python, bundle = sides[side]
            path = folder / f"{side}-{turn}.json"
            at = time.perf_counter() - begun
            lengths = ",".join(map(str, SECONDS))
            asked = ["--provider", side, "--graph", "encoder", "--seconds", lengths]
            _run(python, "-c", BENCH, "bench", bundle, *asked, "--rounds", ROUNDS, "--report", path)
            parts[side].append((at, read_report(path)))
            print(f"turn {turn + 1} of {turns}: {side} done", file=sys.stderr, flush=True)
    return {side: merge(of_side) for side, of_side in parts.items()}


def merge(parts: list[tuple[float, BenchmarkReport]]) -> BenchmarkReport:
    """Merge reports of the same cases, given the time at which each began."""
    first = parts[0][1]
    cases = tuple(_merged([(at, x.cases[i]) for at, x in parts]) for i in range(len(first.cases)))
    conditions = Conditions(
        tuple(replace(s, at_s=s.at_s + at) for at, x in parts for s in x.conditions.samples),
        tuple(
            replace(d, begin_s=d.begin_s + at, end_s=d.end_s + at)
            for at, x in parts
            for d in x.conditions.disturbances
        ),
    )
    rounds = replace(first.settings, rounds=len(cases[0].trials))
    # The parts name temporary files.
    command = "python -m bench.openvino_provider"
    return replace(first, command=command, cases=cases, conditions=conditions, settings=rounds)


def _merged(parts: list[tuple[float, CaseResult]]) -> CaseResult:
    first = parts[0][1]
    trials = tuple(
        replace(trial, begin_s=trial.begin_s + at, end_s=trial.end_s + at)
        for at, result in parts
        for trial in result.trials
    )
    unstable = tuple(dict.fromkeys(why for _, result in parts for why in result.unstable))
    summary = summarise(first.case, trials)
    return replace(first, trials=trials, summary=summary, unstable=unstable)


def _run(
    python: str | Path, *arguments: object, stdout: int | None = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    paths = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(  # noqa: S603 - our own file
        [str(python), *map(str, arguments)], check=True, stdout=stdout, text=True, env=paths
    )


if __name__ == "__main__":
    main()
