"""Shards on Ray Data: a pool of actors, each with a model of its own, on a machine or a cluster."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from w2v_edge.corpus.entries import Entry
from w2v_edge.corpus.job import Shard
from w2v_edge.corpus.table import Summary
from w2v_edge.corpus.worker import Results, Task, Worker
from w2v_edge.errors import InputError, PartialFailureError, W2VEdgeError, one_line
from w2v_edge.providers.machine import usable_cores

GPU_PROVIDERS = frozenset({"cuda", "tensorrt"})

MOST_BLOCKS = 10_000
"""Ray takes about a millisecond for each before it begins."""

DEATHS_AT_BEGIN = 10
"""In a row, before a job is given up."""

GO_ON = "shards that are done stay, run again to go on"


def run(task: Task, shards: Sequence[Shard], workers: int | None, address: str | None) -> Results:
    """Yield shards with their summaries as they are done; those whose worker kept dying are not.

    Args:
        task: what is to be done; bundle, sources and output are found under these names by all
            machines of a cluster.
        shards: to encode.
        workers: actors; by default what there is room for.
        address: of a cluster that runs, such as `auto`; None begins one here, and ends it.

    Raises:
        InputError: no cluster there.
        PartialFailureError: no recording can be encoded there, or no shard be written.
    """
    threads, gpu = task.settings.threads, task.settings.provider[0] in GPU_PROVIDERS
    with _cluster(workers, threads, address):
        size = min(len(shards), workers or _room(threads, gpu=gpu))
        rows = ray.data.from_arrow(_blocks(shards))
        done = rows.map_batches(
            _Actor,
            fn_constructor_args=(task,),
            compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=threads,
            num_gpus=1 if gpu else None,
        )
        by_number = {shard.number: shard for shard in shards}
        with _one_line():
            for row in done.iter_rows():
                if row["fatal"] is not None:
                    raise PartialFailureError(f"{row['fatal']}; {GO_ON}")
                if row["summary"] is not None:
                    yield by_number[row["number"]], Summary(**json.loads(row["summary"]))


def _room(threads: int, *, gpu: bool) -> int:
    """Return how many workers a cluster has room for as it is."""
    there = ray.cluster_resources()
    room = int(there.get("GPU", 0)) if gpu else int(there.get("CPU", 0)) // threads
    if not room:
        need = "a GPU" if gpu else f"{threads} cores"
        raise InputError(
            f"the Ray cluster does not have {need} for a worker; where it adds machines as they "
            "are needed, say how many workers there are to be: --workers"
        )
    return room


class _Actor:
    """A worker in a process of its own."""

    def __init__(self, task: Task) -> None:
        self._worker = Worker(task)

    def __call__(self, batch: pa.Table) -> pa.Table:
        (row,) = batch.to_pylist()
        summary, fatal = None, None
        try:
            with self._worker.attempt(_to_shard(row)) as shard:
                summary = shard and json.dumps(asdict(self._worker(shard)))
        except Exception as error:  # noqa: BLE001 - raised on the other side, on one line
            fatal = one_line(error)
        columns = {"number": [row["number"]], "summary": [summary], "fatal": [fatal]}
        return pa.table(columns, schema=RESULT)


RESULT = pa.schema([("number", pa.int64()), ("summary", pa.string()), ("fatal", pa.string())])


def _blocks(shards: Sequence[Shard]) -> list[pa.Table]:
    """A row for each shard; a block, which goes to a worker at a time, for one or some."""
    size = -(-len(shards) // MOST_BLOCKS)
    return [
        pa.Table.from_pylist([_to_row(shard) for shard in shards[begin : begin + size]])
        for begin in range(0, len(shards), size)
    ]


def _to_row(shard: Shard) -> dict[str, Any]:
    # JSON, since names of files may hold what is no text.
    entries = json.dumps([[x.id, x.path, x.text] for x in shard.entries])
    return {"number": shard.number, "name": shard.name, "entries": entries}


def _to_shard(row: dict[str, Any]) -> Shard:
    entries = tuple(Entry(*fields) for fields in json.loads(row["entries"]))
    return Shard(row["number"], row["name"], entries)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except W2VEdgeError:
        raise
    except Exception as error:  # Ray's have no base in common
        raise PartialFailureError(f"Ray gave up ({one_line(error)}); {GO_ON}") from error


@contextmanager
def _cluster(workers: int | None, threads: int, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or begin one; leave Ray as it was found."""
    if ray.is_initialized():
        with _quiet():
            yield
        return
    here = {"num_cpus": max(usable_cores(), (workers or 1) * threads), "include_dashboard": False}
    try:
        _knock(address)
        ray.init(
            address=address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else here),
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = f"at {address}" if address else "on this machine"
        raise InputError(
            f"no Ray cluster {where} ({one_line(error)}); give the address of one that runs, or "
            "none to begin one here"
        ) from error
    try:
        with _quiet():
            yield
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Ask whether anybody is at HOST:PORT: Ray itself would wait for minutes.

    Raises:
        OSError: nobody is.
    """
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray Data from drawing, and let it replace workers that die as they begin.

    Those that die later it replaces anyway, and does their shards again.
    """
    context = DataContext.get_current()
    ours: dict[str, Any] = {"enable_progress_bars": False, "print_on_execution_start": False}
    ours["max_consecutive_actor_init_deaths"] = DEATHS_AT_BEGIN
    kept = {name: getattr(context, name) for name in ours}
    logger = logging.getLogger("ray.data")
    level = logger.level
    for name, value in ours.items():
        setattr(context, name, value)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in kept.items():
            setattr(context, name, value)
