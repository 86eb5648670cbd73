"""Codes of every frame: from a model, from clustered MFCC, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bench.tiny.prompts import Prompt
from w2v_edge.model import SpeechModel

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Codes:
    """Codes that a probe reads instead of the audio.

    Attributes:
        entries: of each group's codebook.
        of: codes (frames, groups) of each prompt, by its id.
    """

    entries: int
    of: Mapping[str, Ints]

    @property
    def groups(self) -> int:
        """Number of codes per frame."""
        return int(next(iter(self.of.values())).shape[1])

    def first_group(self) -> Codes:
        """Return the first code of each frame alone."""
        return Codes(self.entries, {name: codes[:, :1] for name, codes in self.of.items()})

    def silenced(self) -> Codes:
        """Return the same code for all frames, which carries only their number."""
        return Codes(1, {name: np.zeros_like(codes[:, :1]) for name, codes in self.of.items()})


def of_model(model: SpeechModel, prompts: Sequence[Prompt]) -> Codes:
    """Return the hard codes of a model in eval mode."""
    if model.quantizer is None:
        raise SystemExit("found a model without a quantizer, expected a pre-trained one")
    of = {}
    with torch.inference_mode():
        for prompt in prompts:
            waveform = torch.from_numpy(prompt.waveform)[None]
            frames = model.features(waveform, torch.tensor([waveform.shape[1]]))
            if model.config.quantizer_input == "context":
                frames = frames._replace(values=model.context(frames))
            of[prompt.id] = model.quantizer(frames).codes[0].numpy()
    return Codes(model.quantizer.config.entries, of)


def joint(codes: Ints, entries: int) -> Ints:
    """Return one joint code per frame (frames,) for codes (frames, groups)."""
    made = np.zeros(len(codes), np.int64)
    for group in codes.T:
        made = made * entries + group
    return made
