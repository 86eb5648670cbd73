"""Golden vectors: a generated clip and the outputs expected for it.

See `w2v_edge.bundle.golden` for the contents of `golden.npz`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from w2v_edge.agreement import RELATIVE_TOLERANCE
from w2v_edge.audio import Waveform
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export import reference
from w2v_edge_export.graph_builder import known
from w2v_edge_export.parity import TOLERANCES
from w2v_edge_export.reference import Reference, Rounding


def speech_like(seconds: float, sample_rate: int, seed: int = 0) -> Waveform:
    """Generate mono PCM (samples,) in [-1, 1].

    A pulse train with a gliding pitch and noise, through three moving resonances, in syllables
    with pauses between them that are 50 dB down.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * sample_rate)
    time = np.arange(samples) / sample_rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time) + 15 * np.sin(2 * np.pi * 2.3 * time)
    phase = np.cumsum(pitch) / sample_rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    noise = rng.standard_normal(samples)
    voicing = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 3.1 * time))
    source = voicing * pulses * 8 + (1.1 - voicing) * noise * 0.3
    voiced = sum(
        _resonance(source, centre + swing * np.sin(2 * np.pi * rate * time), sample_rate)
        for centre, swing, rate in ((550, 200, 1.7), (1500, 500, 1.1), (2600, 300, 0.8))
    )
    syllables = np.clip(np.sin(2 * np.pi * 1.9 * time) + 0.4, 0, None) * (time % 1.7 < 1.2)  # noqa: PLR2004
    clip = voiced / np.abs(voiced).max() * (syllables + 0.003) / 1.403
    pcm: Waveform = (0.6 * clip + 1e-4 * noise).astype(np.float32)
    return pcm


def _resonance(
    source: np.ndarray[tuple[int], np.dtype[np.float64]],
    frequency: np.ndarray[tuple[int], np.dtype[np.float64]],
    sample_rate: int,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Filter with one pole pair that moves; its bandwidth is 100 Hz."""
    radius = np.exp(-np.pi * 100 / sample_rate)
    feedback = 2 * radius * np.cos(2 * np.pi * frequency / sample_rate)
    out = np.zeros_like(source)
    last = before = 0.0
    for i, (x, a) in enumerate(zip(source.tolist(), feedback.tolist(), strict=True)):
        last, before = x + a * last - radius**2 * before, last
        out[i] = last
    return out


SECONDS = 3.2
AMPLIFIED = 0.25
"""Share of the usual tolerance from which rounding is measured by more evaluations."""

SHORTER = 0.58
"""Valid share of the second utterance; garbage follows."""


def write_golden(
    model: SpeechModel,
    path: Path,
    bundle: Model | None = None,
    most_samples: int | None = None,
    tolerances: Mapping[str, Mapping[str, float]] = TOLERANCES,
) -> None:
    """Run the PyTorch model on the generated clip and write inputs and outputs.

    Args:
        model: in eval mode.
        path: of `golden.npz`.
        bundle: its outputs are written in place of PyTorch's.
        most_samples: of the clip; None for 3.2 s.
        tolerances: by precision.
    """
    rate = model.config.sample_rate
    clip = speech_like(SECONDS, rate)
    samples = max(len(clip), 3 * model.config.geometry.receptive_field)
    clip = np.resize(clip, samples if most_samples is None else min(samples, most_samples))
    samples = len(clip)
    other = clip[::-1].copy()
    lengths = np.array([samples, int(samples * SHORTER)], dtype=np.int64)
    references = [
        reference.encode(model, x[:n]) for x, n in zip((clip, other), lengths, strict=True)
    ]
    frames = model.config.geometry.frames(samples)
    arrays = reference.padded_batch(references, frames, model.config.context_frames(frames))
    # Of the reference's scores only the margins are kept.
    arrays.pop("scores", None)
    arrays |= reference.standard_deviations(references[0])
    if bundle is None:
        arrays |= reference.rounding_tensors(
            [
                _rounding(model, x[:n], exact)
                for x, n, exact in zip((clip, other), lengths, references, strict=True)
            ]
        )
    other[lengths[1] :] = 1e3
    arrays["waveform"] = np.stack([clip, other])
    arrays["lengths"] = lengths
    if bundle is not None:
        arrays |= _outputs(bundle, {name: arrays[name] for name in ("waveform", "lengths")})
    arrays["bars"] = np.array(json.dumps(tolerances, allow_nan=False))
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _rounding(model: SpeechModel, waveform: Waveform, exact: Reference) -> Rounding:
    """Measure float32's own rounding error, by more evaluations where it sets a tolerance."""
    few, *_, many = reference.EVALUATIONS
    found = reference.measure_rounding(model, waveform, exact, range(few))
    stds = reference.standard_deviations(exact).items()
    if any(
        found.largest[name.removesuffix("_std")] > AMPLIFIED * RELATIVE_TOLERANCE * std
        for name, std in stds
    ):
        found.add(reference.measure_rounding(model, waveform, exact, range(few, many)))
    return found


def _outputs(bundle: Model, batch: reference.Tensors) -> reference.Tensors:
    outputs = bundle.run("encoder", **batch)
    if "tokenizer" in bundle.manifest.graphs:
        source = known(bundle.manifest.quantizer_input)
        codes = bundle.run("tokenizer", **batch)
        vectors = bundle.run("quantizer", **{source: outputs[source]})["vectors"]
        valid = np.arange(vectors.shape[1]) < codes["frame_lengths"][:, None]
        outputs["codes"] = codes["codes"]
        outputs["vectors"] = np.where(valid[..., None], vectors, np.float32(0))
    return outputs
