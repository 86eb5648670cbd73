"""Adam for a model, and its learning rate."""

from __future__ import annotations

import torch
from torch import nn

from w2v_edge.training.recipe import Recipe


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return the optimiser of all parameters that are trained.

    Weights that multiply decay; biases, norms, codebooks and single vectors do not.
    """
    trained = [(name, x) for name, x in model.named_parameters() if x.requires_grad]
    decayed = [x for name, x in trained if x.ndim > 1 and "codebook" not in name]
    others = [x for name, x in trained if x.ndim <= 1 or "codebook" in name]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.rate(0),
        betas=(0.9, recipe.beta),
        eps=1e-6,
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimiser.param_groups:
        group["lr"] = rate
