"""What a job is: its settings, its shards, and the record by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from w2v_edge import strict
from w2v_edge.bundle import Manifest
from w2v_edge.corpus.entries import Entry
from w2v_edge.corpus.storage import Folder
from w2v_edge.errors import ConfigError, GraphMissingError, InputError, OutputExistsError
from w2v_edge.providers import choose
from w2v_edge.runtime.window import Window, check_window

RECORD = "_job.json"
"""Readers of folders of Parquet pass over names that begin like this."""
LARGEST_SHARD = 1000
LARGEST_SHARD_OF_FRAMES = 100
"""With context of each frame, which takes about 1.5 MB for 10 s of a `base` model."""
USUAL_SHARDS = 64
"""At least so many, where there are files enough: that many workers have something to do."""


@dataclass(frozen=True)
class Settings:
    """What is computed of each recording, and how.

    Attributes:
        context: also the context vector of each frame.
        pooled: also the mean of the context over each recording.
        window: what attention sees of recordings longer than it; see `Model.encode`.
        running: arguments of `w2v_edge.load`, with one provider; the threads are those of one
            worker, 1 by default.
    """

    context: bool = False
    pooled: bool = False
    window: Window | None = None
    running: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_context(self) -> bool:
        """Whether anything is asked for that the transformer gives."""
        return self.context or self.pooled

    @property
    def threads(self) -> int:
        """Threads of one worker."""
        return self.running.get("threads") or 1

    @property
    def provider(self) -> tuple[str, dict[str, str]]:
        """The provider's name, and its options."""
        given = self.running.get("provider", "cpu")
        name, options = (given, {}) if isinstance(given, str) else given
        return name, {str(key): str(value) for key, value in options.items()}

    def check(self, manifest: Manifest) -> None:
        """Refuse what a bundle cannot do.

        Raises:
            GraphMissingError: nothing would be computed.
            InputError: a window that the model cannot have.
        """
        if "tokenizer" not in manifest.graphs and not self.needs_context:
            raise GraphMissingError(
                "this model has no quantizer, so there are no codes; ask for context vectors "
                "(--context) or their mean over each file (--pooled)"
            )
        if self.window is not None:
            check_window(self.window, manifest)

    def check_runs(self) -> None:
        """Refuse a provider that does not run on this machine.

        Raises:
            ProviderError: it does not.
            MissingExtraError: onnxruntime is not installed.
        """
        chosen, fallback = self.running.get("provider", "cpu"), self.running.get("allow_fallback")
        choose(chosen, self.threads, allow_fallback=bool(fallback))


@dataclass(frozen=True)
class Shard:
    """Some recordings of a corpus, and the file that their results go to."""

    number: int
    name: str
    entries: tuple[Entry, ...]


def plan(entries: Sequence[Entry], size: int) -> list[Shard]:
    """Part recordings into shards of `size`, in their order."""
    begins = range(0, len(entries), size)
    digits = max(5, len(str(len(begins) - 1)))
    return [
        Shard(number, f"shard-{number:0{digits}}.parquet", tuple(entries[begin : begin + size]))
        for number, begin in enumerate(begins)
    ]


def usual_size(files: int, settings: Settings) -> int:
    """Return how many recordings go in a shard; it depends on nothing but the job."""
    largest = LARGEST_SHARD_OF_FRAMES if settings.context else LARGEST_SHARD
    return max(1, min(largest, -(-files // USUAL_SHARDS)))


@dataclass(frozen=True)
class Record:
    """All that decides what the shards in a folder hold."""

    format: str
    bundle_sha256: str
    context: bool
    pooled: bool
    window: tuple[float, ...] | None
    provider: str
    provider_options: dict[str, str]
    tuned: bool
    shard_size: int
    files: int
    files_sha256: str

    @classmethod
    def of(
        cls, manifest: Manifest, settings: Settings, entries: Sequence[Entry], size: int
    ) -> Record:
        """Describe a job."""
        window = settings.window
        provider, options = settings.provider
        return cls(
            format="w2v-edge corpus 1",
            bundle_sha256=manifest.sha256,
            context=settings.context,
            pooled=settings.pooled,
            window=None if window is None else (window.step, window.left, window.right),
            provider=provider,
            provider_options=options,
            tuned=bool(settings.running.get("tuned")),
            shard_size=size,
            files=len(entries),
            files_sha256=_hash(entries),
        )


def begin(folder: Folder, record: Record, *, force: bool) -> set[str]:
    """Begin a job in a folder, or go on with it; return the names of the shards that are there.

    With `force` a job that lies there is removed, whatever it is.

    Raises:
        OutputExistsError: another job lies there, or something that is none.
    """
    names = {name for name in folder.names() if not name.startswith(".")}
    shards = {name for name in names if name.startswith("shard-") and name.endswith(".parquet")}
    if RECORD not in names and names:
        raise OutputExistsError(
            f"{folder.location} holds {min(names)!r:.60} and no {RECORD}; choose another output"
        )
    goes_on = RECORD in names and not force
    if goes_on:
        _refuse_another(folder, record)
    sweep(folder)
    if goes_on:
        return shards
    for name in sorted(shards):
        folder.delete(name)
    folder.write(RECORD, json.dumps(strict.to_plain(record), indent=1).encode())
    return set()


def sweep(folder: Folder) -> None:
    """Remove what workers that were killed left behind: files not yet renamed, counts of tries."""
    for name in folder.names():
        if name.startswith(".shard-"):
            folder.delete(name)


def _refuse_another(folder: Folder, record: Record) -> None:
    try:
        there = strict.from_plain(Record, json.loads(folder.read(RECORD)))
    except (ValueError, ConfigError, OSError, RecursionError) as error:
        raise InputError(
            f"{folder.location}/{RECORD}: not the record of a job; choose another output, or "
            "start anew with --force"
        ) from error
    for name in (x.name for x in fields(Record)):
        found, expected = getattr(there, name), getattr(record, name)
        if found != expected:
            raise OutputExistsError(
                f"{folder.location} holds another job: its {name} is {found!r:.70}, this one's "
                f"{expected!r:.70}; choose another output, or replace it with --force"
            )


def _hash(entries: Iterable[Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(json.dumps([entry.id, entry.path, entry.text]).encode() + b"\n")
    return digest.hexdigest()
