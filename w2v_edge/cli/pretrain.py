"""`w2v-edge pretrain`: pre-train a model on recordings without transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.options import json_option, verb
from w2v_edge.cli.output import console, print_json, progress, require, warn
from w2v_edge.cli.training_options import (
    RENAMED,
    one_process_reports,
    recipe_options,
    run_options,
)
from w2v_edge.names import Preset

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained


@verb("pretrain", RENAMED, short_help="Pre-train a model on recordings.")
@click.argument("audio", nargs=-1, required=True)
@click.option(
    "--preset",
    type=click.Choice(get_args(Preset)),
    show_default="base",
    help="Preset of the model and its hyperparameters.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="Start from the weights of this checkpoint, of a model with a quantizer.",
)
@run_options
@recipe_options
@json_option
def command(
    audio: tuple[str, ...],
    preset: str | None,
    init: Path | None,
    run: dict[str, Any],
    overrides: dict[str, Any],
    as_json: bool,
) -> None:
    """Pre-train a model on AUDIO: files, folders of them, manifests, or shards of WebDataset.

    A manifest is a .tsv with a column `path`, or a .jsonl with a key `path`; audio may have any
    format of libsndfile and any sample rate. The objective is contrastive: for each masked frame,
    identify its quantized features among distractors. RUN/model.pt is the checkpoint, valid at any
    time: w2v-edge export RUN/model.pt.

    Shards are .tar files, 'shards-{000..127}.tar' or URLs of these (https://, gs://), for data that
    does not fit one disk. Each process streams its own shards, so batches depend on the number of
    processes.

    Defaults of hyperparameters come from the preset. Runs are reproducible, and --resume continues
    an interrupted run exactly. On several GPUs or machines: torchrun --nproc-per-node 4 -m w2v_edge
    pretrain ...; --batch-seconds is the sum over all processes.

    \b
    w2v-edge pretrain recordings/ --preset tiny -o run
    w2v-edge pretrain recordings/ --preset tiny -o run --resume
    w2v-edge pretrain 'https://data.example.org/shards-{000..127}.tar' -o run
    tensorboard --logdir run
    """  # noqa: D301 - the escape is click's
    if init is not None and run["resume"]:
        raise click.UsageError("--init cannot be combined with --resume.")
    require("training", "audio", "train")
    from w2v_edge.training.pretrain import pretrain
    from w2v_edge.training.recipe import Callbacks

    output = run.pop("output")
    with progress("pretrain") as show, one_process_reports():
        callbacks = Callbacks(show, warn)
        trained = pretrain(
            audio,
            output,
            preset_name=preset or "base",
            init=init,
            overrides=overrides,
            callbacks=callbacks,
            **run,
        )
    show_trained(trained, output, as_json=as_json)


def show_trained(trained: Trained, output: Path, *, as_json: bool) -> None:
    """Print the final metrics of a run and its checkpoint."""
    if as_json:
        print_json({**vars(trained), "model": str(output / "model.pt")})
        return
    for name, value in trained.figures.items():
        console().print(f"{name:>24}  {value:.4g}")
    state = "done" if trained.finished else "stopped; continue with --resume"
    console().print(f"{output / 'model.pt'}: {trained.update} updates, {state}")
