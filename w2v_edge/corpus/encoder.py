"""Recordings of a shard to their outcomes: short ones in batches, long ones in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import AudioFile, Waveform, check_length
from w2v_edge.corpus.entries import Entry, open_entry
from w2v_edge.corpus.job import Settings
from w2v_edge.corpus.table import Outcome
from w2v_edge.errors import BundleError, MissingExtraError, ProviderError, TuningError
from w2v_edge.runtime.buffers import GrowingArray
from w2v_edge.runtime.model import WHOLE_SECONDS, Model
from w2v_edge.runtime.recordings import read_whole
from w2v_edge.runtime.window import check_window

T = TypeVar("T")

NO_FAULT_OF_A_FILE = (BundleError, MissingExtraError, ProviderError, TuningError)

GROUP_SECONDS = {"cpu": 60.0}
"""Audio from which batches are made up."""
ACCELERATOR_GROUP_SECONDS = 600.0


class Encoder:
    """Makes outcomes of recordings. They depend on the list of recordings and on nothing else."""

    def __init__(self, model: Model, settings: Settings, stopped: Callable[[], bool]) -> None:
        """Take a model, and what is to be asked now and then, to break off.

        Raises:
            W2VEdgeError: the model does not run here.
        """
        self._model = model
        self._settings = settings
        self._stopped = stopped
        self._has_codes = "tokenizer" in model.manifest.graphs
        # A worker that has no room for the model must not say so of every file.
        model.prepare("encoder" if settings.needs_context else "tokenizer")
        seconds = GROUP_SECONDS.get(model.provider, ACCELERATOR_GROUP_SECONDS)
        self._group = round(seconds * model.sample_rate)
        self._most = round(self._whole_seconds * model.sample_rate)

    def outcomes(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Encode recordings; one that cannot be has an error instead.

        Raises:
            BundleError, MissingExtraError, ProviderError, TuningError: no recording can be.
            KeyboardInterrupt: it was to break off.
        """
        found: dict[int, Outcome] = {}
        held: dict[int, Waveform] = {}
        for i, entry in enumerate(entries):
            self._break_off()
            one = _attempt(lambda entry=entry: self._open(entry))  # type: ignore[misc]
            if isinstance(one, Outcome):
                found[i] = _without_path(one, entry)
            else:
                held[i] = one
            if sum(map(len, held.values())) >= self._group:
                found |= self._flush(held)
                held = {}
        found |= self._flush(held)
        return [found[i] for i in range(len(entries))]

    def _open(self, entry: Entry) -> Waveform | Outcome:
        """Read a recording whole, or encode it where it is too long for that."""
        with open_entry(entry, self._model.sample_rate) as audio:
            waveform = read_whole(audio, self._most)
            if waveform is None:
                return self._long(audio)
        check_length(len(waveform), self._model.manifest.geometry, self._model.sample_rate)
        return waveform

    def _flush(self, held: dict[int, Waveform]) -> dict[int, Outcome]:
        return dict(zip(held, self._whole(list(held.values())), strict=True)) if held else {}

    def _whole(self, waveforms: list[Waveform]) -> list[Outcome]:
        """Encode waveforms in batches; where that fails, one by one."""
        made = _attempt(lambda: self._batches(waveforms))
        if not isinstance(made, Outcome):
            return made
        if len(waveforms) == 1:
            return [made]
        return [outcome for x in waveforms for outcome in self._whole([x])]

    def _batches(self, waveforms: list[Waveform]) -> list[Outcome]:
        rate, window = self._model.sample_rate, self._settings.window
        seconds = [len(x) / rate for x in waveforms]
        if not self._settings.needs_context:
            codes = self._model.tokenize(waveforms, window=window)
            return [Outcome(s, x) for s, x in zip(seconds, codes, strict=True)]
        return [
            self._outcome(s, encoding.codes, encoding.context)
            for s, encoding in zip(
                seconds, self._model.encode(waveforms, window=window), strict=True
            )
        ]

    def _outcome(
        self,
        seconds: float,
        codes: npt.NDArray[np.int64] | None,
        context: npt.NDArray[np.float32],
    ) -> Outcome:
        asked = self._settings
        pooled = _mean(context.sum(axis=0, dtype=np.float64), len(context))
        return Outcome(
            seconds,
            codes,
            context if asked.context else None,
            pooled if asked.pooled else None,
        )

    def _long(self, audio: AudioFile) -> Outcome:
        """Encode piece by piece; nothing is held but what was asked for."""
        asked = self._settings
        source = _Counted(audio)
        with_context = asked.needs_context or self._model.manifest.quantizer_input == "context"
        codes, context = GrowingArray(), GrowingArray()
        total, frames = np.zeros(self._model.manifest.context_dim), 0
        for piece in self._model.encode_blocks(source, context=with_context, window=asked.window):
            self._break_off()
            if piece.codes is not None:
                codes.append(piece.codes)
            if asked.context:
                context.append(piece.context)
            if asked.pooled:
                total += piece.context.sum(axis=0, dtype=np.float64)
                frames += len(piece.context)
        return Outcome(
            source.samples / self._model.sample_rate,
            codes.take() if self._has_codes else None,
            context.take() if asked.context else None,
            _mean(total, frames) if asked.pooled else None,
        )

    @property
    def _whole_seconds(self) -> float:
        """Return the seconds up to which a recording is run as a whole, as `Model` does it."""
        manifest, asked = self._model.manifest, self._settings
        if not asked.needs_context and manifest.quantizer_input == "features":
            return WHOLE_SECONDS
        if asked.window is None:
            return manifest.longest_context_seconds
        return check_window(asked.window, manifest).seconds

    def _break_off(self) -> None:
        if self._stopped():
            raise KeyboardInterrupt


class _Counted:
    """A recording that counts its samples as it is read."""

    def __init__(self, audio: AudioFile) -> None:
        self.sample_rate = audio.sample_rate
        self.samples = 0
        self._audio = audio

    def blocks(self) -> Iterator[Waveform]:
        """Yield the waveform (samples,) in blocks."""
        self.samples = 0
        for block in self._audio.blocks():
            self.samples += len(block)
            yield block


def _attempt(work: Callable[[], T]) -> T | Outcome:
    """Do work on recordings; an error becomes an outcome, unless it would be that of all."""
    try:
        return work()
    except NO_FAULT_OF_A_FILE:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the other files are to be done
        return Outcome(error=" ".join(str(error).split()) or type(error).__name__)


def _without_path(outcome: Outcome, entry: Entry) -> Outcome:
    """The row has a path of its own."""
    if outcome.error is None:
        return outcome
    return replace(outcome, error=outcome.error.removeprefix(f"{entry.path}: "))


def _mean(total: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float32] | None:
    return (total / frames).astype(np.float32) if frames else None
