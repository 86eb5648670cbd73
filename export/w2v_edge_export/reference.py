"""What PyTorch makes of an utterance: the training-side model in eval mode, each one alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.audio import Waveform
from w2v_edge.model.speech_model import SpeechModel

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """One utterance, unpadded: features, context, codes, vectors, margins, each (n, ...)."""

    arrays: Arrays
    frames: int


@torch.inference_mode()
def encode(model: SpeechModel, waveform: Waveform, *, context: bool = True) -> Reference:
    """Run the model on one waveform (samples,); without `context` the transformer is left out."""
    lengths = torch.tensor([len(waveform)])
    features = model.features(torch.from_numpy(waveform).unsqueeze(0), lengths)
    quantized = model.quantizer(features)
    logits = model.quantizer.logits(features.values)
    best = logits.topk(2, dim=-1).values
    margins = (best[..., 0] - best[..., 1]) / _std(logits)
    arrays = {
        "features": features.values,
        "codes": quantized.codes,
        "vectors": quantized.vectors,
        "margins": margins,
    }
    if context:
        arrays["context"] = model.context(features)
    return Reference({k: v[0].numpy() for k, v in arrays.items()}, int(features.lengths[0]))


def padded_batch(references: list[Reference], frames: int) -> Arrays:
    """Lay utterances side by side, zero past their frames, as a bundle's graphs do."""
    batch: Arrays = {"frame_lengths": np.array([x.frames for x in references], dtype=np.int64)}
    for name, first in references[0].arrays.items():
        batch[name] = np.zeros((len(references), frames, *first.shape[1:]), first.dtype)
        for row, reference in zip(batch[name], references, strict=True):
            row[: reference.frames] = reference.arrays[name]
    return batch


def _std(logits: torch.Tensor) -> float:
    return max(float(logits.std()), 1e-12) if logits.numel() > 1 else 1.0
