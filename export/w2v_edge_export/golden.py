"""Writes golden vectors; `w2v_edge.bundle.golden` says what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export import reference
from w2v_edge_export.golden_clip import speech_like
from w2v_edge_export.parity import BARS

SECONDS = 3.2
SHORTER = 0.58
"""Share of the second utterance that is valid; the rest is garbage."""


def write_golden(model: SpeechModel, path: Path, bundle: Model | None = None) -> None:
    """Run the PyTorch model on the generated clip and write inputs and outputs.

    Given a `bundle`, its outputs are written in place of PyTorch's.
    """
    rate = model.config.sample_rate
    clip = speech_like(SECONDS, rate)
    samples = max(len(clip), 3 * model.config.geometry.receptive_field)
    clip = np.resize(clip, samples)
    other = clip[::-1].copy()
    lengths = np.array([samples, int(samples * SHORTER)], dtype=np.int64)
    references = [
        reference.encode(model, x[:n]) for x, n in zip((clip, other), lengths, strict=True)
    ]
    other[lengths[1] :] = 1e3
    frames = model.config.geometry.frames(samples)
    arrays = reference.padded_batch(references, frames, model.config.context_frames(frames))
    arrays |= reference.spreads(references[0])
    arrays["waveform"] = np.stack([clip, other])
    arrays["lengths"] = lengths
    if bundle is not None:
        arrays |= _outputs(bundle, {name: arrays[name] for name in ("waveform", "lengths")})
    arrays["bars"] = np.array(json.dumps(BARS))
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _outputs(bundle: Model, batch: reference.Arrays) -> reference.Arrays:
    outputs = bundle.run("encoder", **batch)
    if "tokenizer" in bundle.manifest.graphs:
        source = bundle.manifest.quantizer_input
        assert source is not None
        codes = bundle.run("tokenizer", **batch)
        vectors = bundle.run("quantizer", **{source: outputs[source]})["vectors"]
        valid = np.arange(vectors.shape[1]) < codes["frame_lengths"][:, None]
        outputs["codes"] = codes["codes"]
        outputs["vectors"] = np.where(valid[..., None], vectors, np.float32(0))
    return outputs
