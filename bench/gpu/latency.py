"""Latency of PyTorch, eager and compiled, and of our bundles, in interleaved rounds."""

from __future__ import annotations

import statistics
from typing import Any

from bench.gpu.setup import PRECISIONS, Setup
from bench.peers.sides import Kind, Run, Side, open_side
from bench.peers.speech import speech
from bench.peers.timing import Times, compare, one_line

TORCH: tuple[tuple[str, Kind], ...] = (("eager", "transformers"), ("compiled", "compiled"))


def latency(setup: Setup) -> dict[str, Any]:
    """Time one utterance, from a waveform on the host to its context on the host."""
    import torch

    # TF32 would keep 10 bits of each factor; our provider leaves it off too.
    torch.backends.cudnn.allow_tf32 = False
    failures, runs = {}, {}
    for side in _sides(setup):
        try:
            runs[side.name] = _opened(side, setup)
        except Exception as error:  # noqa: BLE001 - any runtime's own; it is the result
            failures[side.name] = one_line(error)
    rows = {}
    for seconds in setup.seconds:
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
    return {"passed": not failures and not failed, "failures": failures, "latency": rows}


def _sides(setup: Setup) -> list[Side]:
    checkpoint = str(setup.shop.checkpoint())
    sides = [Side("torch", "", "encoder", "torch", checkpoint, device=setup.device)]
    for precision in PRECISIONS:
        bundle = str(setup.shop.bundle(precision))
        kinds = [(name, kind, checkpoint) for name, kind in TORCH]
        for name, kind, path in (*kinds, ("w2v-edge", "bundle", bundle)):
            sides.append(
                Side(f"{name}-{precision}", "", "encoder", kind, path, precision, setup.device)
            )
    return [side for side in sides if side.name not in setup.skip]


def _opened(side: Side, setup: Setup) -> Run:
    """Open a side and run it once."""
    run = open_side(side, setup.shop.threads)
    run(speech(setup.seconds[0]))
    return run


def _row(times: Times) -> dict[str, Any]:
    if times.failure:
        return {"failure": times.failure}
    raw = [round(1e3 * x, 3) for x in times.raw]
    return {
        "median_ms": round(statistics.median(raw), 3),
        "first_ms": round(1e3 * times.first, 3),
        "raw_ms": raw,
    }
