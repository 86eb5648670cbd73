"""Deviation of frames in windows from the same frames with full attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]


def cosines(found: Frames, expected: Frames) -> dict[str, float]:
    """Return median and worst decile of the frames' cosines (frames, d), and the worst of all."""
    products = (found * expected).sum(axis=1)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    values = products / np.maximum(norms, 1e-12)
    return {
        "median": float(np.median(values)),
        "worst_decile": float(np.quantile(values, 0.1)),
        "worst": float(values.min()),
    }


def changed(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the fraction of codes (frames, groups) that differ."""
    return float((found != expected).mean())
