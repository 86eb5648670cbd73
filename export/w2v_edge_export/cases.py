"""Test cases of the parity gate, and the reference result of each utterance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_edge import data
from w2v_edge.audio import Waveform
from w2v_edge.bundle import Manifest
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge_export import reference
from w2v_edge_export.reference import Reference, Rounding, Tensors

RAGGED = 6
"""Utterances in a ragged batch."""

SPEECH_SECONDS = 3.7
"""Length of a case of speech, alone and ragged; standard deviations are measured on it."""

LONG_SECONDS = 20.0
"""Longest length: beyond the distances that relative positions tell apart, 16 s in WavLM."""

LIVE_TENSORS = 6
"""Tensors of the largest size that PyTorch holds at a time."""

THOROUGH_SECONDS = (0.5, 1.0, 7.3, 30.0)
"""Lengths of the thorough set, each alone and in a ragged batch."""

KEPT_BYTES = 2**29
"""Reference results held in memory; enough for all cases, unless every layer is an output."""


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
        codes_only: leave out the encoder, for a case of the tokenizer and the quantizer.
    """

    name: str
    utterances: tuple[Utterance, ...]
    samples: int
    codes_only: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether there are several utterances, or padding."""
        return len(self.utterances) > 1 or self.utterances[0].samples < self.samples

    @property
    def is_speech(self) -> bool:
        """Whether this is one utterance of speech."""
        return not self.is_batch and self.utterances[0].source == "speech"


class CaseAudio:
    """Audio of the gate, and the reference results for it.

    Attributes:
        speech: the utterance on which standard deviations and rounding are measured.
        std: standard deviation of each output across frames, as `NAME_std`.
        rounding: float32's own rounding error, the largest of all cases on which it was measured.
    """

    def __init__(self, model: SpeechModel, manifest: Manifest) -> None:
        """Prepare the sources, and measure standard deviations and rounding on a case of speech.

        Args:
            model: the PyTorch model, in eval mode.
            manifest: of the bundle that is compared with it.
        """
        self.model = model
        self.manifest = manifest
        rate = manifest.sample_rate
        longest = round(max(LONG_SECONDS, SPEECH_SECONDS, *THOROUGH_SECONDS) * rate)
        longest = max(longest, manifest.most_samples or 0)
        speech = np.concatenate(list(data.clips(rate).values()))
        rng = np.random.default_rng(0)
        self.sources = {
            "speech": np.resize(speech, max(longest + rate, len(speech))),
            "noise": (0.1 * rng.standard_normal(longest)).astype(np.float32),
        }
        self.garbage = rng.standard_normal(longest).astype(np.float32) * 1e4
        self.garbage[::7] = np.nan
        self._kept: dict[tuple[Utterance, bool], Reference] = {}
        self.speech = Utterance("speech", 0, round(SPEECH_SECONDS * rate))
        measured = self.reference_of(self.speech)
        self.std = reference.standard_deviations(measured)
        self.rounding = reference.measure_rounding(model, self.waveform(self.speech), measured)

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
            while self._kept and found.nbytes + self._kept_bytes() > KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return self._kept[key]

    def _kept_bytes(self) -> int:
        return sum(x.nbytes for x in self._kept.values())

    def references(self, case: ParityCase) -> list[Reference]:
        """Return the PyTorch results of each utterance of a case."""
        return [self.reference_of(x, context=not case.codes_only) for x in case.utterances]

    def measure_rounding(self, case: ParityCase, evaluations: range) -> list[Rounding]:
        """Measure float32's own rounding error on each utterance of a case."""
        found = []
        for utterance in case.utterances:
            waveform = self.waveform(utterance)
            exact = self.reference_of(utterance, context=not case.codes_only)
            found.append(reference.measure_rounding(self.model, waveform, exact, evaluations))
            self.rounding.add(found[-1])
        return found

    def batch(self, case: ParityCase) -> Tensors:
        """Return the inputs of a case: `waveform` (b, t), padded with garbage, and `lengths`."""
        waveform = np.tile(np.resize(self.garbage, case.samples), (len(case.utterances), 1))
        for row, utterance in zip(waveform, case.utterances, strict=True):
            row[: utterance.samples] = self.waveform(utterance)
        lengths = np.array([x.samples for x in case.utterances], dtype=np.int64)
        return {"waveform": waveform, "lengths": lengths}

    def expected(self, case: ParityCase, references: list[Reference]) -> Tensors:
        """Return the outputs expected of a case, and the standard deviation of each."""
        frames = self.manifest.geometry.frames(case.samples)
        context_frames = self.model.config.context_frames(frames)
        return reference.padded_batch(references, frames, context_frames) | self.std


def longest_that_fits(config: ModelConfig, available: int | None) -> float:
    """Return the seconds for which PyTorch's float64 takes half of the memory, 3.7 s at least.

    Args:
        config: of the model.
        available: memory in bytes; None if the system does not report it.
    """
    if available is None:
        return math.inf
    first, rate, hop = config.feature_encoder.layers[0], config.sample_rate, config.geometry.hop
    # Bytes for a second of the first convolution's output, and of attention for a second squared.
    linear = 8 * LIVE_TENSORS * first.channels * rate / first.stride
    squared = 8 * LIVE_TENSORS * config.context.heads * (rate / hop) ** 2
    fits = (math.sqrt(linear**2 + 2 * squared * available) - linear) / (2 * squared)
    return max(SPEECH_SECONDS, math.floor(fits))


