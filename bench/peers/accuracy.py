"""Deviation of each side from PyTorch in float32, on speech with pauses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers.sides import Group, Run
from w2v_edge.agreement import frame_cosines

SECONDS = 30


def deviation(
    group: Group, run: Run, waveform: npt.NDArray[np.float32], expected: npt.NDArray[Any]
) -> dict[str, float]:
    """Compare one side with PyTorch eager on the same waveform."""
    found = run(waveform)
    if found.shape != expected.shape:
        raise ValueError(f"found shape {found.shape}, expected {expected.shape}")
    if group == "tokenizer":
        return {"code_drift": float((found != expected).mean())}
    cosines = frame_cosines(found, expected)
    return {
        "cosine_mean": float(cosines.mean()),
        "cosine_worst_decile": float(np.quantile(cosines, 0.1)),
    }
