"""Encoding a shard with one model: short recordings in batches, long ones in chunks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

import w2v_edge
from w2v_edge.audio import Waveform
from w2v_edge.audio.audio_file import AudioFile
from w2v_edge.corpus.entries import Entry, open_entry
from w2v_edge.corpus.job import CorpusOptions, Shard
from w2v_edge.corpus.storage import Folder
from w2v_edge.corpus.table import EncodedRecording, ShardSummary, read_summary, to_parquet
from w2v_edge.errors import BundleError, InputError, MissingExtraError, ProviderError, TuningError
from w2v_edge.runtime.buffers import GrowingArray
from w2v_edge.runtime.embedding import Embedding, check_embedding
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.recordings import Recording
from w2v_edge.runtime.window import check_window, whole_seconds

Results = Generator[tuple[Shard, ShardSummary], None, None]
"""What an engine yields: shards as they are done."""

ATTEMPTS = 4
"""Attempts at a shard whose worker dies, before it is left out."""

FATAL = (BundleError, MissingExtraError, ProviderError, TuningError)
"""Errors that would hit every recording, not only the current one."""


@dataclass(frozen=True)
class JobSpec:
    """The description of a job for its workers.

    Attributes:
        bundle: folder of the bundle, on the worker's machine.
        options: what is computed.
        output: folder of the shards, an absolute path or a URI.
    """

    bundle: Path
    options: CorpusOptions
    output: str


class Worker:
    """Encodes shards with one model, from as many threads as call it."""

    def __init__(self, job: JobSpec, stopped: Callable[[], bool] = lambda: False) -> None:
        """Take a job; the bundle is opened on first use.

        Args:
            job: the job.
            stopped: asked between recordings whether to stop.
        """
        self._job = job
        self._stopped = stopped

    def open(self) -> Encoder:
        """Return the encoder, which the first call makes; errors as of `w2v_edge.load`."""
        return self._encoder

    def __call__(self, shard: Shard) -> ShardSummary:
        """Encode a shard and write its file, unless another attempt did.

        Raises:
            W2VEdgeError: no recording can be encoded here.
            OSError: the file cannot be written.
        """
        if (done := summary_of(self._folder, shard.name)) is not None:
            return done
        encoded = self.open().encode(shard.entries)
        data = to_parquet(self._model.manifest, self._job.options, shard.entries, encoded)
        self._folder.write(shard.name, data)
        return ShardSummary.of(shard.entries, encoded)

    @contextmanager
    def attempt(self, shard: Shard) -> Iterator[Shard | None]:
        """Count an attempt at a shard that may end this process; yields None after `ATTEMPTS`.

        An engine cannot tell a machine that was taken away from a file that crashes its reader, and
        would try that file for ever.
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
        return Folder(self._job.output)

    @cached_property
    def _model(self) -> w2v_edge.Model:
        options = self._job.options
        return w2v_edge.load(self._job.bundle, **options.running | {"threads": options.threads})

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._model, self._job.options, self._stopped)


