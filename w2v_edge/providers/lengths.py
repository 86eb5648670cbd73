"""A few lengths instead of any: for providers that compile or tune anew for every length."""

from __future__ import annotations

SHORTEST_SECONDS = 0.5


def bucketed(samples: int, sample_rate: int) -> int:
    """Return the length to pad a waveform to, in samples; at least `samples`.

    Lengths are 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, ... seconds: at most half as much again is
    computed, and an hour has 26 of them. `lengths` tells the graph which samples are valid, so
    what comes out is the same.
    """
    bucket = max(1, int(SHORTEST_SECONDS * sample_rate))
    while bucket < samples:
        if bucket * 3 // 2 >= samples:
            return bucket * 3 // 2
        bucket *= 2
    return bucket
