"""Processes that train together, as started by `torchrun` or `accelerate launch`.

All processes take the same path. They agree on every failure and every request to stop: a process
that left alone would leave the others waiting in a collective operation.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from w2v_edge.errors import MissingExtraError, TrainingError, W2VEdgeError
from w2v_edge.model.collective import is_distributed
from w2v_edge.training.recipe import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

MIXED_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
"""accelerate's names of precisions."""

LONGEST_WAIT = timedelta(days=1)
"""For a process that reads headers, evaluates or saves; a dead one is noticed at once."""

CONNECTION_LOST = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused")

REPEAT_SECONDS = 3.0
"""torchrun repeats the signal that the terminal has sent; such a copy comes within this time."""


class PeerFailedError(TrainingError):
    """Another process of the run failed; that process reports the error."""


class Processes:
    """The processes of a run; alone, nothing is communicated.

    Attributes:
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    def __init__(self, *, cpu: bool) -> None:
        """Join the other processes that the environment names, if any.

        Args:
            cpu: whether to train on CPUs only.

        Raises:
            MissingExtraError: accelerate is not installed.
        """
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise MissingExtraError("training", "accelerate", "train") from error
        # No telemetry, unless the user has set this variable.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        state = PartialState(cpu=cpu)
        self.rank: int = state.process_index
        self.world_size: int = state.num_processes
        # On the CPU: agreeing must not wait for a GPU's queue.
        self._group: dist.ProcessGroup | None = None
        if self.world_size > 1:
            shared = dist.get_backend() == "gloo"
            new = None if shared else dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
            self._group = new or dist.group.WORLD

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self._max(int(flag)) > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block in all processes; if it raises in one, it raises in all.

        Raises:
            PeerFailedError: the block failed in another process. Of several that failed, only the
                one of the lowest rank raises its own error.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # noqa: BLE001 - raised again below
            error = raised
        # Highest for rank 0; 0 where no process failed.
        failed = self._max(0 if error is None else self.world_size - self.rank)
        if not failed:
            return
        first = self.world_size - failed
        if error is not None and first == self.rank:
            raise error
        raise PeerFailedError(f"process {first} of this run failed; see its message") from error

    def _max(self, value: int) -> int:
        if self._group is None:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group)
        return int(tensor)


def is_main_process() -> bool:
    """Return whether this process is the main one of a run, or the only one."""
    return not is_distributed() or dist.get_rank() == 0


@contextmanager
def join_processes(*, cpu: bool) -> Iterator[Processes]:
    """Join the other processes of the run for a block; see `Processes`.

    Raises:
        TrainingError: another process ended within the block.
    """
    processes = Processes(cpu=cpu)
    try:
        yield processes
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or any(x in str(error) for x in CONNECTION_LOST)
        if processes.world_size == 1 or isinstance(error, W2VEdgeError) or not lost:
            raise
        raise TrainingError(
            "another process of this run has ended: it failed or was killed; see its message, then "
            "go on with --resume"
        ) from error


def open_accelerator(precision: Precision, *, cpu: bool) -> Accelerator:
    """Set up accelerate, which places the model and sets the precision.

    Args:
        precision: of the arithmetic.
        cpu: whether to train on CPUs only.

    Raises:
        TrainingError: the device does not support the precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps the precision of a process's first run for all later ones.
    AcceleratorState._reset_state()  # noqa: SLF001 - there is no public way
    try:
        accelerator = Accelerator(mixed_precision=MIXED_PRECISION[precision], cpu=cpu)
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"{' '.join(str(error).split())}; choose another --dtype") from error
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("fp16 needs a GPU; on a CPU choose --dtype fp32 or bf16")
    return accelerator


class StopFlag:
    """Set when SIGINT or SIGTERM arrives."""

    def __init__(self) -> None:
        self.is_set = False


@contextmanager
def stop_on_signals(world_size: int) -> Iterator[StopFlag]:
    """Yield a flag that the first SIGINT or SIGTERM sets; a second signal ends the process.

    Args:
        world_size: number of processes; with several, copies of the first signal are ignored.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous: dict[signal.Signals, Any] = {which: signal.getsignal(which) for which in signals}
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal first
        now = time.monotonic()
        if not stop.is_set:
            stop.is_set, first = True, now
        elif world_size == 1 or now - first > REPEAT_SECONDS:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for which, handler in previous.items():
            signal.signal(which, handler)

    for which in signals:
        signal.signal(which, handle)
    try:
        yield stop
    finally:
        restore()