def parity_cases(
    manifest: Manifest, tile_frames: int, *, thorough: bool, fits: float = math.inf
) -> list[ParityCase]:
    """Return the cases of the gate, the shortest first: a broken graph fails early.

    Lengths are those at which something can break: around one receptive field, an odd one, around
    the edge of a tile of the front end, a few tiles, and one long.

    Args:
        manifest: of the bundle.
        tile_frames: frames in a tile of the front end.
        thorough: every length as speech, as noise and in a ragged batch, and more lengths.
        fits: longest length that the memory allows, in seconds.
    """
    geometry, rate = manifest.geometry, manifest.sample_rate
    field = geometry.receptive_field
    odd = 17 * geometry.hop + 123 | 1
    tile = geometry.min_samples + (tile_frames - 1) * geometry.hop
    everything = ("speech", "noise", "ragged")
    longest = min(manifest.longest_context_seconds, fits)
    if thorough and not manifest.shapes:
        # A ragged batch needs the attention memory of one utterance sqrt(RAGGED) times as long.
        longest /= math.sqrt(RAGGED)
    by_samples = {
        field: ("speech",),
        field + 1: ("noise",),
        odd: everything,
        tile: ("noise",),
        tile + geometry.hop: ("speech",),
    }
    by_seconds: dict[float, tuple[str, ...]] = {min(LONG_SECONDS, longest): ("speech",)}
    by_seconds[SPEECH_SECONDS] = ("speech", "ragged")
    if thorough:
        by_seconds |= {min(seconds, longest): everything for seconds in THOROUGH_SECONDS}
    lengths = {n: (f"{n} samples", kinds) for n, kinds in by_samples.items()}
    lengths |= {round(s * rate): (f"{s:g} s", kinds) for s, kinds in by_seconds.items()}
    if manifest.shapes:
        lengths |= {x.samples: (f"{x.samples} samples", everything) for x in manifest.shapes}
        lengths = {n: x for n, x in lengths.items() if n <= round(longest * rate)}
    cases = _random_lengths(manifest, round(longest * rate))
    for n, (label, kinds) in sorted(lengths.items()):
        for kind in everything if thorough else kinds:
            if kind == "ragged":
                ragged = _ragged(n, geometry.min_samples, rate)
                cases.append(ParityCase(f"{label} x {RAGGED}, ragged", ragged, n))
            else:
                cases.append(ParityCase(f"{label}, {kind}", (Utterance(kind, 0, n),), n))
    return cases


def _random_lengths(manifest: Manifest, most: int) -> list[ParityCase]:
    """Return an utterance of a random length for each fixed shape, padded with garbage to it."""
    random, cases = np.random.default_rng(0), []
    for shape in manifest.shapes:
        samples = int(random.integers(manifest.min_samples, min(shape.samples, most)))
        utterance = Utterance("speech", int(random.integers(manifest.sample_rate)), samples)
        name = f"{samples} samples padded to {shape.samples}"
        cases.append(ParityCase(name, (utterance,), shape.samples))
    return cases


def _ragged(samples: int, shortest: int, rate: int) -> tuple[Utterance, ...]:
    """Return utterances of up to `samples`: speech and noise, one too short for a frame."""
    shares = (1.0, 0.83, 0.61, 0.34, 0.12)
    lengths = [min(samples, max(shortest, round(samples * share))) for share in shares]
    sources = (("speech", 0), ("noise", 0), ("speech", rate))
    ragged = [Utterance(*sources[i % 3], length) for i, length in enumerate(lengths)]
    return (*ragged, Utterance("speech", 0, shortest - 1))


def more_speech(audio: CaseAudio, index: int, name: str) -> ParityCase:
    """Return 10 s of speech at another offset and level, for more codes to compare."""
    samples = round(min(10, audio.manifest.longest_context_seconds) * audio.manifest.sample_rate)
    available = len(audio.sources["speech"])
    start = (index * 7919) % max(1, available - samples)
    length = min(samples, available - start)
    utterance = Utterance("speech", start, length, 0.5 + index % 5 / 4)
    return ParityCase(name, (utterance,), length, codes_only=True)


def more_frames(audio: CaseAudio, index: int) -> tuple[npt.NDArray[np.float32], Tensors]:
    """Return frames of speech with noise added, (1, n, d), and the quantizer's outputs for them.

    They choose entries that the cases of speech do not, and need no feature encoder.
    """
    model = audio.model
    speech = audio.reference_of(audio.speech)
    values = speech.arrays[model.config.quantizer_input or "features"]
    shapes = audio.manifest.shapes
    if shapes:
        values = values[: min(shapes[-1].frames, shapes[-1].context_frames)]
    noise = np.random.default_rng(index).standard_normal(values.shape)
    frames = (values + 0.5 * values.std(axis=0) * noise).astype(np.float32)[np.newaxis]
    return frames, reference.quantize_frames(model, frames)
