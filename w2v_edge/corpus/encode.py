"""A job from its sources to a folder of shards, in as many runs as it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from w2v_edge.bundle import Bundle
from w2v_edge.corpus import local_engine
from w2v_edge.corpus.entries import find_entries
from w2v_edge.corpus.job import Record, Settings, Shard, begin, plan, sweep, usual_size
from w2v_edge.corpus.storage import Folder, is_uri
from w2v_edge.corpus.table import Summary
from w2v_edge.corpus.worker import Results, Task, summary_of
from w2v_edge.errors import InputError, MissingExtraError

Engine = Literal["local", "ray"]

READERS = 16
"""Threads that read summaries of shards, which in an object store means to wait."""


@dataclass(frozen=True)
class Report:
    """What became of a job, over all its runs.

    Attributes:
        output: the folder of shards.
        files: recordings in shards that are done.
        failed: those of them that have an error.
        seconds: of audio, of the others.
        shards: that are done.
        shards_of_this_run: those of them that were made now.
        lost: names of shards that are not there, since their workers died each time.
        first_error: that of a recording, with its path.
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
    settings: Settings | None = None,
    shard_size: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    force: bool = False,
    retry_failed: bool = False,
    show: Callable[[int, int], None] | None = None,
) -> Report:
    """Encode recordings to shards of Parquet; what they hold is in `w2v_edge.corpus.table`.

    A run that is cut off loses the shards that were being made; the next one goes on with them.
    Results depend on the bundle, the settings, the files and the size of shards alone, as far as
    one kind of processor and one onnxruntime do the work. One run at a time may have an output.

    Args:
        bundle: the folder that `w2v-edge export` wrote; on a cluster, at the same path everywhere.
        sources: folders, audio files, manifests (`.tsv`, `.jsonl`); files and folders by URI too.
        output: the folder of shards, by path or URI.
        engine: `local` for threads on this machine, or `ray`.
        settings: what is computed; by default codes alone, on the CPU.
        shard_size: recordings in a shard.
        workers: that encode at once, each with `settings.threads`; by default as many as there are
            cores for, or GPUs.
        address: of a Ray cluster that runs; None begins one on this machine.
        force: remove another job from `output`.
        retry_failed: make shards again in which recordings failed.
        show: called with the shards done so far and all there are.

    Raises:
        InputError: no recordings, or a place that cannot be read.
        OutputExistsError: another job, or something else, lies in `output`.
        BundleError: no bundle there, or a damaged one, or nothing that it could give.
        ProviderError: the provider does not run here.
        MissingExtraError: something is not installed.
        PartialFailureError: workers on Ray cannot work.
        OSError: a shard cannot be written.
    """
    settings = settings or Settings()
    bundle = Path(os.path.abspath(bundle))  # noqa: PTH100 - a link stays one
    manifest = Bundle.open(bundle).manifest
    settings.check(manifest)
    if address is None:
        settings.check_runs()
    entries = find_entries([os.fspath(source) for source in sources])
    size = shard_size or usual_size(len(entries), settings)
    folder = Folder(_absolute(os.fspath(output)))
    there = begin(folder, Record.of(manifest, settings, entries, size), force=force)
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
    task = Task(bundle, settings, folder.location)
    try:
        with closing(_engine(engine, task, todo, workers, address)) as results:
            for shard, summary in results:
                done[shard.name] = summary
                show(len(done), len(shards))
    finally:
        # What stays has names that no reader looks at.
        with suppress(InputError, OSError):
            sweep(folder)
    return _report(folder, shards, done, before)


def _engine(
    engine: Engine, task: Task, todo: list[Shard], workers: int | None, address: str | None
) -> Results:
    if not todo:
        return
    if engine == "local":
        yield from local_engine.run(task, todo, workers)
        return
    try:
        from w2v_edge.corpus import ray_engine
    except ImportError as error:
        raise MissingExtraError("the engine 'ray'", error.name or "ray", "corpus") from error
    yield from ray_engine.run(task, todo, workers, address)


def _summaries(folder: Folder, shards: Sequence[Shard]) -> dict[str, Summary]:
    """Read what is in shards that are there; one that is not whole is left out."""
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda shard: summary_of(folder, shard.name), shards)
        pairs = zip(shards, found, strict=True)
        return {shard.name: summary for shard, summary in pairs if summary is not None}


def _report(
    folder: Folder, shards: Sequence[Shard], done: dict[str, Summary], before: int
) -> Report:
    summaries = [done[shard.name] for shard in shards if shard.name in done]
    return Report(
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
