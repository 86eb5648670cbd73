"""Overhead of a short call: time and Python calls between `Model.tokenize` and onnxruntime's run.

    python -m bench.call_overhead BUNDLE [--seconds 0.5] [-o FILE.json]

The time within `InferenceSession.run` is taken off each call; one thread, so that no other thread
wakes up in between. Calls are those of functions in w2v_edge, properties and generators left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnxruntime

import w2v_edge
from bench.peers import hardware

CALLS = 400
PACKAGE = str(Path(w2v_edge.__file__).parent)


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.call_overhead", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    model = w2v_edge.load(given.bundle, threads=1)
    samples = np.arange(round(given.seconds * model.sample_rate))
    waveform = (np.sin(samples / 9) / 2).astype(np.float32)
    for _ in range(20):
        model.tokenize(waveform)
    calls = _python_calls(model, waveform)
    whole, above = _times(model, waveform)
    result = {
        "hardware": hardware.describe(),
        "seconds_of_audio": given.seconds,
        "python_calls": len(calls),
        "files": len({call.partition(":")[0] for call in calls}),
        "tokenize_us": round(statistics.median(whole), 1),
        "above_session_run_us": round(statistics.median(above), 1),
        "calls": calls,
    }
    print(json.dumps({key: x for key, x in result.items() if key != "hardware"}, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _python_calls(model: w2v_edge.Model, waveform: np.ndarray[Any, Any]) -> list[str]:
    """Return the functions of the package that one call enters before onnxruntime's run."""
    calls: list[str] = []
    running = False

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal running
        code = frame.f_code
        if event != "call" or running:
            return
        running = code.co_name == "run" and "onnxruntime" in code.co_filename
        owner = type(frame.f_locals.get("self"))
        is_property = isinstance(getattr(owner, code.co_name, None), property)
        if code.co_filename.startswith(PACKAGE) and "<" not in code.co_name and not is_property:
            calls.append(f"{code.co_filename.removeprefix(PACKAGE + '/')}:{code.co_name}")

    sys.setprofile(watch)
    try:
        model.tokenize(waveform)
    finally:
        sys.setprofile(None)
    return calls


def _times(
    model: w2v_edge.Model, waveform: np.ndarray[Any, Any]
) -> tuple[list[float], list[float]]:
    """Return microseconds of each call, and those outside onnxruntime's run."""
    run = onnxruntime.InferenceSession.run
    inside = 0.0

    def timed(*arguments: Any, **options: Any) -> Any:
        nonlocal inside
        begin = time.perf_counter()
        try:
            return run(*arguments, **options)
        finally:
            inside += time.perf_counter() - begin

    whole, above = [], []
    onnxruntime.InferenceSession.run = timed
    try:
        for _ in range(CALLS):
            inside, begin = 0.0, time.perf_counter()
            model.tokenize(waveform)
            spent = time.perf_counter() - begin
            whole.append(spent * 1e6)
            above.append((spent - inside) * 1e6)
    finally:
        onnxruntime.InferenceSession.run = run
    return whole, above


if __name__ == "__main__":
    main()
