"""`w2v-edge finetune`: a checkpoint, and recordings with texts, to a model that writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.output import console, json_option, print_json, progress, require
from w2v_edge.cli.pretrain import show_trained
from w2v_edge.cli.training_options import (
    SHARE,
    one_process_reports,
    recipe_options,
    run_options,
)

if TYPE_CHECKING:
    from w2v_edge.training.finetune import Finetuned


@click.command("finetune")
@click.argument("checkpoint")
@click.argument("manifest", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--valid",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Manifest that is evaluated on, instead of --held-out; may be given again.",
)
@click.option("--new-vocabulary", is_flag=True, help="Drop the labels that the checkpoint has.")
@click.option("--language", help="Whose adapter and vocabulary to take, in a model with several.")
@click.option(
    "--train-feature-encoder",
    is_flag=True,
    default=None,
    help="Train the convolutions too; codes are lost then.",
)
@click.option(
    "--freeze-updates",
    type=click.IntRange(min=0),
    help="Updates in which the head alone is trained.  [default: half, up to 10000, of base and "
    "large with a new head; else 0]",
)
@click.option(
    "--mask-time", type=SHARE, help="Share of frames in masks.  [default: 0.65; below base 0.2]"
)
@click.option(
    "--mask-channels",
    type=SHARE,
    help="Share of channels in masks.  [default: 0.25; below base 0.1]",
)
@run_options
@recipe_options
@json_option
def command(
    checkpoint: str,
    manifest: tuple[Path, ...],
    valid: tuple[Path, ...],
    new_vocabulary: bool,
    language: str | None,
    train_feature_encoder: bool | None,
    running: dict[str, Any],
    overrides: dict[str, Any],
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune CHECKPOINT to write what is said in the recordings of MANIFEST.

    CHECKPOINT is whatever w2v-edge export takes, of a transformer: trained by w2v-edge pretrain or
    by others, with a head or without. MANIFEST is a .tsv with the columns `path` and `text`, or a
    .jsonl with these keys. The loss is CTC. RUN/model.pt is a checkpoint as any other: w2v-edge
    export RUN/model.pt, w2v-edge transcribe RUN/model-fp32.

    Texts are learned in lower case, without punctuation: letters, digits, apostrophes within words.
    The labels are their characters, unless the checkpoint has a vocabulary, which stays.
    Recordings are not cut: those longer than --crop-seconds, without text, or with more text than
    frames are left out, and counted. CER and WER are measured on what is held out.

    The feature encoder stays as it is, and codes with it, if the checkpoint has them. What is not
    said here is a recipe by the model's size. On several GPUs: torchrun, as for pretrain.

    \b
    w2v-edge finetune pretrained/model.pt words.tsv -o run
    w2v-edge finetune facebook/wav2vec2-base words.tsv --valid more.tsv -o run
    w2v-edge finetune pretrained/model.pt words.tsv -o run --resume
    """  # noqa: D301 - the escape is click's
    require("fine-tuning", "audio", "train")
    from w2v_edge.errors import InputError
    from w2v_edge.training.finetune import finetune
    from w2v_edge.training.recipe import Callbacks

    if new_vocabulary and running["resume"]:
        raise InputError("found --new-vocabulary with --resume; a run that goes on has its own")
    given = {**options, "train_feature_encoder": train_feature_encoder}
    output = running.pop("output")
    with progress("finetune") as show, one_process_reports():
        callbacks = Callbacks(show, lambda line: click.echo(f"warning: {line}", err=True))
        finetuned = finetune(
            checkpoint,
            manifest,
            output,
            valid=valid,
            overrides=overrides,
            task_options={name: value for name, value in given.items() if value is not None},
            new_vocabulary=new_vocabulary,
            language=language,
            callbacks=callbacks,
            **running,
        )
    _show(finetuned, output, as_json=as_json)


def _show(finetuned: Finetuned, output: Path, *, as_json: bool) -> None:
    """Print where the run ended, and what the model wrote."""
    if as_json:
        examples = [vars(x) for x in finetuned.examples]
        trained = vars(finetuned.trained)
        print_json({"model": str(output / "model.pt"), **trained, "examples": examples})
        return
    for example in finetuned.examples:
        console().print(f"{'said':>24}  {example.reference}")
        console().print(f"{'written':>24}  {example.hypothesis}")
    show_trained(finetuned.trained, output, as_json=False)