def summary_of(folder: Folder, name: str) -> ShardSummary | None:
    """Return the summary of a shard; None if its file is missing or incomplete."""
    try:
        with folder.open(name) as stream:
            return read_summary(stream)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Encoder:
    """Encodes lists of recordings; the result depends on the list and nothing else."""

    def __init__(
        self, model: w2v_edge.Model, options: CorpusOptions, stopped: Callable[[], bool]
    ) -> None:
        """Take a model.

        Args:
            model: the model.
            options: what is computed.
            stopped: asked between recordings whether to stop.

        Raises:
            W2VEdgeError: the model does not run here.
        """
        self._model = model
        self._options = options
        self._stopped = stopped
        self._has_codes = "tokenizer" in model.manifest.graphs
        # A worker without memory for the model must fail once, not for every file.
        graph = "encoder" if options.needs_context else "tokenizer"
        running = model.session.open(graph).provider
        seconds = model.session.execution.group_seconds(running)
        self._group_samples = round(seconds * model.sample_rate)
        self._whole_samples = round(self._whole_seconds * model.sample_rate)

    def encode(self, entries: Sequence[Entry]) -> list[EncodedRecording]:
        """Encode recordings; one that fails has an error instead of codes.

        Raises:
            BundleError, MissingExtraError, ProviderError, TuningError: no recording can be encoded.
            KeyboardInterrupt: the job was stopped.
        """
        done: dict[int, EncodedRecording] = {}
        group: dict[int, Waveform] = {}
        for i, entry in enumerate(entries):
            self._check_stopped()
            try:
                read = self._read(entry)
            except FATAL:
                raise
            except Exception as error:  # noqa: BLE001 - any error of one file
                failed = _failed(error)
                # The row has a column for the path.
                reason = (failed.error or "").removeprefix(f"{entry.path}: ")
                done[i] = replace(failed, error=reason)
                continue
            if isinstance(read, EncodedRecording):
                done[i] = read
            else:
                group[i] = read
            if sum(map(len, group.values())) >= self._group_samples:
                done |= self._encode_group(group)
                group = {}
        done |= self._encode_group(group)
        return [done[i] for i in range(len(entries))]

    def _read(self, entry: Entry) -> Waveform | EncodedRecording:
        """Read a recording whole, or encode it in chunks if it is too long for that."""
        with open_entry(entry, self._model.sample_rate) as audio:
            waveform = Recording(audio, self._model.manifest).read(self._whole_samples)
            return self._encode_long(audio) if waveform is None else waveform

    def _encode_group(self, group: dict[int, Waveform]) -> dict[int, EncodedRecording]:
        """Encode waveforms in batches; if that fails, one by one."""
        if not group:
            return {}
        try:
            return dict(zip(group, self._encode_batches(list(group.values())), strict=True))
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001 - any error of one file
            if len(group) == 1:
                return dict.fromkeys(group, _failed(error))
        done: dict[int, EncodedRecording] = {}
        for i, waveform in group.items():
            done |= self._encode_group({i: waveform})
        return done

    def _encode_batches(self, waveforms: list[Waveform]) -> list[EncodedRecording]:
        options, window = self._options, self._options.window
        seconds = [len(x) / self._model.sample_rate for x in waveforms]
        if not options.needs_context:
            codes = self._model.tokenize(waveforms, window=window)
            return [EncodedRecording(s, x) for s, x in zip(seconds, codes, strict=True)]
        encodings = self._model.encode(waveforms, window=window)
        return [
            EncodedRecording(
                s,
                x.codes,
                x.context if options.context else None,
                _mean(x.context.sum(axis=0, dtype=np.float64), len(x.context))
                if options.pooled
                else None,
                _embedding(x) if options.embedding else None,
            )
            for s, x in zip(seconds, encodings, strict=True)
        ]

    def _encode_long(self, audio: AudioFile) -> EncodedRecording:
        """Encode in chunks; only what was asked for stays in memory."""
        options, manifest = self._options, self._model.manifest
        source = _CountedSource(audio)
        with_context = options.needs_context or manifest.quantizer_input == "context"
        codes, context = GrowingArray(), GrowingArray()
        last = None
        total, frames = np.zeros(manifest.context_dim), 0
        chunks = self._model.encode_blocks(source, context=with_context, window=options.window)
        for chunk in chunks:
            self._check_stopped()
            if chunk.codes is not None:
                codes.append(chunk.codes)
            if options.context:
                context.append(chunk.context)
            if options.pooled:
                total += chunk.context.sum(axis=0, dtype=np.float64)
                frames += len(chunk.context)
            last = chunk
        return EncodedRecording(
            source.samples / self._model.sample_rate,
            codes.take() if self._has_codes else None,
            context.take() if options.context else None,
            _mean(total, frames) if options.pooled else None,
            _embedding(last) if options.embedding else None,
        )

    @property
    def _whole_seconds(self) -> float:
        """Longest recording that is run whole, in s, as in `Model`."""
        manifest, options = self._model.manifest, self._options
        if not options.needs_context and manifest.quantizer_input == "features":
            return whole_seconds(manifest)
        if options.window is None:
            return manifest.longest_context_seconds
        return check_window(options.window, manifest).seconds

    def _check_stopped(self) -> None:
        if self._stopped():
            raise KeyboardInterrupt


class _CountedSource:
    """A recording that counts its samples as they are read."""

    def __init__(self, audio: AudioFile) -> None:
        self.sample_rate = audio.sample_rate
        self.samples = 0
        self._audio = audio

    def blocks(self) -> Iterator[Waveform]:
        """Yield the waveform (t,) in blocks."""
        self.samples = 0
        for block in self._audio.blocks():
            self.samples += len(block)
            yield block


def _embedding(encoding: Encoding | None) -> Embedding:
    """Return the embedding of an encoding, or of the last chunk of one.

    Raises:
        InputError: it is missing, or not finite.
    """
    if encoding is None or encoding.embedding is None:
        raise InputError("found no embedding; choose a longer window")
    return check_embedding(encoding.embedding)


def _failed(error: Exception) -> EncodedRecording:
    return EncodedRecording(error=" ".join(str(error).split()) or type(error).__name__)


def _mean(total: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float32] | None:
    return (total / frames).astype(np.float32) if frames else None
