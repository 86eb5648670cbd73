"""Rounding error of a bundle beside that of PyTorch in float32: both against PyTorch in float64.

    python -m bench.rounding CHECKPOINT BUNDLE [--evaluations 8] [-o FILE.json]

For clips of several lengths: the largest and the median deviation over frames of the context, of
the bundle, of one float32 evaluation of PyTorch, and of the worst of several (see
`w2v_edge_export.reference.measure_rounding`). The parity gate's `ROUNDING_FACTOR` rests on the
ratios. `--peak FACTOR` writes CHECKPOINT with query and key weights multiplied, to
`peaked.pt` beside it, and ends: export it and measure it next.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import w2v_edge
from bench.peers import hardware
from w2v_edge import data
from w2v_edge.checkpoints import load_source
from w2v_edge.model import load_checkpoint, save_checkpoint
from w2v_edge_export import reference

SECONDS = (0.5, 1.0, 3.0, 7.3, 15.0)


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.rounding", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--peak", type=float, metavar="FACTOR")
    parser.add_argument("--evaluations", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.peak:
        print(_write_peaked(given.checkpoint, given.peak))
        return
    if given.bundle is None:
        parser.error("give a bundle, or --peak")
    model, bundle = load_source(given.checkpoint).model, w2v_edge.load(given.bundle)
    speech = np.concatenate(list(data.clips(bundle.sample_rate).values()))
    rows: list[dict[str, Any]] = []
    for seconds in SECONDS:
        waveform = np.resize(speech, round(seconds * bundle.sample_rate)).astype(np.float32)
        exact = reference.encode(model, waveform)
        one = reference.measure_rounding(model, waveform, exact, range(1))
        worst = reference.measure_rounding(model, waveform, exact, range(given.evaluations))
        found = np.abs(bundle.encode(waveform).context - exact.arrays["context"]).max(axis=1)
        rows.append(
            {
                "seconds": seconds,
                "bundle": [float(found.max()), float(np.median(found))],
                "pytorch": [one.largest["context"], one.median["context"]],
                "pytorch_worst": [worst.largest["context"], worst.median["context"]],
            }
        )
        ratios = [x / y for x, y in zip(rows[-1]["bundle"], rows[-1]["pytorch"], strict=True)]
        rows[-1]["ratio_to_one"] = ratios
        print(json.dumps(rows[-1]), flush=True)
    if given.output:
        result = {
            "hardware": hardware.describe(),
            "what": "context, largest and median deviation over frames from float64",
            "evaluations": given.evaluations,
            "clips": rows,
        }
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _write_peaked(checkpoint: Path, factor: float) -> Path:
    """Write a checkpoint whose query and key weights are multiplied."""
    model = load_checkpoint(checkpoint)
    with torch.no_grad():
        for block in model.get_submodule("context_network.blocks").children():
            qkv = block.get_submodule("attention.qkv")
            width = qkv.get_parameter("weight").shape[1]
            for name in ("weight", "bias"):
                qkv.get_parameter(name)[: 2 * width] *= factor
    path = checkpoint.with_name("peaked.pt")
    save_checkpoint(model, path)
    return path


if __name__ == "__main__":
    main()
