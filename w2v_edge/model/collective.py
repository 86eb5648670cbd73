"""Sums and rows over all processes that train together, with gradients; alone, nothing happens.

Where each process computes the whole loss so, and gradients are averaged over processes as
`DistributedDataParallel` does, they are those of one process that had the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def total(x: Tensor) -> Tensor:
    """Return the sum of x over all processes, of the same shape."""
    if not several():
        return x
    summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return summed


def everywhere(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows (m, d) of all processes, one after the other, and where one's own begin."""
    if not several():
        return rows, 0
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    sizes = total(counts).tolist()
    before = sum(sizes[: dist.get_rank()])
    # A sum with zeros in all places but one's own gathers rows of any number.
    placed = F.pad(rows, (0, 0, before, sum(sizes) - before - len(rows)))
    return total(placed), before


def several() -> bool:
    """Whether other processes train with this one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Sum(torch.autograd.Function):
    """The sum over processes; the gradient of a sum is one, so theirs are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        summed = x.detach().clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed
