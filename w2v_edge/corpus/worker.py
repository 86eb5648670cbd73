"""What every engine maps over shards: encode one, and write its file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import w2v_edge
from w2v_edge.corpus.encoder import Encoder
from w2v_edge.corpus.job import Settings, Shard
from w2v_edge.corpus.storage import Folder
from w2v_edge.corpus.table import Summary, read_summary, to_parquet

Results = Generator[tuple[Shard, Summary], None, None]
"""Of an engine: shards as they are done."""

ATTEMPTS = 4
"""At a shard whose worker dies, before it is left out."""


@dataclass(frozen=True)
class Task:
    """What a worker has to know, wherever it runs.

    Attributes:
        bundle: its folder, on the worker's machine.
        settings: what is computed.
        output: the folder of shards, an absolute path or a URI.
    """

    bundle: Path
    settings: Settings
    output: str


class Worker:
    """Encodes shards with one model, from as many threads as call it."""

    def __init__(self, task: Task, stopped: Callable[[], bool] = lambda: False) -> None:
        """Take a task, and what is asked now and then whether to break off."""
        self._task = task
        self._stopped = stopped

    def open(self) -> None:
        """Open the bundle now rather than for the first shard; errors as of `w2v_edge.load`."""
        assert self._encoder

    def __call__(self, shard: Shard) -> Summary:
        """Encode a shard and write its file, unless another attempt did.

        Raises:
            W2VEdgeError: no recording can be encoded here.
            OSError: the file cannot be written.
        """
        if (done := summary_of(self._folder, shard.name)) is not None:
            return done
        outcomes = self._encoder.outcomes(shard.entries)
        settings = self._task.settings
        data = to_parquet(self._model.manifest, settings, shard.entries, outcomes)
        self._folder.write(shard.name, data)
        return Summary.of(shard.entries, outcomes)

    @contextmanager
    def attempt(self, shard: Shard) -> Iterator[Shard | None]:
        """Count an attempt at a shard that may end this process; yield None after `ATTEMPTS`.

        Whoever sees workers die cannot tell a machine that was taken away from a file that crashes
        what reads it, and would try it for ever.
        """
        count = f".{shard.name}.attempts"
        try:
            before = len(self._folder.read(count))
        except FileNotFoundError:
            before = 0
        if before >= ATTEMPTS:
            yield None
            return
        self._folder.write(count, b"x" * (before + 1))
        yield shard
        self._folder.delete(count)

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self._task.output)

    @cached_property
    def _model(self) -> w2v_edge.Model:
        settings = self._task.settings
        return w2v_edge.load(self._task.bundle, **settings.running | {"threads": settings.threads})

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._model, self._task.settings, self._stopped)


def summary_of(folder: Folder, name: str) -> Summary | None:
    """Return the summary of a shard that is there and whole, else None."""
    try:
        with folder.open(name) as stream:
            return read_summary(stream)
    except (OSError, ValueError, KeyError, TypeError):
        return None
