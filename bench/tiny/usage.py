"""Codebook usage, and rate of change of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.tiny.codes import Codes, Ints, joint
from bench.tiny.prompts import Prompt


def usage(codes: Codes, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Describe the codes of `prompts`, each group alone and all groups of a frame as one code."""
    each = [codes.of[x.id] for x in prompts]
    frames = np.concatenate(each)
    stays = np.concatenate([(x[1:] == x[:-1]).all(axis=1) for x in each])
    return {
        "frames": len(frames),
        "entries": codes.entries,
        "groups": [_histogram(group) for group in frames.T],
        "joint": _histogram(joint(frames, codes.entries)),
        "same_as_frame_before": _rounded(stays.mean()) if len(stays) else None,
    }


def _histogram(codes: Ints) -> dict[str, float]:
    """Describe codes (frames,)."""
    _, counts = np.unique(codes, return_counts=True)
    shares = counts / counts.sum()
    return {
        "in_use": len(shares),
        "perplexity": _rounded(np.exp(-(shares * np.log(shares)).sum())),
        "most_frequent": _rounded(shares.max()),
    }


def _rounded(value: float) -> float:
    return round(float(value), 4)
