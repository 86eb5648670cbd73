"""OpenVINO's provider beside the CPU's: speed and parity, in processes that take turns.

    python -m bench.openvino_provider CPU_BUNDLE OPENVINO_BUNDLE --python .venv-openvino/bin/python

Both bundles are of one checkpoint, exported for each target. onnxruntime-openvino cannot share an
environment with onnxruntime: `--python` names one that has it. Each process times all lengths; a
ratio above 1 says that OpenVINO is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import w2v_edge
from bench.peers import hardware
from w2v_edge import data
from w2v_edge.runtime.golden import check_golden

SECONDS = (1, 3, 10, 30)
WARM_UP, ROUNDS = 2, 7
OUTPUTS = ("features", "context")


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", help="of the CPU, then of OpenVINO")
    parser.add_argument("--python", type=Path, help="of an environment with onnxruntime-openvino")
    parser.add_argument("--turns", type=int, default=4, help="processes of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--outputs", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(work(given.bundles[0], given.worker, given.threads, given.outputs)))
        return
    print(json.dumps(compare(given), indent=1))


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """Let processes of both providers take turns."""
    before = hardware.describe()
    sides = {
        "cpu": (sys.executable, given.bundles[0]),
        "openvino": (given.python, given.bundles[1]),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.turns):
            # Each begins every other turn.
            for name in sorted(sides, reverse=turn % 2 == 1):
                python, bundle = sides[name]
                outputs = Path(folder) / f"{name}.npz"
                runs[name].append(_start(python, bundle, name, given.threads, outputs))
        deviation = _deviation(Path(folder))
    medians = {name: _medians(results) for name, results in runs.items()}
    return {
        "hardware": before,
        "load_after": hardware.describe()["load_before"],
        "threads": given.threads,
        "metric": "seconds of encode, median over processes of medians",
        "versions": {name: results[0]["onnxruntime"] for name, results in runs.items()},
        "golden vectors hold": {name: results[0]["golden"] for name, results in runs.items()},
        "largest deviation, in standard deviations": deviation,
        "seconds": medians,
        "opening": {x: statistics.median(r["opening"] for r in y) for x, y in runs.items()},
        "ratio": {s: round(medians["cpu"][s] / medians["openvino"][s], 3) for s in medians["cpu"]},
    }


def work(bundle: Path, provider: str, threads: int, outputs: Path) -> dict[str, Any]:
    """Time one provider in this process."""
    import onnxruntime

    begin = time.perf_counter()
    model = w2v_edge.load(bundle, provider=provider, threads=threads)
    speech = np.concatenate(list(data.clips(model.sample_rate).values()))
    model.encode(speech[: model.sample_rate])
    opening = time.perf_counter() - begin
    times: dict[str, float] = {}
    made: dict[str, Any] = {}
    for seconds in SECONDS:
        clip = np.resize(speech, seconds * model.sample_rate)
        raw = []
        for _ in range(WARM_UP + ROUNDS):
            begin = time.perf_counter()
            encoding = model.encode(clip)
            raw.append(time.perf_counter() - begin)
        times[str(seconds)] = statistics.median(raw[WARM_UP:])
        made |= {f"{name}_{seconds}": getattr(encoding, name) for name in OUTPUTS}
    np.savez(outputs, **made)
    rows, _ = check_golden(model)
    version = onnxruntime.__version__
    golden = all(row.ok for row in rows)
    return {"onnxruntime": version, "opening": opening, "seconds": times, "golden": golden}


def _start(
    python: str | Path, bundle: Path, name: str, threads: int, outputs: Path
) -> dict[str, Any]:
    command = [python, "-m", "bench.openvino_provider", bundle, "--worker", name]
    command += ["--threads", str(threads), "--outputs", outputs]
    paths = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=paths)  # noqa: S603 - our own file
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _medians(results: list[dict[str, Any]]) -> dict[str, float]:
    return {
        seconds: round(statistics.median(x["seconds"][seconds] for x in results), 4)
        for seconds in results[0]["seconds"]
    }


def _deviation(folder: Path) -> dict[str, float]:
    with np.load(folder / "cpu.npz") as one, np.load(folder / "openvino.npz") as other:
        return {
            name: float(np.abs(one[name] - other[name]).max() / one[name].std())
            for name in one.files
        }


if __name__ == "__main__":
    main()
