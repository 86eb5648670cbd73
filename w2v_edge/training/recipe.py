"""How a model is trained: all that decides about the result, as plain values.

Source: wav2vec 2.0 (arXiv 2006.11477), for `base` and `large`. Section 4.2, pre-training: Adam, a
warm-up over the first 8 % of updates, then linear decay. Section 4.3, fine-tuning: a warm-up over
10 %, a constant rate for 40 %, then linear decay; updates are those for ten hours of speech.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from w2v_edge.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]

BASE_DIM, LARGE_DIM = 512, 1024
"""Widths from which on a transformer is trained as `base` and `large` are."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters.

    Attributes:
        updates: optimiser steps in all.
        batch_seconds: audio in a batch of all processes, padding counted.
        accumulate: batches of which the gradients make one update.
        crop_seconds: longer recordings are cut into pieces of this length, at other places in each
            epoch.
        least_seconds: shorter recordings are left out.
        held_out: share of the recordings that is evaluated on, and not trained.
        learning_rate: at its highest.
        warm_up: share of the updates over which the rate rises to that.
        hold: share of the updates for which it stays there, before it falls to 0.
        weight_decay: of matrices; biases, norms and single vectors have none.
        beta: decay of Adam's second moment.
        clip_norm: the longest gradient, all parameters together.
        seed: of weights, order, crops, masks and noise.
        precision: of the arithmetic; weights stay float32.
    """

    updates: int
    batch_seconds: float
    learning_rate: float
    accumulate: int = 1
    crop_seconds: float = 15.6
    least_seconds: float = 1.0
    held_out: float = 0.02
    warm_up: float = 0.08
    weight_decay: float = 0.01
    beta: float = 0.98
    clip_norm: float = 1.0
    seed: int = 0
    precision: Precision = "fp32"
    hold: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        positive = ("updates", "batch_seconds", "learning_rate", "accumulate", "crop_seconds")
        for name in (*positive, "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected more than 0")
        for name in ("held_out", "warm_up", "hold", "beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected 0 to below 1")
        if self.warm_up + self.hold >= 1:
            raise ConfigError(
                f"found warm_up {self.warm_up:g} and hold {self.hold:g} of the updates, "
                "expected less than all of them together"
            )
        if self.crop_seconds > self.batch_seconds:
            raise ConfigError(
                f"found pieces of {self.crop_seconds:g} s in batches of {self.batch_seconds:g} s; "
                "make batches larger, or pieces shorter"
            )

    def rate(self, update: int) -> float:
        """Learning rate of the update after `update` ones."""
        warm = max(1, round(self.warm_up * self.updates))
        if update < warm:
            return self.learning_rate * (update + 1) / warm
        high = warm + round(self.hold * self.updates)
        left = (self.updates - update) / max(1, self.updates - high)
        return self.learning_rate * min(1.0, max(0.0, left))


def finetuning_recipe(dim: int) -> Recipe:
    """Return the recipe for a transformer of width `dim`, as one device can run it."""
    name = "tiny" if dim < BASE_DIM else "base" if dim < LARGE_DIM else "large"
    return _FINETUNING[name]


def pretraining_recipe(preset: str) -> Recipe:
    """Return the recipe for a preset, as one device can run it.

    Of N devices, `batch_seconds` times N and `accumulate` by N is the same training.
    """
    return _PRETRAINING.get(preset, _PRETRAINING["base"])


_PRETRAINING = {
    "tiny": Recipe(
        updates=10_000,
        batch_seconds=40.0,
        learning_rate=1e-3,
        crop_seconds=10.0,
        least_seconds=0.5,
        held_out=0.1,
    ),
    "tutorial": Recipe(
        updates=100_000,
        batch_seconds=80.0,
        learning_rate=1e-4,
        accumulate=4,
        crop_seconds=10.0,
    ),
    # The paper's batches are 64 and 128 GPUs with so much each.
    "base": Recipe(updates=400_000, batch_seconds=87.5, learning_rate=5e-4, accumulate=64),
    "large": Recipe(
        updates=250_000,
        batch_seconds=75.0,
        learning_rate=3e-4,
        accumulate=128,
        crop_seconds=20.0,
    ),
}

# The paper's batches are 8 and 24 GPUs with so much each.
_FINETUNING_BASE = Recipe(
    updates=20_000,
    batch_seconds=200.0,
    learning_rate=5e-5,
    accumulate=8,
    crop_seconds=30.0,
    least_seconds=0.0,
    warm_up=0.1,
    hold=0.4,
    weight_decay=0.0,
)
_FINETUNING = {
    "tiny": replace(
        _FINETUNING_BASE,
        updates=5000,
        batch_seconds=80.0,
        learning_rate=1e-3,
        accumulate=1,
        held_out=0.1,
    ),
    "base": _FINETUNING_BASE,
    "large": replace(_FINETUNING_BASE, batch_seconds=80.0, learning_rate=1e-4, accumulate=24),
}
