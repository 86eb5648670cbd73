"""`w2v-edge init`: make a checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from w2v_edge.cli.options import force_option, json_option, verb
from w2v_edge.cli.output import console, megabytes, print_json, require
from w2v_edge.files import check_absent
from w2v_edge.names import Preset


@verb("init", short_help="Make a checkpoint with random weights.")
@click.option(
    "--preset", type=click.Choice(get_args(Preset)), default="base", help="Preset of the model."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    help="Random seed of the weights.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    show_default="PRESET.pt",
    help="Checkpoint to write.",
)
@force_option
@json_option
def command(preset: str, seed: int, output: Path | None, force: bool, as_json: bool) -> None:
    """Make a checkpoint of a preset with random weights.

    The same seed gives the same weights.
    """
    require("making a checkpoint", "export")
    from w2v_edge.model import build_model, save_checkpoint
    from w2v_edge.model import preset as load_preset

    output = output or Path(f"{preset}.pt")
    check_absent(output, force=force)
    model = build_model(load_preset(preset), seed=seed)
    save_checkpoint(model, output)
    parameters = sum(p.numel() for p in model.parameters())
    size = output.stat().st_size
    if as_json:
        print_json(
            {
                "checkpoint": str(output),
                "preset": preset,
                "seed": seed,
                "parameters": parameters,
                "bytes": size,
            }
        )
        return
    console().print(f"{output}: {preset}, {parameters:,} parameters, {megabytes(size)}")
