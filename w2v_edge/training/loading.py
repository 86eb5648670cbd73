"""Batches read in the background, in their order: the model never waits for a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

AHEAD = 4
"""Batches that are read before they are asked for, for each reader."""


@contextmanager
def read_ahead(jobs: Iterator[Callable[[], T]], readers: int) -> Iterator[Iterator[T]]:
    """Yield the results of `jobs` in their order, done by `readers` threads ahead of time.

    Decoding leaves the interpreter's lock, so threads do. An error comes up where its result would
    have; what has not begun by then is dropped.
    """
    pool = ThreadPoolExecutor(readers, thread_name_prefix="audio")
    waiting: deque[Future[T]] = deque(pool.submit(job) for job in islice(jobs, AHEAD * readers))

    def results() -> Iterator[T]:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(job) for job in islice(jobs, 1))
            yield result

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
