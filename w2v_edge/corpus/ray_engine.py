"""The Ray engine: a pool of actors on a machine or a cluster, each with its own model."""

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
from w2v_edge.corpus.table import ShardSummary
from w2v_edge.corpus.worker import JobSpec, Results, Worker
from w2v_edge.errors import InputError, PartialFailureError, W2VEdgeError, one_line
from w2v_edge.providers.machine import usable_cores

GPU_PROVIDERS = frozenset({"cuda", "tensorrt"})

MOST_BLOCKS = 10_000
"""Ray takes about a millisecond for each before it starts."""

MAX_INIT_DEATHS = 10
"""Workers in a row that may die at start, before the job fails."""

RESUME_HINT = "finished shards are kept, run again to continue"


def run(job: JobSpec, shards: Sequence[Shard], workers: int | None, address: str | None) -> Results:
    """Yield shards as they are done; shards whose workers died every time are missing.

    Args:
        job: the job; all machines of a cluster find bundle, sources and output by these names.
        shards: the shards to encode.
        workers: number of actors; by default as many as the cluster has room for.
        address: address of a running cluster, such as `auto`; None starts one here, and stops it.

    Raises:
        InputError: there is no cluster at the address.
        PartialFailureError: no recording can be encoded, or no shard can be written.
    """
    threads, gpu = job.options.threads, job.options.provider[0] in GPU_PROVIDERS
    with _cluster(workers, threads, address):
        size = min(len(shards), workers or _room(threads, gpu=gpu))
        rows = ray.data.from_arrow(_blocks(shards))
        done = rows.map_batches(
            _Actor,
            fn_constructor_args=(job,),
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
                    raise PartialFailureError(f"{row['fatal']}; {RESUME_HINT}")
                if row["summary"] is not None:
                    yield by_number[row["number"]], ShardSummary(**json.loads(row["summary"]))


def _room(threads: int, *, gpu: bool) -> int:
    """Return the number of workers that a cluster has room for."""
    there = ray.cluster_resources()
    room = int(there.get("GPU", 0)) if gpu else int(there.get("CPU", 0)) // threads
    if not room:
        need = "a GPU" if gpu else f"{threads} cores"
        raise InputError(
            f"the Ray cluster does not have {need} for a worker; on a cluster that adds "
            "machines on demand, give --workers"
        )
    return room


class _Actor:
    """A worker in its own process."""

    def __init__(self, job: JobSpec) -> None:
        self._worker = Worker(job)

    def __call__(self, batch: pa.Table) -> pa.Table:
        (row,) = batch.to_pylist()
        summary, fatal = None, None
        try:
            with self._worker.attempt(_to_shard(row)) as shard:
                summary = shard and json.dumps(asdict(self._worker(shard)), allow_nan=False)
        except Exception as error:  # noqa: BLE001 - the driver raises it
            fatal = one_line(error)
        columns = {"number": [row["number"]], "summary": [summary], "fatal": [fatal]}
        return pa.table(columns, schema=RESULT)


RESULT = pa.schema([("number", pa.int64()), ("summary", pa.string()), ("fatal", pa.string())])


def _blocks(shards: Sequence[Shard]) -> list[pa.Table]:
    """Return a row for each shard, in blocks; Ray sends a block to a worker at a time."""
    size = -(-len(shards) // MOST_BLOCKS)
    return [
        pa.Table.from_pylist([_to_row(shard) for shard in shards[begin : begin + size]])
        for begin in range(0, len(shards), size)
    ]


def _to_row(shard: Shard) -> dict[str, Any]:
    # JSON, since Arrow refuses surrogates in file names.
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
    except Exception as error:  # Ray's errors have no common base
        raise PartialFailureError(f"Ray failed ({one_line(error)}); {RESUME_HINT}") from error


@contextmanager
def _cluster(workers: int | None, threads: int, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one; restore the state of Ray."""
    if ray.is_initialized():
        with _quiet():
            yield
        return
    here = {"num_cpus": max(usable_cores(), (workers or 1) * threads), "include_dashboard": False}
    try:
        _check_reachable(address)
        ray.init(
            address=address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else here),
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = f"at {address}" if address else "on this machine"
        raise InputError(
            f"no Ray cluster {where} ({one_line(error)}); give the address of a running one, or "
            "none to start one here"
        ) from error
    try:
        with _quiet():
            yield
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Check that a server listens at HOST:PORT: Ray itself would wait for minutes.

    Raises:
        OSError: there is none.
    """
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn off Ray Data's progress bars, and let it replace workers that die at start.

    It always replaces workers that die later, and redoes their shards.
    """
    context = DataContext.get_current()
    ours: dict[str, Any] = {"enable_progress_bars": False, "print_on_execution_start": False}
    ours["max_consecutive_actor_init_deaths"] = MAX_INIT_DEATHS
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
