"""Encoding a corpus to a folder of shards, in one run or several."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from w2v_edge.bundle import Bundle
from w2v_edge.corpus.entries import find_entries
from w2v_edge.corpus.job import (
    CorpusOptions,
    JobRecord,
    Shard,
    begin,
    default_shard_size,
    plan,
    sweep,
)
from w2v_edge.corpus.storage import Folder, is_uri
from w2v_edge.corpus.table import ShardSummary
from w2v_edge.corpus.worker import JobSpec, Results, Worker, summary_of
from w2v_edge.errors import InputError, MissingExtraError
from w2v_edge.providers.machine import usable_cores

Engine = Literal["local", "ray"]

SUMMARY_THREADS = 16
"""Threads that read summaries of shards; object stores answer slowly."""


@dataclass(frozen=True)
class CorpusReport:
    """The state of a job, over all its runs.

    Attributes:
        output: the folder of shards.
        files: recordings in finished shards.
        failed: number of these with an error.
        seconds: audio of the others, in s.
        shards: number of finished shards.
        shards_of_this_run: number of these that this run made.
        lost: names of missing shards, whose workers died every time.
        first_error: the first error of a recording, with its path.
    """

    output: str
    files: int
    failed: int
    seconds: float
    shards: int
    shards_of_this_run: int
    lost: tuple[str, ...]
    first_error: str | None


def encode_corpus(
    bundle: str | Path,
    sources: Sequence[str | Path],
    output: str | Path,
    *,
    engine: Engine = "local",
    options: CorpusOptions | None = None,
    shard_size: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    force: bool = False,
    retry_failed: bool = False,
    show: Callable[[int, int], None] | None = None,
) -> CorpusReport:
    """Encode recordings to Parquet shards; `w2v_edge.corpus.table` documents their columns.

    The next run continues an interrupted one; shards in progress are lost. Results depend only on
    the bundle, the options, the files and the shard size, on one type of processor and one version
    of onnxruntime. Only one run at a time may write to an output.

    Args:
        bundle: folder that `w2v-edge export` wrote; on a cluster, at the same path everywhere.
        sources: folders, audio files and manifests (`.tsv`, `.jsonl`); files and folders also by
            URI.
        output: folder of the shards, a path or URI.
        engine: `local` for threads on this machine, or `ray`.
        options: what is computed; by default codes alone, on the CPU.
        shard_size: number of recordings in a shard.
        workers: number of workers, each with `options.threads`; by default all cores or GPUs.
        address: address of a running Ray cluster; None starts one on this machine.
        force: whether to replace another job in `output`.
        retry_failed: whether to redo shards in which recordings failed.
        show: called with the number of finished shards and of all shards.

    Raises:
        InputError: no recordings, or a source that cannot be read.
        OutputExistsError: `output` holds another job, or other files.
        BundleError: the bundle is missing or damaged, or nothing would be computed.
        ProviderError: the provider does not run here.
        MissingExtraError: an optional dependency is not installed.
        PartialFailureError: the workers on Ray fail.
        OSError: a shard cannot be written.
    """
    options = options or CorpusOptions()
    bundle = Path(os.path.abspath(bundle))  # noqa: PTH100 - a link stays one
    manifest = Bundle.open(bundle).manifest
    options.check(manifest)
    if address is None:
        options.check_runs()
    entries = find_entries([os.fspath(source) for source in sources])
    size = shard_size or default_shard_size(len(entries), options)
    folder = Folder(_absolute(os.fspath(output)))
    there = begin(folder, JobRecord.of(manifest, options, entries, size), force=force)
    shards = plan(entries, size)
    done = _summaries(folder, [shard for shard in shards if shard.name in there])
    for shard in shards:
        if shard.name in done and done[shard.name].failed and retry_failed:
            folder.delete(shard.name)
            del done[shard.name]
    before = len(done)
    show = show or (lambda *_: None)
    show(before, len(shards))
    todo = [shard for shard in shards if shard.name not in done]
    job = JobSpec(bundle, options, folder.location)
    try:
        with closing(_engine(engine, job, todo, workers, address)) as results:
            for shard, summary in results:
                done[shard.name] = summary
                show(len(done), len(shards))
    finally:
        # Readers ignore the names of files that remain.
        with suppress(InputError, OSError):
            sweep(folder)
    return _report(folder, shards, done, before)


def _engine(
    engine: Engine, job: JobSpec, todo: list[Shard], workers: int | None, address: str | None
) -> Results:
    if not todo:
        return
    if engine == "local":
        yield from _run_local(job, todo, workers)
        return
    try:
        from w2v_edge.corpus import ray_engine
    except ImportError as error:
        raise MissingExtraError("the engine 'ray'", error.name or "ray", "corpus") from error
    yield from ray_engine.run(job, todo, workers, address)


def _run_local(job: JobSpec, shards: Sequence[Shard], workers: int | None) -> Results:
    """Yield shards as they are done by threads of this machine, which share one model.

    onnxruntime, libsndfile and Arrow release the interpreter lock, so threads keep all cores busy
    with the weights in memory once.
    """
    stop = threading.Event()
    worker = Worker(job, stop.is_set)
    worker.open()
    name, _ = job.options.provider
    # There is one accelerator, however many threads feed it.
    default = usable_cores() // job.options.threads if name == "cpu" else 1
    todo = iter(shards)
    size = workers or max(1, default)
    with ThreadPoolExecutor(size) as pool:
        waiting: dict[Future[ShardSummary], Shard] = {}
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


def _summaries(folder: Folder, shards: Sequence[Shard]) -> dict[str, ShardSummary]:
    """Read the summaries of shards; incomplete shards are left out."""
    with ThreadPoolExecutor(SUMMARY_THREADS) as pool:
        found = pool.map(lambda shard: summary_of(folder, shard.name), shards)
        pairs = zip(shards, found, strict=True)
        return {shard.name: summary for shard, summary in pairs if summary is not None}


def _report(
    folder: Folder, shards: Sequence[Shard], done: dict[str, ShardSummary], before: int
) -> CorpusReport:
    summaries = [done[shard.name] for shard in shards if shard.name in done]
    return CorpusReport(
        output=folder.location,
        files=sum(x.files for x in summaries),
        failed=sum(x.failed for x in summaries),
        seconds=round(sum(x.seconds for x in summaries), 3),
        shards=len(done),
        shards_of_this_run=len(done) - before,
        lost=tuple(shard.name for shard in shards if shard.name not in done),
        first_error=next((x.first_error for x in summaries if x.first_error), None),
    )


def _absolute(output: str) -> str:
    return output if is_uri(output) else os.path.abspath(output)  # noqa: PTH100 - a link stays one
