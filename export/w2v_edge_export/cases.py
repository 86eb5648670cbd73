"""Test cases of the parity gate, and the reference result of each utterance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from w2v_edge import data
from w2v_edge.audio import Waveform
from w2v_edge.bundle import Manifest
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge_export import reference
from w2v_edge_export.reference import Reference, Tensors

RAGGED = 6
"""Utterances in a ragged batch."""

STD_SECONDS = 7.3
"""Speech on which the standard deviations of all outputs are measured."""

KEPT_REFERENCES = 3
"""Reference results held: enough for a ragged batch to reuse the one of its longest utterance."""


@dataclass(frozen=True)
class Utterance:
    """A chunk of one of the gate's sources.

    Attributes:
        source: `speech` or `noise`.
        start: first sample.
        samples: length in samples.
        gain: factor on the samples.
    """

    source: str
    start: int
    samples: int
    gain: float = 1.0


@dataclass(frozen=True)
class ParityCase:
    """Utterances that are run together, padded to `samples`.

    Attributes:
        name: such as `7.3 s x 6, ragged`.
        utterances: one, or several of different lengths.
        samples: padded length in samples.
    """

    name: str
    utterances: tuple[Utterance, ...]
    samples: int

    @property
    def is_batch(self) -> bool:
        """Whether there are several utterances."""
        return len(self.utterances) > 1

    @property
    def is_speech(self) -> bool:
        """Whether this is one utterance of speech."""
        return not self.is_batch and self.utterances[0].source == "speech"


class CaseAudio:
    """Audio of the gate, and the reference results for it.

    Each utterance's reference is computed in `reference_of`, the only place that runs PyTorch.
    """

    def __init__(self, model: SpeechModel, manifest: Manifest, seconds: Sequence[float]) -> None:
        """Prepare the sources.

        Args:
            model: the PyTorch model, in eval mode.
            manifest: of the bundle that is compared with it.
            seconds: lengths of cases; the sources hold the longest.
        """
        self.model = model
        self.manifest = manifest
        rate = manifest.sample_rate
        longest = round(max(seconds) * rate)
        speech = np.concatenate(list(data.clips(rate).values()))
        rng = np.random.default_rng(0)
        self.sources = {
            "speech": np.resize(speech, max(longest + rate, len(speech))),
            "noise": (0.1 * rng.standard_normal(longest)).astype(np.float32),
        }
        self.garbage = rng.standard_normal(longest).astype(np.float32) * 1e4
        self.garbage[::7] = np.nan
        self._kept: dict[tuple[Utterance, bool], Reference] = {}
        measured = self.reference_of(Utterance("speech", 0, round(STD_SECONDS * rate)))
        self.std = reference.standard_deviations(measured)

    def waveform(self, utterance: Utterance) -> Waveform:
        """Return the samples of an utterance, (samples,)."""
        end = utterance.start + utterance.samples
        waveform: Waveform = self.sources[utterance.source][utterance.start : end]
        return waveform if utterance.gain == 1 else waveform * np.float32(utterance.gain)

    def reference_of(self, utterance: Utterance, *, context: bool = True) -> Reference:
        """Return the PyTorch results of an utterance; see `reference.encode`."""
        key = utterance, context
        if key not in self._kept:
            found = reference.encode(self.model, self.waveform(utterance), context=context)
            while len(self._kept) >= KEPT_REFERENCES:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return self._kept[key]

    def batch(self, case: ParityCase) -> Tensors:
        """Return the inputs of a case: `waveform` (b, t), padded with garbage, and `lengths`."""
        waveform = np.tile(self.garbage[: case.samples], (len(case.utterances), 1))
        for row, utterance in zip(waveform, case.utterances, strict=True):
            row[: utterance.samples] = self.waveform(utterance)
        lengths = np.array([x.samples for x in case.utterances], dtype=np.int64)
        return {"waveform": waveform, "lengths": lengths}

    def expected(self, case: ParityCase, references: list[Reference]) -> Tensors:
        """Return the outputs expected of a case, and the standard deviation of each."""
        frames = self.manifest.geometry.frames(case.samples)
        context_frames = self.model.config.context_frames(frames)
        return reference.padded_batch(references, frames, context_frames) | self.std


def parity_cases(manifest: Manifest, seconds: Sequence[float]) -> list[ParityCase]:
    """Return the cases of the gate, the shortest first: a broken graph fails early.

    Each length has one utterance of speech, one of noise, and a ragged batch.

    Args:
        manifest: of the bundle.
        seconds: lengths, beside those around one receptive field; shortened to what full attention
            over a ragged batch can take.
    """
    geometry, rate = manifest.geometry, manifest.sample_rate
    field = geometry.receptive_field
    odd = 17 * geometry.hop + 123 | 1
    # A ragged batch of six needs the attention memory of one utterance sqrt(6) times as long.
    longest = manifest.longest_context_seconds / math.sqrt(RAGGED)
    lengths = {
        **{samples: f"{samples} samples" for samples in (field, field + 1, odd)},
        **{round(s * rate): f"{s:g} s" for s in (min(s, longest) for s in seconds)},
    }
    cases = []
    for samples, label in sorted(lengths.items()):
        cases += [
            ParityCase(f"{label}, {source}", (Utterance(source, 0, samples),), samples)
            for source in ("speech", "noise")
        ]
        ragged = _ragged(samples, geometry.min_samples, rate)
        cases.append(ParityCase(f"{label} x {RAGGED}, ragged", ragged, samples))
    return cases


def _ragged(samples: int, shortest: int, rate: int) -> tuple[Utterance, ...]:
    """Return utterances of up to `samples`: speech and noise, one too short for a frame."""
    shares = (1.0, 0.83, 0.61, 0.34, 0.12)
    lengths = [min(samples, max(shortest, round(samples * share))) for share in shares]
    sources = (("speech", 0), ("noise", 0), ("speech", rate))
    ragged = [Utterance(*sources[i % 3], length) for i, length in enumerate(lengths)]
    return (*ragged, Utterance("speech", 0, shortest - 1))


def more_speech(audio: CaseAudio, index: int) -> ParityCase:
    """Return 10 s of speech at another offset and level, for more codes to compare."""
    samples = round(10 * audio.manifest.sample_rate)
    available = len(audio.sources["speech"])
    start = (index * 7919) % max(1, available - samples)
    length = min(samples, available - start)
    utterance = Utterance("speech", start, length, 0.5 + index % 5 / 4)
    return ParityCase(f"more speech {index + 1}", (utterance,), length)
