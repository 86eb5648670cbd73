"""Options of verbs that train: the recipe, and the run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

POSITIVE = click.FloatRange(min=0, min_open=True)
SHARE = click.FloatRange(min=0, max=1, max_open=True)

RECIPE: tuple[Decorator, ...] = (
    click.option(
        "--updates",
        "--steps",
        "updates",
        type=click.IntRange(min=1),
        help="Optimiser steps in all.",
    ),
    click.option(
        "--batch-seconds", type=POSITIVE, help="Audio in a batch of all processes, with padding."
    ),
    click.option("--accumulate", type=click.IntRange(min=1), help="Batches that make one update."),
    click.option(
        "--crop-seconds", type=POSITIVE, help="Longer ones are cut; finetune leaves them out."
    ),
    click.option(
        "--min-seconds",
        "--least-seconds",
        "min_seconds",
        type=click.FloatRange(min=0),
        help="Shorter are left out.",
    ),
    click.option(
        "--validation-fraction",
        "--held-out",
        "validation_fraction",
        type=SHARE,
        help="Share that is evaluated on and not trained.",
    ),
    click.option("--learning-rate", type=POSITIVE, help="At its highest."),
    click.option("--warm-up", type=SHARE, help="Share of the updates until it is."),
    click.option("--weight-decay", type=click.FloatRange(min=0)),
    click.option("--clip-norm", type=POSITIVE, help="The longest gradient."),
    click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Of weights, order and masks."),
    click.option(
        "--dtype",
        "--precision",
        "precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Of the arithmetic; weights stay float32.",
    ),
)
NAMES = (
    "updates batch_seconds accumulate crop_seconds min_seconds validation_fraction learning_rate "
    "warm_up weight_decay clip_norm seed precision"
).split()

RUN: tuple[Decorator, ...] = (
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=True,
        help="Folder of the run: checkpoint, state, log.",
    ),
    click.option("--resume", is_flag=True, help="Go on with the run that is there."),
    click.option("--skip-bad", is_flag=True, help="Pass over files that cannot be read."),
    click.option("--cpu", is_flag=True, help="Stay off GPUs."),
    click.option(
        "--save-every",
        type=click.IntRange(min=1),
        default=500,
        show_default=True,
        help="Updates between saves, with an evaluation on what is held out.",
    ),
    click.option(
        "--log-every",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="Updates between lines of the log, which TensorBoard shows.",
    ),
    click.option(
        "--num-workers",
        "--readers",
        "num_workers",
        type=click.IntRange(min=1, max=256),
        default=2,
        show_default=True,
        help="Threads that read audio.",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the recipe's options; the command gets those that were given as `overrides`."""

    @wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in NAMES}
        overrides = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, overrides=overrides, **options)

    return _all(RECIPE, collected)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the run's options; the command gets them as `running`."""

    @wraps(command)
    def collected(
        *arguments: Any, save_every: int, log_every: int, num_workers: int, **options: Any
    ) -> Any:
        from w2v_edge.training.recipe import LoopOptions

        running = {name: options.pop(name) for name in ("output", "resume", "skip_bad", "cpu")}
        running["options"] = LoopOptions(log_every, save_every, num_workers)
        return command(*arguments, running=running, **options)

    return _all(RUN, collected)


@contextmanager
def one_process_reports() -> Iterator[None]:
    """Exit with 1, without a message, where another process of the run prints the error."""
    from w2v_edge.training.distributed import PeerFailedError

    try:
        yield
    except PeerFailedError:
        sys.exit(1)


def _all(options: tuple[Decorator, ...], command: Callable[..., Any]) -> Callable[..., Any]:
    return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)
