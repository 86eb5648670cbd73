"""Hyperparameters of training, as plain values.

Source: wav2vec 2.0 (arXiv 2006.11477), for `base` and `large`. Section 4.2, pre-training: Adam, a
warm-up over the first 8 % of updates, then linear decay. Section 4.3, fine-tuning: a warm-up over
10 %, a constant rate for 40 %, then linear decay; the number of updates is that for ten hours of
speech.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from w2v_edge.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]

BASE_DIM, LARGE_DIM = 512, 1024
"""Smallest transformer widths that are trained with the recipes of `base` and `large`."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters: all that a run's result depends on, beside the model and the data.

    Attributes:
        updates: total number of optimiser steps.
        batch_seconds: audio in a batch, over all processes and with padding, in s.
        learning_rate: peak learning rate.
        accumulate: batches whose gradients make one update.
        crop_seconds: longer recordings are cut into crops of this length in s, at other offsets in
            each epoch.
        min_seconds: shorter recordings are left out, in s.
        validation_fraction: share of the recordings that is evaluated on and not trained on.
        warm_up: fraction of the updates over which the learning rate rises to its peak.
        weight_decay: of matrices; biases, norms and single vectors have none.
        beta: decay of Adam's second moment.
        clip_norm: largest norm of the gradient of all parameters.
        seed: of weights, order, crops, masks and noise.
        precision: of the arithmetic; weights stay float32.
        hold: fraction of the updates at the peak, before the learning rate falls to 0.
    """

    updates: int
    batch_seconds: float
    learning_rate: float
    accumulate: int = 1
    crop_seconds: float = 15.6
    min_seconds: float = 1.0
    validation_fraction: float = 0.02
    warm_up: float = 0.08
    weight_decay: float = 0.01
    beta: float = 0.98
    clip_norm: float = 1.0
    seed: int = 0
    precision: Precision = "fp32"
    hold: float = 0.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: a value is out of range.
        """
        positive = ("updates", "batch_seconds", "learning_rate", "accumulate", "crop_seconds")
        for name in (*positive, "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected more than 0")
        for name in ("min_seconds", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected 0 or more")
        for name in ("validation_fraction", "warm_up", "hold", "beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"found {name} {getattr(self, name):g}, expected 0 to below 1")
        if self.warm_up + self.hold >= 1:
            raise ConfigError(
                f"found warm_up {self.warm_up:g} and hold {self.hold:g}, expected a sum below 1"
            )
        if self.crop_seconds > self.batch_seconds:
            raise ConfigError(
                f"found crops of {self.crop_seconds:g} s in batches of {self.batch_seconds:g} s; "
                "raise --batch-seconds, or lower --crop-seconds"
            )

    def rate(self, update: int) -> float:
        """Learning rate of the update that follows `update` earlier ones."""
        warm = max(1, round(self.warm_up * self.updates))
        if update < warm:
            return self.learning_rate * (update + 1) / warm
        decay_start = warm + round(self.hold * self.updates)
        left = (self.updates - update) / max(1, self.updates - decay_start)
        return self.learning_rate * min(1.0, max(0.0, left))


@dataclass(frozen=True)
class LoopOptions:
    """Options of the training loop that leave its result unchanged.

    Attributes:
        log_every: updates between checks of the metrics, which are logged.
        save_every: updates between saves, with an evaluation on the validation split.
        num_workers: threads that read audio.
    """

    log_every: int = 10
    save_every: int = 500
    num_workers: int = 2


@dataclass(frozen=True)
class Callbacks:
    """Functions that a run calls to report progress.

    Attributes:
        show: called with the current activity and the completed fraction of the run.
        warn: called with one line that the user should see at once.
    """

    show: Callable[[str, float], None] = lambda _activity, _fraction: None
    warn: Callable[[str], None] = lambda _line: None


def pretraining_recipe(preset: str) -> Recipe:
    """Return the recipe for a preset on one device.

    On N devices, `batch_seconds` times N and `accumulate` divided by N is the same training.
    """
    return _PRETRAINING.get(preset, _PRETRAINING["base"])


def finetuning_recipe(dim: int) -> Recipe:
    """Return the recipe for a transformer of width `dim` on one device."""
    name = "tiny" if dim < BASE_DIM else "base" if dim < LARGE_DIM else "large"
    return _FINETUNING[name]


_PRETRAINING = {
    "tiny": Recipe(
        updates=10_000,
        batch_seconds=40.0,
        learning_rate=1e-3,
        crop_seconds=10.0,
        min_seconds=0.5,
        validation_fraction=0.1,
    ),
    "tutorial": Recipe(
        updates=100_000,
        batch_seconds=80.0,
        learning_rate=1e-4,
        accumulate=4,
        crop_seconds=10.0,
    ),
    # The paper's batches are on 64 and 128 GPUs, with as many seconds on each.
    "base": Recipe(updates=400_000, batch_seconds=87.5, learning_rate=5e-4, accumulate=64),
    "large": Recipe(
        updates=250_000,
        batch_seconds=75.0,
        learning_rate=3e-4,
        accumulate=128,
        crop_seconds=20.0,
    ),
}

# The paper's batches are on 8 and 24 GPUs, with as many seconds on each.
_FINETUNING_BASE = Recipe(
    updates=20_000,
    batch_seconds=200.0,
    learning_rate=5e-5,
    accumulate=8,
    crop_seconds=30.0,
    min_seconds=0.0,
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
        validation_fraction=0.1,
    ),
    "base": _FINETUNING_BASE,
    "large": replace(_FINETUNING_BASE, batch_seconds=80.0, learning_rate=1e-4, accumulate=24),
}
