"""All-reduce and all-gather with gradients over the training processes.

With one process they return their input. Each process computes the loss of the global batch;
`average_gradients` then gives the gradient that a single process with the whole batch would
compute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def is_distributed() -> bool:
    """Return whether the world size is above one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduce_sum(x: Tensor) -> Tensor:
    """Return the sum of x over all processes, of the same shape."""
    if not is_distributed():
        return x
    summed: Tensor = _AllReduceSum.apply(x)  # type: ignore[no-untyped-call]
    return summed


def all_gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Concatenate the rows (m, d) of all processes; m may differ between processes.

    Returns:
        The rows (sum of m, d) in the order of ranks, and the index of this process's first row.
    """
    if not is_distributed():
        return rows, 0
    counts = torch.zeros(dist.get_world_size(), dtype=torch.long, device=rows.device)
    counts[dist.get_rank()] = len(rows)
    sizes = all_reduce_sum(counts).tolist()
    before = sum(sizes[: dist.get_rank()])
    # Each process pads its rows with zeros to the global size: the sum then is the concatenation,
    # whatever the number of rows per process.
    padded = F.pad(rows, (0, 0, before, sum(sizes) - before - len(rows)))
    return all_reduce_sum(padded), before


def broadcast_state(module: nn.Module) -> None:
    """Copy the parameters and buffers of rank 0 to all processes, in place."""
    if is_distributed():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over processes, in place, after the backward pass.

    A missing gradient counts as zero: a process with an empty batch does not run all layers, and
    layer drop skips other layers in each process. A gradient that no process has stays missing.

    `DistributedDataParallel` is not used: it averages within the backward pass, as gradients get
    ready. If that order differs between processes, its collectives mix with those of the loss, and
    the processes hang.
    """
    if not is_distributed():
        return
    trained = [x for x in parameters if x.requires_grad]
    present = torch.tensor([x.grad is not None for x in trained]).to(trained[0])
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in trained]
    averaged = torch.cat([present, *(x.flatten() for x in gradients)])
    dist.all_reduce(averaged)
    averaged /= dist.get_world_size()
    present, *parts = torch.split(averaged, [len(trained), *(x.numel() for x in trained)])
    for x, exists, part in zip(trained, present.tolist(), parts, strict=True):
        x.grad = part.view_as(x) if exists else None


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; its backward sums the gradients over processes."""

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
