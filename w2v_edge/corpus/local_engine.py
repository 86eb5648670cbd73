"""Shards on this machine: threads that share one model.

onnxruntime, libsndfile and Arrow let go of Python's lock while they work, so threads keep all cores
busy, weights are in memory once, and a run of one thread wastes nothing on waiting for others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from w2v_edge.corpus.job import Shard
from w2v_edge.corpus.table import Summary
from w2v_edge.corpus.worker import Results, Task, Worker
from w2v_edge.providers.machine import usable_cores


def run(task: Task, shards: Sequence[Shard], workers: int | None) -> Results:
    """Yield shards with their summaries as they are done.

    Raises:
        W2VEdgeError: no recording can be encoded here.
        OSError: a shard cannot be written.
    """
    stop = threading.Event()
    worker = Worker(task, stop.is_set)
    worker.open()
    name, _ = task.settings.provider
    # An accelerator is one, however many threads feed it.
    usual = usable_cores() // task.settings.threads if name == "cpu" else 1
    todo = iter(shards)
    size = workers or max(1, usual)
    with ThreadPoolExecutor(size) as pool:
        waiting: dict[Future[Summary], Shard] = {}
        try:
            while True:
                while len(waiting) < 2 * size and (shard := next(todo, None)):
                    waiting[pool.submit(worker, shard)] = shard
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
