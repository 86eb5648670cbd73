"""`w2v-edge pretrain`: recordings without words to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.output import console, json_option, print_json, progress, require
from w2v_edge.cli.training_options import one_process_reports, recipe_options, run_options
from w2v_edge.names import Preset

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained


@click.command("pretrain")
@click.argument("audio", nargs=-1, required=True)
@click.option(
    "--preset",
    type=click.Choice(get_args(Preset)),
    help="The model, and how it is trained.  [default: base]",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    help="Go on from the weights of this checkpoint, of a model with a quantizer.",
)
@run_options
@recipe_options
@json_option
def command(
    audio: tuple[str, ...],
    preset: str | None,
    init: Path | None,
    running: dict[str, Any],
    overrides: dict[str, Any],
    as_json: bool,
) -> None:
    """Pre-train a model on AUDIO: files, folders of them, manifests, or shards of WebDataset.

    A manifest is a .tsv with a column `path`, or a .jsonl with a key `path`; any format that
    libsndfile reads, any sample rate. The model learns to tell the codes behind its masked frames
    from others. RUN/model.pt is its checkpoint, whole at any time: w2v-edge export RUN/model.pt.

    Shards are .tar files, 'shards-{000..127}.tar' or URLs of these (https://, gs://), for data that
    does not fit one disk. They are read as a stream, each process its own: what is in a batch then
    depends on how many processes there are.

    What is not said here is the preset's recipe. Runs repeat themselves, and a run that ended, or
    was ended, goes on with --resume as if nothing had been. On several GPUs or machines:
    torchrun --nproc-per-node 4 -m w2v_edge pretrain ...; --batch-seconds is of all together.

    \b
    w2v-edge pretrain recordings/ --preset tiny -o run
    w2v-edge pretrain recordings/ --preset tiny -o run --resume
    w2v-edge pretrain 'https://data.example.org/shards-{000..127}.tar' -o run
    tensorboard --logdir run
    """  # noqa: D301 - the escape is click's
    require("training", "audio", "train")
    from w2v_edge.errors import InputError
    from w2v_edge.training.pretrain import pretrain
    from w2v_edge.training.recipe import Callbacks

    if init is not None and running["resume"]:
        raise InputError("found --init with --resume; a run that goes on has its own weights")
    output = running.pop("output")
    with progress("pretrain") as show, one_process_reports():
        callbacks = Callbacks(show, lambda line: click.echo(f"warning: {line}", err=True))
        trained = pretrain(
            audio,
            output,
            preset_name=preset or "base",
            init=init,
            overrides=overrides,
            callbacks=callbacks,
            **running,
        )
    show_trained(trained, output, as_json=as_json)


def show_trained(trained: Trained, output: Path, *, as_json: bool) -> None:
    """Print where a run ended."""
    if as_json:
        print_json(
            {"model": output / "model.pt", **vars(trained)} | {"model": str(output / "model.pt")}
        )
        return
    for name, value in trained.figures.items():
        console().print(f"{name:>24}  {value:.4g}")
    state = "done" if trained.finished else "stopped; go on with --resume"
    console().print(f"{output / 'model.pt'}: {trained.update} updates, {state}")
