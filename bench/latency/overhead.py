"""Overhead of the benchmark per run.

    python -m bench.latency.overhead BUNDLE [--seconds 3]

Times the tokenizer in one process, alternately in the benchmark's loop and in a bare loop around
onnxruntime's session, and the CPU time of the thread that watches the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import w2v_edge
from w2v_edge import strict
from w2v_edge.latency.device.fingerprint import describe_device
from w2v_edge.latency.device.watch import Watch
from w2v_edge.latency.measure.inputs import Speech, Tensors, waveform_inputs
from w2v_edge.latency.measure.scenarios import Queries
from w2v_edge.latency.report.records import BenchmarkCase

ROUNDS = 60
BLOCK_S = 0.2
GRAPH = "tokenizer"


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    model = w2v_edge.load(given.bundle)
    case = BenchmarkCase("", GRAPH, "cpu", {}, model.threads, "high", given.seconds, 1, "single")
    speech = Speech.read([], model.sample_rate)
    inputs = waveform_inputs(speech.excerpts(given.seconds), 1)
    queries = Queries(model, case, inputs)
    ours, bare = [], []
    watched = 0.0
    begun = time.perf_counter()
    with Watch(time.perf_counter) as watch:
        for _ in range(ROUNDS):
            ours.append(queries.steady(BLOCK_S, 0.0).latencies)
            bare.append(_bare(given.bundle, model.threads, inputs))
    watched = watch.cpu_s / (time.perf_counter() - begun)
    ratios = [np.median(a) / np.median(b) for a, b in zip(ours, bare, strict=True)]
    result = {
        "run_ms": round(1e3 * float(np.median(np.concatenate(bare))), 3),
        "ratio": round(float(np.median(ratios)), 5),
        "ratio_quartiles": [round(float(x), 5) for x in np.quantile(ratios, [0.25, 0.75])],
        "ratio_error": round(float(np.std(ratios) / np.sqrt(len(ratios))), 5),
        "watch_share_of_a_core": round(watched, 5),
        "rounds": ROUNDS,
        "threads": model.threads,
        "device": strict.to_plain(describe_device()),
    }
    print(json.dumps(result, indent=1, allow_nan=False))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False))


_SESSIONS: dict[str, object] = {}


def _bare(bundle: Path, threads: int, inputs: list[Tensors]) -> list[float]:
    """Time bare runs of a session with the runtime's options."""
    from w2v_edge.providers import choose, open_session

    path = bundle / f"{GRAPH}.onnx"
    session = _SESSIONS.get(str(path)) or _SESSIONS.setdefault(
        str(path), open_session(path, choose("cpu", threads, allow_fallback=False))
    )
    names = [output.name for output in session.get_outputs()]  # type: ignore[attr-defined]
    times: list[float] = []
    end = time.perf_counter() + BLOCK_S
    while (start := time.perf_counter()) < end:
        session.run(names, inputs[len(times) % len(inputs)])  # type: ignore[attr-defined]
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
