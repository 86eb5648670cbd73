"""The folder of a run: its description, checkpoint and training state.

    RUN/run.json          the model's configuration, the recipe, a hash of the training data
    RUN/model.pt          the checkpoint, for `w2v-edge export`
    RUN/training.pt       state to resume from: weights, optimiser, position in the data
    RUN/log.jsonl         metrics, one line each time they were logged
    RUN/tensorboard/      the same metrics for TensorBoard

Files are replaced atomically. `training.pt` holds the weights too: a run that is killed between the
two writes resumes from a consistent state.
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
from w2v_edge.errors import OutputExistsError, TrainingError
from w2v_edge.files import check_writable, replacing
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

OLD_RECIPE_KEYS = {"least_seconds": "min_seconds", "held_out": "validation_fraction"}
"""Keys of recipes in `run.json` that earlier releases named differently."""


@dataclass(frozen=True)
class Run:
    """The description of a run; a resumed run must have the same.

    Attributes:
        task: `pretrain` or `finetune`.
        config: the model's configuration, as plain values.
        recipe: the hyperparameters.
        data: hash of the names and lengths of the recordings.
        task_options: options of the task that are not in the recipe.
    """

    task: str
    config: dict[str, Any]
    recipe: Recipe
    data: str
    task_options: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Return the description as plain values."""
        plain: dict[str, Any] = strict.to_plain(self)
        return plain


def data_hash(names_and_seconds: Iterable[tuple[str, float]]) -> str:
    """Return a hash of recordings: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, seconds in names_and_seconds:
        digest.update(f"{name}\0{seconds:.4f}\n".encode())
    return digest.hexdigest()[:16]


class RunFolder:
    """Reads and writes the files of a run.

    Attributes:
        path: the folder.
        model: the checkpoint.
        state: the training state.
        log: metrics in JSON Lines.
        board: folder for TensorBoard.
    """

    def __init__(self, path: Path) -> None:
        """Name the files; nothing is read or written.

        Args:
            path: the folder, which need not exist.
        """
        self.path = path
        self.model = path / MODEL
        self.state = path / STATE
        self.log = path / LOG
        self.board = path / BOARD

    def begin(self, run: Run, save_model: Callable[[Path], None]) -> None:
        """Create the folder of a new run.

        Args:
            run: its description.
            save_model: writes the initial weights to a path.

        Raises:
            OutputExistsError: the folder exists and is not empty.
            InputError: the folder cannot be written.
        """
        if os.path.lexists(self.path) and (not self.path.is_dir() or any(self.path.iterdir())):
            advice = "continue it with --resume, or " if (self.path / RUN).is_file() else ""
            raise OutputExistsError(f"{self.path} is already there; {advice}choose another output")
        check_writable(self.path / RUN, make=True)
        save_model(self.model)
        self._write(run)

    def resume(self, run: Run) -> None:
        """Check that `run` matches the run in the folder; the number of updates may differ.

        Raises:
            TrainingError: the folder has no run, or another one.
        """
        begun = self.read()
        same = replace(begun, recipe=replace(begun.recipe, updates=run.recipe.updates))
        for where, old, new in _differences(same.describe(), run.describe()):
            if where == "data":
                raise TrainingError(
                    f"{self.path}: the run was started on other recordings; name the same ones, or "
                    "choose another -o"
                )
            raise TrainingError(
                f"{self.path}: the run was started with {where} {_short(old)}, found "
                f"{_short(new)}; give the same value, or choose another -o"
            )
        if run != begun:
            self._write(run)

    def read(self) -> Run:
        """Return the description of the run.

        Raises:
            TrainingError: the folder has no run, or a damaged one.
        """
        try:
            data = json.loads((self.path / RUN).read_text("utf-8"))
            if isinstance(data, dict) and isinstance(data.get("recipe"), dict):
                recipe = data["recipe"].items()
                data["recipe"] = {OLD_RECIPE_KEYS.get(key, key): x for key, x in recipe}
            return strict.from_plain(Run, data)
        except OSError as error:
            raise TrainingError(
                f"{self.path}: found no run to resume; start one without --resume"
            ) from error
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"{self.path / RUN}: damaged: {error}") from error

    @property
    def config(self) -> ModelConfig:
        """The model's configuration; errors as of `read`."""
        return strict.from_plain(ModelConfig, self.read().config)

    def save_state(self, state: dict[str, Any]) -> None:
        """Write the training state.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        write_tensors({"format_version": FORMAT_VERSION, **state}, self.state)

    def load_state(self) -> dict[str, Any] | None:
        """Read the training state, on the CPU; None if nothing was saved yet.

        Raises:
            TrainingError: the file is damaged, or of another release.
        """
        if not self.state.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises any error on a damaged file
            raise TrainingError(
                f"{self.state}: damaged; start a new run from {self.model}"
            ) from error
        if state.get("format_version") != FORMAT_VERSION:
            raise TrainingError(
                f"{self.state}: found another format version; start a new run from {self.model}"
            )
        return state

    def _write(self, run: Run) -> None:
        with replacing(self.path / RUN) as temporary:
            temporary.write_text(json.dumps(run.describe(), indent=1, allow_nan=False) + "\n")


def _differences(old: Any, new: Any, where: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Yield the path, the old and the new value of each difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{where}.{key}" if where else key
            yield from _differences(old.get(key), new.get(key), inner)
    elif old != new:
        yield where.removeprefix("recipe.").removeprefix("task_options."), old, new


def _short(value: object) -> str:
    return f"{value!r:.60}"
