"""Reference results: the training-side PyTorch model in eval mode, each utterance alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.agreement import std_across_frames
from w2v_edge.audio import Waveform
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.padding import Frames
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge.model.speech_model import SpeechModel

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """Results for one utterance, without padding, by the names of `w2v_edge.bundle`.

    Attributes:
        arrays: outputs for each frame (n, ...): features, context, codes, vectors, margins and so
            on; outputs for the utterance (d,), such as embedding.
        lengths: for each array, the lengths tensor of a batch that it goes by; None where there is
            one vector for the utterance.
        frames: number of feature frames.
        context_frames: number of context frames, and of codes made from the context.
    """

    arrays: Tensors
    lengths: Mapping[str, str | None]
    frames: int
    context_frames: int


@torch.inference_mode()
def encode(model: SpeechModel, waveform: Waveform, *, context: bool = True) -> Reference:
    """Run the model on one waveform.

    Args:
        model: in eval mode.
        waveform: (samples,) float PCM.
        context: whether to run the transformer; it always runs where codes are made from its
            output.
    """
    lengths = torch.tensor([len(waveform)])
    features = model.features(torch.from_numpy(waveform).unsqueeze(0), lengths)
    frames = int(features.lengths[0])
    context_frames = model.config.context_frames(frames)
    made = {"features": features.values}
    quantized = features
    if context or model.config.quantizer_input == "context":
        made |= model.outputs(features)
    if model.config.quantizer_input == "context":
        quantized = Frames(made["context"], torch.tensor([context_frames]))
    if model.quantizer is not None:
        made |= _quantize(model.quantizer, quantized)
    arrays = {name: values[0].numpy() for name, values in made.items()}
    lengths_names = {name: lengths_of(model.config, name) for name in arrays}
    return Reference(arrays, lengths_names, frames, context_frames)


def _quantize(quantizer: VectorQuantizer, frames: Frames) -> dict[str, torch.Tensor]:
    found = quantizer(frames)
    logits = quantizer.logits(frames.values)
    best = logits.topk(2, dim=-1).values
    margins = (best[..., 0] - best[..., 1]) / _std(logits)
    return {"codes": found.codes, "vectors": found.vectors, "margins": margins}


def _std(logits: torch.Tensor) -> float:
    return max(float(logits.std()), 1e-12) if logits.numel() > 1 else 1.0


def padded_batch(references: list[Reference], frames: int, context_frames: int) -> Tensors:
    """Return the outputs expected for a batch, zero past each utterance's frames.

    Args:
        references: results for each utterance alone.
        frames: feature frames of the padded batch.
        context_frames: context frames of the padded batch.
    """
    batch: Tensors = {
        "frame_lengths": np.array([x.frames for x in references], dtype=np.int64),
        "context_lengths": np.array([x.context_frames for x in references], dtype=np.int64),
    }
    sizes = {"frame_lengths": frames, "context_lengths": context_frames}
    for name, first in references[0].arrays.items():
        lengths = references[0].lengths[name]
        if lengths is None:
            batch[name] = np.stack([x.arrays[name] for x in references])
            continue
        batch[name] = np.zeros((len(references), sizes[lengths], *first.shape[1:]), first.dtype)
        for row, reference in zip(batch[name], references, strict=True):
            row[: len(reference.arrays[name])] = reference.arrays[name]
    return batch


def standard_deviations(reference: Reference) -> Tensors:
    """Return the standard deviation of each float output across frames, as `NAME_std`.

    For outputs with one vector for the utterance it is the root mean square of the entries.
    """
    return {
        f"{name}_std": np.array(
            std_across_frames(array)
            if reference.lengths[name]
            else np.sqrt(np.mean(np.square(array)))
        )
        for name, array in reference.arrays.items()
        if name not in {"codes", "vectors", "margins"}
    }


def lengths_of(config: ModelConfig, name: str) -> str | None:
    """Return the lengths tensor that an output goes by; None for one vector an utterance."""
    pooled = config.head is not None and config.head.kind == "utterance"
    if name == "embedding" or (name == "logits" and pooled):
        return None
    of_features = config.quantizer_input == "features"
    if name in {"codes", "vectors", "margins"}:
        return "frame_lengths" if of_features else "context_lengths"
    return "frame_lengths" if name == "features" or name.startswith("layer_") else "context_lengths"
