"""The training loop, for any task: update by update, so that a run can resume at any of them.

Each update sets its own random seed, for dropout; masks and noise come from seeds of the
utterances. The state of a run is thus its weights, its optimiser and its position in the data.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from w2v_edge.errors import TrainingError
from w2v_edge.model.checkpoint import save_checkpoint
from w2v_edge.model.collective import average_gradients, broadcast_state
from w2v_edge.model.random import seed_of
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.training.batches import PlannedBatch, Position, prefetch
from w2v_edge.training.distributed import Processes, stop_on_signals
from w2v_edge.training.metrics import CollapseAlarm, MetricsLog, check_finite
from w2v_edge.training.recipe import Callbacks, LoopOptions, Recipe
from w2v_edge.training.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator

Metrics = dict[str, float]


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, over all processes.

    Attributes:
        value: mean loss; scalar with gradient.
        weight: number of terms in the mean; scalar. Accumulated batches are weighted by it.
        metrics: scalars to log.
    """

    value: Tensor
    weight: Tensor
    metrics: Mapping[str, Tensor]


class TrainingTask(Protocol):
    """A model, its training data and its objective."""

    @property
    def model(self) -> SpeechModel:
        """The model to save."""

    @property
    def module(self) -> nn.Module:
        """The module to run: the model, or a wrapper around it."""

    def plan(self, start: Position, rank: int, world_size: int) -> Iterator[PlannedBatch]:
        """Yield a process's batches from `start` on, without end."""

    def load(self, planned: PlannedBatch) -> Any:
        """Read a batch; called from several threads."""

    def loss(self, module: nn.Module, batch: Any, update: int, device: torch.device) -> Loss:
        """Run a batch through the module."""

    def evaluate(self, processes: Processes, device: torch.device) -> Metrics:
        """Return metrics on the validation split, or none without one. Sets evaluation mode."""

    def code_perplexities(self, metrics: Metrics) -> Metrics:
        """Return the metrics that fall to 1 when a codebook collapses."""


@dataclass(frozen=True)
class Trained:
    """The end of a run.

    Attributes:
        update: number of updates done.
        finished: whether these are all of the recipe's.
        figures: metrics that were logged last.
        warnings: warnings of the training loop.
    """

    update: int
    finished: bool
    figures: Metrics
    warnings: tuple[str, ...]


def train(
    task: TrainingTask,
    recipe: Recipe,
    folder: RunFolder,
    processes: Processes,
    accelerator: Accelerator,
    *,
    options: LoopOptions,
    callbacks: Callbacks,
) -> Trained:
    """Train until the recipe's updates are done, or a signal asks to stop; then save.

    Args:
        task: the model, data and objective.
        recipe: the hyperparameters.
        folder: the run's folder; a state that is saved there is resumed from.
        processes: the processes that train together.
        accelerator: places the model and sets the precision.
        options: how often to log and save, and the number of workers.
        callbacks: receive progress and warnings.

    Raises:
        TrainingError: the loss or the gradient is not finite, or another process failed.
        InputError: a recording or shard cannot be read; the updates so far are saved.
        OSError: the run cannot be saved.
    """
    return _Loop(task, recipe, folder, processes, accelerator, options, callbacks).run()


