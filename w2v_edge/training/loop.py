"""The training loop: whatever is trained, update by update, so that it can be taken up anywhere.

An update begins with a seed of its own, from which dropout comes; masks and noise come from seeds
of the utterances. So the state of a run is its weights, its optimiser and its position in the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from w2v_edge.errors import AudioFileError, TrainingError
from w2v_edge.model.checkpoint import save_checkpoint
from w2v_edge.model.random import seed_of
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.training.batches import Position
from w2v_edge.training.health import CollapseAlarm, refuse_non_numbers
from w2v_edge.training.heap import release_free_memory
from w2v_edge.training.interrupt import stop_on_signals
from w2v_edge.training.loading import read_ahead
from w2v_edge.training.optimiser import make_optimiser, set_rate
from w2v_edge.training.recipe import Recipe
from w2v_edge.training.run_folder import RunFolder
from w2v_edge.training.tracking import Show, Tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

Figures = dict[str, float]


@dataclass(frozen=True)
class Loss:
    """What one batch came to, over all processes.

    Attributes:
        value: what is to become less, a mean over `weight` things; scalar with gradient.
        weight: scalar; batches that make one update count by it.
        figures: scalars to log.
    """

    value: Tensor
    weight: Tensor
    figures: Mapping[str, Tensor]


class Sized(Protocol):
    """A batch, as far as the loop looks into it."""

    @property
    def seconds(self) -> float:
        """Audio in it, of all processes."""

    @property
    def after(self) -> Position:
        """Where the run is when it is done."""


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def model(self) -> SpeechModel:
        """What is saved."""

    @property
    def module(self) -> nn.Module:
        """What is run: the model, or what has it inside."""

    def jobs(self, start: Position, rank: int, processes: int) -> Iterator[Callable[[], Sized]]:
        """Yield, without end, what reads the batches of a process from `start` on."""

    def loss(self, model: nn.Module, batch: Any, update: int, device: torch.device) -> Loss:
        """Run a batch through the model."""

    def evaluate(self, rank: int, processes: int, device: torch.device) -> Figures:
        """Return figures on what is held out; none where nothing is."""

    def collapse(self, figures: Figures) -> Figures:
        """Return those of the figures that fall to 1 where codes collapse."""


@dataclass(frozen=True)
class Pace:
    """How often something is done beside training, in updates.

    Attributes:
        log: figures are read from the device, checked and written.
        save: the run is saved, and evaluated on what is held out.
        readers: threads that read audio.
    """

    log: int = 10
    save: int = 500
    readers: int = 2


@dataclass(frozen=True)
class Trained:
    """Where a run ended.

    Attributes:
        update: updates done.
        finished: whether these were all.
        figures: last logged ones.
        warnings: what was said on the way.
    """

    update: int
    finished: bool
    figures: Figures
    warnings: tuple[str, ...]


def train(
    task: Task,
    recipe: Recipe,
    folder: RunFolder,
    accelerator: Accelerator,
    *,
    pace: Pace = Pace(),
    show: Show = lambda _what, _done: None,
    warn: Callable[[str], None] = lambda _line: None,
) -> Trained:
    """Train until the recipe's updates are done, or somebody stops it.

    Args:
        task: what is trained.
        recipe: how.
        folder: where to; what is saved there is gone on from.
        accelerator: the processes and devices.
        pace: how often to log and save.
        show: told what is done, and what share of all.
        warn: told what should be known at once.

    Raises:
        TrainingError: a loss or a gradient is no number.
        AudioFileError: a recording cannot be read any more.
    """
    return _Loop(task, recipe, folder, accelerator, pace, show, warn).run()


class _Loop:
    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        folder: RunFolder,
        accelerator: Accelerator,
        pace: Pace,
        show: Show,
        warn: Callable[[str], None],
    ) -> None:
        self.task, self.recipe, self.folder, self.pace = task, recipe, folder, pace
        self.accelerator, self.show, self.warn = accelerator, show, warn
        self.update, self.position = 0, Position()
        optimiser = make_optimiser(task.model, recipe)
        self.model, self.optimiser = accelerator.prepare(task.module, optimiser)
        self._restore()
        self.saved = self.update
        self.alarm = CollapseAlarm()
        self.warnings: list[str] = []
        self.sums: dict[str, Tensor] = {}
        self.since, self.seconds, self.counted = time.perf_counter(), 0.0, 0
        self.figures: Figures = {}

    def run(self) -> Trained:
        """Go on to the end."""
        recipe, accelerator = self.recipe, self.accelerator
        jobs = self.task.jobs(self.position, accelerator.process_index, accelerator.num_processes)
        with ExitStack() as stack:
            tracker = self._tracker(stack)
            stop = stack.enter_context(stop_on_signals(listen=accelerator.num_processes == 1))
            batches = stack.enter_context(read_ahead(jobs, self.pace.readers))
            self.model.train()
            while self.update < recipe.updates and not stop.asked:
                try:
                    self._step(batches)
                except AudioFileError:
                    # The weights are those of the last update: nothing of them is lost.
                    self._save(tracker)
                    raise
                self._show()
                last = self.update == recipe.updates or stop.asked
                if last or self.update % self.pace.log == 0:
                    self._log(tracker)
                if last or self.update % self.pace.save == 0:
                    self._save(tracker)
        return Trained(
            self.update, self.update >= recipe.updates, self.figures, tuple(self.warnings)
        )

    def _step(self, batches: Iterator[Any]) -> None:
        """Make one update."""
        recipe, accelerator = self.recipe, self.accelerator
        torch.manual_seed(seed_of(recipe.seed, self.update, accelerator.process_index))
        set_rate(self.optimiser, recipe.rate(self.update))
        weights: list[Tensor] = []
        for number in range(recipe.accumulate):
            batch = next(batches)
            last = number + 1 == recipe.accumulate
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.task.loss(self.model, batch, self.update, accelerator.device)
                weights.append(loss.weight.detach().float().clamp(min=1))
                # By the first one's weight, so that halves neither overflow nor vanish.
                accelerator.backward(loss.value * (weights[-1] / weights[0]))
            self._count(loss.figures, batch.seconds)
        if len(weights) > 1:
            share = weights[0] / torch.stack(weights).sum()
            torch._foreach_mul_(
                [x.grad for x in self.model.parameters() if x.grad is not None], share
            )
        norm = accelerator.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._count({"gradient_norm": norm}, 0.0, batches=recipe.accumulate)
        self.update, self.position = self.update + 1, batch.after
        self.counted += recipe.accumulate

    def _count(self, figures: Mapping[str, Tensor], seconds: float, batches: int = 1) -> None:
        """Add to the sums on the device: reading them would wait for it."""
        for name, value in figures.items():
            scaled = value.detach().float() * batches
            self.sums[name] = self.sums[name] + scaled if name in self.sums else scaled
        self.seconds += seconds

    def _log(self, tracker: Tracker | None) -> None:
        means = {name: float(x) / self.counted for name, x in self.sums.items()}
        halves = self.recipe.precision == "fp16"
        # Gradients of halves overflow now and then; the scaler leaves such updates out.
        checked = {k: v for k, v in means.items() if not (halves and k == "gradient_norm")}
        saved = (
            f"what was saved at update {self.saved} is whole"
            if self.folder.state.is_file()
            else "nothing was saved yet"
        )
        refuse_non_numbers(checked, self.update, saved)
        now = time.perf_counter()
        self.figures = {
            **means,
            "learning_rate": self.recipe.rate(self.update - 1),
            "epoch": float(self.position.epoch),
            "seconds_per_second": self.seconds / max(1e-9, now - self.since),
        }
        updates = self.counted // self.recipe.accumulate
        line = self.alarm.watch(self.task.collapse(means), updates)
        if line and self.accelerator.is_main_process:
            self.warnings.append(line)
            self.warn(line)
        if tracker is not None:
            tracker.write(self.update, self.figures)
        self.sums, self.seconds, self.counted, self.since = {}, 0.0, 0, now
        release_free_memory()

    def _save(self, tracker: Tracker | None) -> None:
        accelerator = self.accelerator
        bare = self.task.model
        was = bare.training
        held_out = self.task.evaluate(
            accelerator.process_index, accelerator.num_processes, accelerator.device
        )
        bare.train(was)
        self.figures |= held_out
        positions = self._positions()
        if tracker is not None:
            if held_out:
                tracker.write(self.update, held_out)
            state = {
                "update": self.update,
                "positions": positions,
                "model": _on_host(bare.state_dict()),
                "optimiser": self.optimiser.state_dict(),
            }
            scaler = accelerator.scaler
            self.folder.save_state(state | ({"scaler": scaler.state_dict()} if scaler else {}))
            save_checkpoint(bare, self.folder.model)
        accelerator.wait_for_everyone()
        self.saved = self.update
        self.since = time.perf_counter()

    def _positions(self) -> list[list[int]]:
        """Return where each process is in its data, as (epoch, batch)."""
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
            # Of another number of processes only where they all are at the same place.
            own = self.accelerator.process_index % len(positions)
            self.position = Position(*positions[own])
        except (KeyError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:
            raise TrainingError(
                f"{self.folder.state}: not the state of this run ({_line(error)}); begin a new one"
            ) from error

    def _tracker(self, stack: ExitStack) -> Tracker | None:
        """Open the log; of several processes one writes."""
        if not self.accelerator.is_main_process:
            return None
        folder = self.folder
        return stack.enter_context(Tracker(folder.log, folder.board, update=self.update))

    def _show(self) -> None:
        words = [f"update {self.update} of {self.recipe.updates}"]
        words += [f"{k} {self.figures[k]:.3g}" for k in ("loss", "accuracy") if k in self.figures]
        self.show(", ".join(words), self.update / self.recipe.updates)


def _on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().cpu() for name, x in tensors.items()}


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
