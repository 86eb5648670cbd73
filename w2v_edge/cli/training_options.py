"""Options of the verbs that train: hyperparameters, and how the run is carried out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click

from w2v_edge.cli.options import POSITIVE, Decorator

FRACTION = click.FloatRange(min=0, max=1, max_open=True)

RENAMED = {
    "--least-seconds": "--min-seconds",
    "--held-out": "--validation-fraction",
    "--precision": "--dtype",
    "--readers": "--num-workers",
}
"""Old option names."""


def _hyperparameter(*names: str, **attributes: Any) -> Decorator:
    return click.option(*names, show_default="by preset or model size", **attributes)


RECIPE: dict[str, Decorator] = {
    "updates": _hyperparameter(
        "--updates",
        "--steps",
        "updates",
        type=click.IntRange(min=1),
        help="Number of optimiser updates.",
    ),
    "batch_seconds": _hyperparameter(
        "--batch-seconds",
        type=POSITIVE,
        help="Batch size, in seconds of audio with padding, over all processes.",
    ),
    "accumulate": _hyperparameter(
        "--accumulate", type=click.IntRange(min=1), help="Batches per update."
    ),
    "crop_seconds": _hyperparameter(
        "--crop-seconds",
        type=POSITIVE,
        help="Maximum length; pretrain crops longer recordings, finetune leaves them out.",
    ),
    "min_seconds": _hyperparameter(
        "--min-seconds",
        type=click.FloatRange(min=0),
        help="Minimum length; shorter recordings are left out.",
    ),
    "validation_fraction": _hyperparameter(
        "--validation-fraction",
        type=FRACTION,
        help="Fraction of the recordings used for validation only.",
    ),
    "learning_rate": _hyperparameter("--learning-rate", type=POSITIVE, help="Peak learning rate."),
    "warm_up": _hyperparameter(
        "--warm-up", type=FRACTION, help="Warm-up, as a fraction of all updates."
    ),
    "weight_decay": _hyperparameter(
        "--weight-decay", type=click.FloatRange(min=0), help="Weight decay of AdamW."
    ),
    "clip_norm": _hyperparameter(
        "--clip-norm", type=POSITIVE, help="Maximum norm of the gradient."
    ),
    "seed": _hyperparameter(
        "--seed",
        type=click.IntRange(0, 2**31 - 1),
        help="Random seed of weights, data order and masks.",
    ),
    "precision": _hyperparameter(
        "--dtype",
        "precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Type of the arithmetic; weights stay float32.",
    ),
}
"""Options by field of the recipe."""

RUN: tuple[Decorator, ...] = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        help="Folder of the run: checkpoint, state, log.",
    ),
    click.option("--resume", is_flag=True, help="Continue the run in the output folder."),
    click.option("--skip-bad", is_flag=True, help="Skip files that cannot be read."),
    click.option("--cpu", is_flag=True, help="Train on the CPU."),
    click.option(
        "--save-every",
        type=click.IntRange(min=1),
        default=500,
        help="Updates between checkpoints, each with a validation.",
    ),
    click.option(
        "--log-every",
        type=click.IntRange(min=1),
        default=10,
        help="Updates between log entries, which TensorBoard shows.",
    ),
    click.option(
        "--num-workers",
        type=click.IntRange(min=1, max=256),
        default=2,
        help="Threads that read audio.",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add hyperparameters; the command gets those that were given as a dict, `overrides`."""

    @wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in RECIPE}
        overrides = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, overrides=overrides, **options)

    return _add(tuple(RECIPE.values()), collected)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of the run; the command gets them as a dict, `run`."""

    @wraps(command)
    def collected(
        *arguments: Any, save_every: int, log_every: int, num_workers: int, **options: Any
    ) -> Any:
        from w2v_edge.training.recipe import LoopOptions

        run = {name: options.pop(name) for name in ("output", "resume", "skip_bad", "cpu")}
        run["options"] = LoopOptions(log_every, save_every, num_workers)
        return command(*arguments, run=run, **options)

    return _add(RUN, collected)


def _add(options: tuple[Decorator, ...], command: Callable[..., Any]) -> Callable[..., Any]:
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@contextmanager
def one_process_reports() -> Iterator[None]:
    """Exit without output unless this process reports for the run.

    The main process prints the result; the process that fails first prints the error.
    """
    from w2v_edge.training.distributed import PeerFailedError, is_main_process

    try:
        yield
        if not is_main_process():
            sys.exit(0)
    except PeerFailedError:
        sys.exit(1)
