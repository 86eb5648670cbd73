"""Latency of PyTorch, eager and compiled, and of our bundles, in interleaved rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

from bench.gpu.runner import PASSED
from bench.gpu.setup import PRECISIONS, Setup
from bench.peers.sides import Run, Side, open_side
from bench.peers.speech import speech
from bench.peers.timing import Times, compare, one_line


def eager(setup: Setup) -> dict[str, Any]:
    """Time one utterance in PyTorch eager, of this package and of transformers, and in bundles."""
    checkpoint = str(setup.shop.checkpoint())
    ours = Side("torch", "", "encoder", "torch", checkpoint, device=setup.device)
    return _timed(setup, [ours, *_sides(setup, "transformers")], setup.seconds)


def compiled(setup: Setup) -> dict[str, Any]:
    """Time transformers after torch.compile, which takes long for each length, and bundles."""
    return _timed(setup, _sides(setup, "compiled"), [statistics.median(setup.seconds)])


def _sides(setup: Setup, kind: Literal["transformers", "compiled"]) -> list[Side]:
    sides = []
    for precision in PRECISIONS:
        checkpoint, bundle = str(setup.shop.checkpoint()), str(setup.shop.bundle(precision))
        sides += [
            Side(f"{kind}-{precision}", "", "encoder", kind, checkpoint, precision, setup.device),
            Side(f"w2v-edge-{precision}", "", "encoder", "bundle", bundle, precision, setup.device),
        ]
    return sides


def _timed(setup: Setup, sides: list[Side], lengths: Sequence[float]) -> dict[str, Any]:
    """Time one utterance, from a waveform on the host to its context on the host."""
    import torch

    # TF32 would keep 10 bits of each factor; our provider leaves it off too.
    torch.backends.cudnn.allow_tf32 = False
    failures: dict[str, str] = {}
    runs: dict[str, Run] = {}
    for side in sides:
        try:
            runs[side.name] = open_side(side, setup.shop.threads)
        except Exception as error:  # noqa: BLE001 - any runtime's own; it is the result
            failures[side.name] = one_line(error)
    rows: dict[str, dict[str, Any]] = {}
    for seconds in lengths:
        taken = compare(
            runs,
            speech(seconds),
            warm_up=setup.warm_up,
            rounds=setup.rounds,
            pause=0.0,
            seed=0,
        )
        rows[f"{seconds:g} s"] = {name: _row(times) for name, times in taken.items()}
    failed = any("failure" in row for of_length in rows.values() for row in of_length.values())
    return {PASSED: not failures and not failed, "failures": failures, "latency": rows}


def _row(times: Times) -> dict[str, Any]:
    if times.failure:
        return {"failure": times.failure}
    raw = [round(1e3 * x, 3) for x in times.raw]
    return {
        "median_ms": round(statistics.median(raw), 3),
        "first_ms": round(1e3 * times.first, 3),
        "raw_ms": raw,
    }
