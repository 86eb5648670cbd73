"""Real speech of any length."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

RATE = 16_000
PAUSE_SECONDS = 0.6
PAUSE_LEVEL = 1e-4


@cache
def _clips() -> tuple[npt.NDArray[np.float32], ...]:
    from w2v_edge import data

    return tuple(data.clips(RATE).values())


def speech(seconds: float) -> npt.NDArray[np.float32]:
    """Return the shipped recordings, end to end, cut or repeated to a length."""
    return np.resize(np.concatenate(_clips()), int(seconds * RATE))


def speech_with_pauses(seconds: float) -> npt.NDArray[np.float32]:
    """Return the same with faint noise between recordings, as pauses are."""
    rng = np.random.default_rng(0)
    pieces = []
    for clip in _clips():
        pause = PAUSE_LEVEL * rng.standard_normal(int(PAUSE_SECONDS * RATE))
        pieces += [clip, pause.astype(np.float32)]
    return np.resize(np.concatenate(pieces), int(seconds * RATE))
