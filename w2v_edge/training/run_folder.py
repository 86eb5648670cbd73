"""The folder of a run: what it is, how far it is, and what it has learned.

    RUN/run.json          the model's configuration, the recipe, what it is trained on
    RUN/model.pt          the checkpoint, for `w2v-edge export`
    RUN/training.pt       what else it takes to go on: optimiser, random state, position in the data
    RUN/log.jsonl         one line of figures for each time that they were logged
    RUN/tensorboard/      the same for TensorBoard

Each file appears whole or not at all. `training.pt` holds the weights too: a run that is killed
between the two goes on from one moment, not two.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from w2v_edge import strict
from w2v_edge.errors import ConfigError, OutputExistsError, TrainingError
from w2v_edge.files import refuse_unwritable, replacing
from w2v_edge.model.checkpoint import write_tensors
from w2v_edge.model.config import ModelConfig
from w2v_edge.training.recipe import Recipe

RUN, MODEL, STATE, LOG, BOARD = (
    "run.json",
    "model.pt",
    "training.pt",
    "log.jsonl",
    "tensorboard",
)
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """What a run is: a resumed one must be the same.

    Attributes:
        task: `pretrain` or `finetune`.
        config: of the model, as plain values.
        recipe: how it is trained.
        data: hash of the names and lengths of what it is trained on.
        task_options: of the task alone.
    """

    task: str
    config: dict[str, Any]
    recipe: Recipe
    data: str
    task_options: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Return it as plain values."""
        plain: dict[str, Any] = strict.to_plain(self)
        return plain


def data_hash(names_and_seconds: Iterable[tuple[str, float]]) -> str:
    """Return 16 hexadecimal digits for what is trained on."""
    digest = hashlib.sha256()
    for name, seconds in names_and_seconds:
        digest.update(f"{name}\0{seconds:.4f}\n".encode())
    return digest.hexdigest()[:16]


class RunFolder:
    """A folder of a run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / MODEL
        self.state = path / STATE
        self.log = path / LOG
        self.board = path / BOARD

    def begin(self, run: Run, save_model: Callable[[Path], None]) -> None:
        """Make the folder of a new run, with the weights that it begins with.

        Raises:
            OutputExistsError: there is something already.
            InputError: it cannot be written.
        """
        if os.path.lexists(self.path) and (not self.path.is_dir() or any(self.path.iterdir())):
            advice = "go on with --resume, or " if (self.path / RUN).is_file() else ""
            raise OutputExistsError(f"{self.path} is already there; {advice}choose another output")
        refuse_unwritable(self.path / RUN, make=True)
        save_model(self.model)
        with replacing(self.path / RUN) as temporary:
            temporary.write_text(json.dumps(run.describe(), indent=1) + "\n")

    def resume(self, run: Run) -> None:
        """Check that `run` is the one that was begun here; more or fewer updates are allowed.

        Raises:
            TrainingError: there is none, or another one.
        """
        begun = self.read()
        same = replace(begun, recipe=replace(begun.recipe, updates=run.recipe.updates))
        for where, old, new in _differences(same.describe(), run.describe()):
            if where == "data":
                raise TrainingError(
                    f"{self.path}: was begun on other recordings; name the same, or another -o"
                )
            raise TrainingError(
                f"{self.path}: was begun with {where} {_short(old)}, found {_short(new)}; "
                "ask for the same, or for another -o"
            )
        if run != begun:
            with replacing(self.path / RUN) as temporary:
                temporary.write_text(json.dumps(run.describe(), indent=1) + "\n")

    def read(self) -> Run:
        """Return what run this is.

        Raises:
            TrainingError: it is none.
        """
        try:
            data = json.loads((self.path / RUN).read_text("utf-8"))
            return strict.from_plain(Run, data)
        except OSError as error:
            raise TrainingError(
                f"{self.path}: no run to go on with; begin one without --resume"
            ) from error
        except (ValueError, ConfigError) as error:
            raise TrainingError(f"{self.path / RUN}: damaged: {error}") from error

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return strict.from_plain(ModelConfig, self.read().config)

    def save_state(self, state: dict[str, Any]) -> None:
        """Write all that it takes to go on."""
        write_tensors({"format_version": FORMAT_VERSION, **state}, self.state)

    def load_state(self) -> dict[str, Any] | None:
        """Return what `save_state` wrote, on the host; None where nothing was saved yet.

        Raises:
            TrainingError: it is damaged.
        """
        if not self.state.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
        except Exception as error:  # the reader stumbles over damage in any way
            raise TrainingError(
                f"{self.state}: damaged; {self.model} may be whole: begin a new run from it with "
                "--init"
            ) from error
        if state.get("format_version") != FORMAT_VERSION:
            raise TrainingError(
                f"{self.state}: of another release; begin a new run from {self.model} with --init"
            )
        return state


def _differences(old: Any, new: Any, where: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Yield the path, the old and the new value of whatever differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{where}.{key}" if where else key
            yield from _differences(old.get(key), new.get(key), inner)
    elif old != new:
        yield where.removeprefix("recipe.").removeprefix("task_options."), old, new


def _short(value: object) -> str:
    return f"{value!r:.60}"
