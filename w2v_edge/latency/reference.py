"""A fixed piece of work, timed around each trial: how fast is the machine itself just now?

Clocks, neighbours on the same host and heat change it by some percent from minute to minute. What
a trial took can so be told from what its machine did meanwhile.
"""

from __future__ import annotations

import time

import numpy as np

SIDE = 384
SHORTEST_S = 0.03


class Reference:
    """Products of two square matrices in float32, with as many threads as numpy takes."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._left, self._right = random.standard_normal((2, SIDE, SIDE)).astype(np.float32)
        self.time_ms()

    def time_ms(self) -> float:
        """Return the median time of a product, in ms."""
        times: list[float] = []
        end = time.perf_counter() + SHORTEST_S
        while (start := time.perf_counter()) < end or not times:
            np.matmul(self._left, self._right)
            times.append(time.perf_counter() - start)
        return 1e3 * float(np.median(times))