class _Loop:
    def __init__(
        self,
        task: TrainingTask,
        recipe: Recipe,
        folder: RunFolder,
        processes: Processes,
        accelerator: Accelerator,
        options: LoopOptions,
        callbacks: Callbacks,
    ) -> None:
        self.task, self.recipe, self.folder = task, recipe, folder
        self.processes, self.accelerator = processes, accelerator
        self.options, self.callbacks = options, callbacks
        self.update, self.position = 0, Position()
        optimiser = make_optimiser(task.model, recipe)
        # Evaluation mode leaves out `DistributedDataParallel`; see `average_gradients`.
        self.model = accelerator.prepare_model(task.module, evaluation_mode=True)
        self.optimiser = accelerator.prepare_optimizer(optimiser)
        with processes.together():
            self._restore()
        broadcast_state(self.model)
        self.saved = self.update
        self.alarm = CollapseAlarm()
        self.warnings: list[str] = []
        self.metrics: Metrics = {}
        self._reset_sums()

    def run(self) -> Trained:
        processes, recipe, options = self.processes, self.recipe, self.options
        with ExitStack() as stack:
            with processes.together():
                log = self._open_log(stack)
            stop = stack.enter_context(stop_on_signals(processes.world_size))
            planned = self.task.plan(self.position, processes.rank, processes.world_size)
            batches = stack.enter_context(prefetch(self.task.load, planned, options.num_workers))
            self.model.train()
            stopping = False
            while self.update < recipe.updates and not stopping:
                self._step(batches)
                self._show()
                stopping = processes.any(stop.is_set)
                last = self.update == recipe.updates or stopping
                if last or self.update % options.log_every == 0:
                    with processes.together():
                        self._log(log)
                if last or self.update % options.save_every == 0:
                    self._save()
                    self._evaluate(log)
        return Trained(
            self.update, self.update >= recipe.updates, self.metrics, tuple(self.warnings)
        )

    def _step(self, batches: Iterator[tuple[PlannedBatch, Any]]) -> None:
        """Make one update."""
        recipe, accelerator = self.recipe, self.accelerator
        torch.manual_seed(seed_of(recipe.seed, self.update, self.processes.rank))
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate(self.update)
        weights: list[Tensor] = []
        for _ in range(recipe.accumulate):
            planned, batch = self._next(batches)
            loss = self.task.loss(self.model, batch, self.update, accelerator.device)
            weights.append(loss.weight.detach().float().clamp(min=1))
            # Relative to the first weight, so that fp16 neither overflows nor vanishes.
            accelerator.backward(loss.value * (weights[-1] / weights[0]))
            self._add(loss.metrics)
            self.seconds += planned.seconds
        average_gradients(self.model.parameters())
        if len(weights) > 1:
            share = weights[0] / torch.stack(weights).sum()
            torch._foreach_mul_(
                [x.grad for x in self.model.parameters() if x.grad is not None], share
            )
        norm = accelerator.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._add({"gradient_norm": norm}, batches=recipe.accumulate)
        self.update, self.position = self.update + 1, planned.after
        self.batches += recipe.accumulate

    def _next(self, batches: Iterator[tuple[PlannedBatch, Any]]) -> tuple[PlannedBatch, Any]:
        """Return the next batch, once all processes have theirs."""
        try:
            with self.processes.together():
                return next(batches)
        except Exception:
            # The weights are those of the last update: save them.
            self._save()
            raise

    def _reset_sums(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.seconds, self.batches, self.since = 0.0, 0, time.perf_counter()

    def _add(self, metrics: Mapping[str, Tensor], batches: int = 1) -> None:
        """Add metrics to the sums on the device; reading them now would wait for it."""
        for name, value in metrics.items():
            scaled = value.detach().float() * batches
            self.sums[name] = self.sums[name] + scaled if name in self.sums else scaled

    def _log(self, log: MetricsLog | None) -> None:
        means = {name: float(x) / self.batches for name, x in self.sums.items()}
        fp16 = self.recipe.precision == "fp16"
        # fp16 gradients overflow now and then; the scaler skips such updates.
        checked = {k: v for k, v in means.items() if not (fp16 and k == "gradient_norm")}
        saved = (
            f"the save at update {self.saved} is intact"
            if self.folder.state.is_file()
            else "nothing was saved yet"
        )
        check_finite(checked, self.update, saved)
        elapsed = time.perf_counter() - self.since
        self.metrics = {
            **means,
            "learning_rate": self.recipe.rate(self.update - 1),
            "epoch": float(self.position.epoch),
            "seconds_per_second": self.seconds / max(1e-9, elapsed),
        }
        updates = self.batches // self.recipe.accumulate
        warning = self.alarm.watch(self.task.code_perplexities(means), updates)
        if warning and self.processes.is_main:
            self.warnings.append(warning)
            self.callbacks.warn(warning)
        if log is not None:
            log.write(self.update, self.metrics)
        self._reset_sums()
        _release_free_memory()

    def _save(self) -> None:
        """Write the checkpoint and the training state."""
        accelerator, model = self.accelerator, self.task.model
        positions = self._positions()
        with self.processes.together():
            if self.processes.is_main:
                state = {
                    "update": self.update,
                    "positions": positions,
                    "model": {name: x.detach().cpu() for name, x in model.state_dict().items()},
                    "optimiser": self.optimiser.state_dict(),
                }
                if accelerator.scaler is not None:
                    state["scaler"] = accelerator.scaler.state_dict()
                self.folder.save_state(state)
                save_checkpoint(model, self.folder.model)
        self.saved = self.update

    def _evaluate(self, log: MetricsLog | None) -> None:
        """Add metrics on the validation split."""
        found = self.task.evaluate(self.processes, self.accelerator.device)
        # On the module that runs: what it keeps in evaluation mode, such as batch norm, stays so.
        self.model.train()
        self.metrics |= found
        with self.processes.together():
            if log is not None and found:
                log.write(self.update, found)
        self.since = time.perf_counter()

    def _positions(self) -> list[list[int]]:
        """Return each process's position, as (epoch, batch)."""
        own = torch.tensor([astuple(self.position)], device=self.accelerator.device)
        positions: list[list[int]] = self.accelerator.gather(own).tolist()
        return positions

    def _restore(self) -> None:
        state = self.folder.load_state()
        if state is None:
            return
        try:
            self.task.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.update, positions = state["update"], state["positions"]
            # With files all processes have one position, whatever their number was.
            self.position = Position(*positions[self.processes.rank % len(positions)])
        except (KeyError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"{self.folder.state}: not the state of this run ({reason:.120}); start a new one"
            ) from error

    def _open_log(self, stack: ExitStack) -> MetricsLog | None:
        """Open the log in the main process."""
        if not self.processes.is_main:
            return None
        folder = self.folder
        return stack.enter_context(MetricsLog(folder.log, folder.board, update=self.update))

    def _show(self) -> None:
        if not self.processes.is_main:
            return
        words = [f"update {self.update} of {self.recipe.updates}"]
        words += [f"{k} {self.metrics[k]:.3g}" for k in ("loss", "accuracy") if k in self.metrics]
        self.callbacks.show(", ".join(words), self.update / self.recipe.updates)


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return the optimiser of all parameters that are trained.

    Weight decay applies to matrices, not to biases, norms, codebooks and single vectors.
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


def _release_free_memory() -> None:
    """Return free memory to the system, with glibc.

    Batches differ in length, so their tensors differ in size. glibc keeps freed blocks of each
    size: after an hour of `tiny` 7 GB, of which a tenth is in use.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
