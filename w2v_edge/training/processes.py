"""Processes and devices that train together, as `torchrun` or `accelerate launch` started them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from w2v_edge.errors import MissingExtraError, TrainingError
from w2v_edge.training.recipe import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def open_accelerator(precision: Precision, *, cpu: bool, unused: bool) -> Accelerator:
    """Join the other processes, if there are any.

    Args:
        precision: of the arithmetic.
        cpu: stay off GPUs.
        unused: whether an update may leave parameters out, as dropped layers do.

    Raises:
        TrainingError: the device does not have that precision.
        MissingExtraError: accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingExtraError("training", "accelerate", "train") from error
    # What the user set for telemetry stays; nothing is sent without.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # It keeps the precision of the first training of a process for all others.
    AcceleratorState._reset_state()  # noqa: SLF001 - there is no other way
    try:
        accelerator = Accelerator(
            mixed_precision=PRECISIONS[precision],
            cpu=cpu,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        )
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{' '.join(str(error).split())}; choose another --precision"
        ) from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("fp16 needs a GPU; on a CPU choose --precision fp32 or bf16")
    return accelerator
