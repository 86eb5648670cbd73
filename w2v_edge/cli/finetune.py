"""`w2v-edge finetune`: fine-tune a checkpoint with CTC on transcribed recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.options import json_option, reading_options, verb
from w2v_edge.cli.output import console, print_json, progress, require, warn
from w2v_edge.cli.pretrain import show_trained
from w2v_edge.cli.training_options import (
    FRACTION,
    RENAMED,
    one_process_reports,
    recipe_options,
    run_options,
)

if TYPE_CHECKING:
    from w2v_edge.training.finetune import Finetuned


@verb("finetune", RENAMED, short_help="Fine-tune a checkpoint for speech recognition.")
@click.argument("checkpoint")
@click.argument("manifest", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--valid",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Manifest for validation, instead of --validation-fraction; may be repeated.",
)
@click.option("--new-vocabulary", is_flag=True, help="Discard the labels of the checkpoint.")
@reading_options
@click.option(
    "--train-feature-encoder",
    is_flag=True,
    default=None,
    help="Also train the convolutions; codes are lost.",
)
@click.option(
    "--freeze-updates",
    type=click.IntRange(min=0),
    show_default="half, at most 10000, for base and large with a new head; else 0",
    help="Initial updates that train the head only.",
)
@click.option(
    "--mask-time",
    type=FRACTION,
    show_default="0.65; 0.2 below base",
    help="Fraction of frames that are masked.",
)
@click.option(
    "--mask-channels",
    type=FRACTION,
    show_default="0.25; 0.1 below base",
    help="Fraction of channels that are masked.",
)
@run_options
@recipe_options
@json_option
def command(
    checkpoint: str,
    manifest: tuple[Path, ...],
    valid: tuple[Path, ...],
    new_vocabulary: bool,
    read_with: dict[str, Any],
    train_feature_encoder: bool | None,
    run: dict[str, Any],
    overrides: dict[str, Any],
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune CHECKPOINT for speech recognition with the transcripts of MANIFEST.

    CHECKPOINT is a transformer in any format that w2v-edge export reads, with or without a head;
    --as body leaves its head out.
    MANIFEST is a .tsv with the columns `path` and `text`, or a .jsonl with these keys. The loss is
    CTC. RUN/model.pt is the checkpoint: w2v-edge export RUN/model.pt, w2v-edge transcribe
    RUN/model-fp32.

    Texts are normalised to lower case without punctuation: letters, digits, apostrophes within
    words. Labels are their characters, or the vocabulary of the checkpoint, whose case and
    punctuation are kept. Recordings longer than --crop-seconds, without text, or with more text
    than frames are left out and counted. On the validation recordings, validation/cer and
    validation/wer are error rates against the texts in the labels' form, validation/cer_as_written
    and validation/wer_as_written against the texts as the manifest has them.

    The feature encoder is frozen, so codes of the checkpoint are kept. Defaults of hyperparameters
    depend on the model's size. On several GPUs: torchrun, as for pretrain.

    \b
    w2v-edge finetune pretrained/model.pt words.tsv -o run
    w2v-edge finetune facebook/wav2vec2-base words.tsv --valid more.tsv -o run
    w2v-edge finetune pretrained/model.pt words.tsv -o run --resume
    """  # noqa: D301 - the escape is click's
    if new_vocabulary and run["resume"]:
        raise click.UsageError("--new-vocabulary cannot be combined with --resume.")
    require("fine-tuning", "audio", "train")
    from w2v_edge.training.finetune import finetune
    from w2v_edge.training.recipe import Callbacks

    given = {**options, "train_feature_encoder": train_feature_encoder}
    output = run.pop("output")
    with progress("finetune") as show, one_process_reports():
        callbacks = Callbacks(show, warn)
        finetuned = finetune(
            checkpoint,
            manifest,
            output,
            valid=valid,
            overrides=overrides,
            task_options={name: value for name, value in given.items() if value is not None},
            new_vocabulary=new_vocabulary,
            read_with=read_with,
            callbacks=callbacks,
            **run,
        )
    _show(finetuned, output, as_json=as_json)


def _show(finetuned: Finetuned, output: Path, *, as_json: bool) -> None:
    """Print the final metrics and example transcripts."""
    if as_json:
        examples = [vars(x) for x in finetuned.examples]
        trained = vars(finetuned.trained)
        print_json({"model": str(output / "model.pt"), **trained, "examples": examples})
        return
    for example in finetuned.examples:
        if example.written != example.reference:
            console().print(f"{'as written':>24}  {example.written}")
        console().print(f"{'reference':>24}  {example.reference}")
        console().print(f"{'hypothesis':>24}  {example.hypothesis}")
    show_trained(finetuned.trained, output, as_json=False)
