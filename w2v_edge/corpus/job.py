"""Jobs: their options, their shards, and the record that identifies them in an output folder."""

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
from w2v_edge.runtime.embedding import require_embedding
from w2v_edge.runtime.window import Window, check_window

RECORD = "_job.json"
"""Parquet readers skip names that start with an underscore."""
LARGEST_SHARD = 1000
LARGEST_SHARD_OF_FRAMES = 100
"""With the context of each frame, about 1.5 MB for 10 s of a `base` model."""
USUAL_SHARDS = 64
"""Smallest number of shards, if there are enough files: as many workers can be busy."""


@dataclass(frozen=True)
class CorpusOptions:
    """What is computed for each recording, and how.

    Attributes:
        context: whether to write the context vector of each frame.
        pooled: whether to write the mean of the context over each recording.
        embedding: whether to write the embedding of each recording, which `search` reads.
        window: attention window for longer recordings; see `Model.encode`.
        running: load options, the arguments of `w2v_edge.load`, with one provider; `threads` is the
            number for each worker, 1 by default.
    """

    context: bool = False
    pooled: bool = False
    embedding: bool = False
    window: Window | None = None
    running: dict[str, Any] = field(default_factory=dict)

    @property
    def needs_context(self) -> bool:
        """Whether the transformer has to run."""
        return self.context or self.pooled or self.embedding

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return self.running.get("threads") or 1

    @property
    def provider(self) -> tuple[str, dict[str, str]]:
        """The provider's name and options."""
        given = self.running.get("provider", "cpu")
        name, options = (given, {}) if isinstance(given, str) else given
        return name, {str(key): str(value) for key, value in options.items()}

    def check(self, manifest: Manifest) -> None:
        """Check that a bundle supports the options.

        Raises:
            GraphMissingError: nothing would be computed.
            HeadMissingError: the model has no embedding.
            InputError: the model does not support the window.
        """
        if "tokenizer" not in manifest.graphs and not self.needs_context:
            raise GraphMissingError(
                "this model has no quantizer, so there are no codes; ask for context vectors "
                "(--context), their mean over each file (--pooled) or, if the model has one, its "
                "--embedding"
            )
        if self.embedding:
            require_embedding(manifest)
        if self.window is not None:
            check_window(self.window, manifest)

    def check_runs(self) -> None:
        """Check that the provider runs on this machine.

        Raises:
            ProviderError: it does not run.
            MissingExtraError: onnxruntime is not installed.
        """
        chosen, fallback = self.running.get("provider", "cpu"), self.running.get("allow_fallback")
        choose(chosen, self.threads, allow_fallback=bool(fallback))


@dataclass(frozen=True)
class Shard:
    """Some recordings of a corpus, and the file for their results.

    Attributes:
        number: from 0.
        name: name of the file.
        entries: the recordings.
    """

    number: int
    name: str
    entries: tuple[Entry, ...]


def plan(entries: Sequence[Entry], size: int) -> list[Shard]:
    """Split recordings into shards of `size`, in order."""
    begins = range(0, len(entries), size)
    digits = max(5, len(str(len(begins) - 1)))
    return [
        Shard(number, f"shard-{number:0{digits}}.parquet", tuple(entries[begin : begin + size]))
        for number, begin in enumerate(begins)
    ]


def default_shard_size(files: int, options: CorpusOptions) -> int:
    """Return the number of recordings in a shard; it depends on the job alone."""
    largest = LARGEST_SHARD_OF_FRAMES if options.context else LARGEST_SHARD
    return max(1, min(largest, -(-files // USUAL_SHARDS)))


@dataclass(frozen=True)
class JobRecord:
    """Everything that the contents of the shards depend on."""

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
    embedding: bool = False

    @classmethod
    def of(
        cls, manifest: Manifest, options: CorpusOptions, entries: Sequence[Entry], size: int
    ) -> JobRecord:
        """Describe a job."""
        window = options.window
        provider, provider_options = options.provider
        return cls(
            format="w2v-edge corpus 1",
            bundle_sha256=manifest.sha256,
            context=options.context,
            pooled=options.pooled,
            window=None if window is None else (window.step, window.left, window.right),
            provider=provider,
            provider_options=provider_options,
            tuned=bool(options.running.get("tuned")),
            shard_size=size,
            files=len(entries),
            files_sha256=_hash(entries),
            embedding=options.embedding,
        )


def begin(folder: Folder, record: JobRecord, *, force: bool) -> set[str]:
    """Start or continue a job in a folder; return the names of its finished shards.

    Args:
        folder: the output.
        record: the job.
        force: whether to remove a job that is there.

    Raises:
        OutputExistsError: the folder holds another job, or files of other kinds.
    """
    names = {name for name in folder.names() if not name.startswith(".")}
    shards = {name for name in names if name.startswith("shard-") and name.endswith(".parquet")}
    if RECORD not in names and names:
        raise OutputExistsError(
            f"{folder.location} holds {min(names)!r:.60} and no {RECORD}; choose another output"
        )
    resumes = RECORD in names and not force
    if resumes:
        _check_same(folder, record)
    sweep(folder)
    if resumes:
        return shards
    for name in sorted(shards):
        folder.delete(name)
    folder.write(RECORD, json.dumps(strict.to_plain(record), indent=1, allow_nan=False).encode())
    return set()


def sweep(folder: Folder) -> None:
    """Remove the temporary files and attempt counts of killed workers."""
    for name in folder.names():
        if name.startswith(".shard-"):
            folder.delete(name)


def read_record(folder: Folder) -> JobRecord:
    """Read the record of the job in a folder.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return strict.from_plain(JobRecord, json.loads(folder.read(RECORD)))
    except (ValueError, ConfigError, OSError, RecursionError) as error:
        raise InputError(
            f"{folder.location}/{RECORD}: not the record of a job; choose another output, or "
            "replace it with --force"
        ) from error


def _check_same(folder: Folder, record: JobRecord) -> None:
    there = read_record(folder)
    for name in (x.name for x in fields(JobRecord)):
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
