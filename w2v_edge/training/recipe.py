"""How a model is trained: all that decides about the result, as plain values.

Source: wav2vec 2.0 (arXiv 2006.11477), section 4.2, for `base` and `large`: Adam, a warm-up over
the first 8 % of updates, then linear decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from w2v_edge.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]


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

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        positive = ("updates", "batch_seconds", "learning_rate", "accumulate", "crop_seconds")
        for name in (*positive, "clip_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected more than 0")
        for name in ("held_out", "warm_up", "beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected 0 to below 1")
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
        return self.learning_rate * max(0.0, (self.updates - update) / max(1, self.updates - warm))


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
