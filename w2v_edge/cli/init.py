"""`w2v-edge init`: a checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from w2v_edge.cli.output import console, force_option, json_option, megabytes, print_json, require
from w2v_edge.files import refuse_existing
from w2v_edge.names import Preset


@click.command("init")
@click.option("--preset", type=click.Choice(get_args(Preset)), default="base", show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of the random weights.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file.  [default: PRESET.pt]"
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
    refuse_existing(output, force=force)
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
