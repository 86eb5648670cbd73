"""`w2v-edge import`: convert a checkpoint to the format of w2v-edge, or to transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.options import force_option, head_option, json_option, reading_options, verb
from w2v_edge.cli.output import console, megabytes, print_json, require
from w2v_edge.errors import OutputExistsError
from w2v_edge.files import check_absent

if TYPE_CHECKING:
    from w2v_edge.checkpoints import Source
    from w2v_edge.model.config import ModelConfig

EPS_OF_TRANSFORMERS = 1e-7


@verb("import", short_help="Convert a checkpoint to one of w2v-edge.")
@click.argument("source")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    show_default="the name of SOURCE with .pt, here",
    help="Checkpoint to write.",
)
@reading_options
@head_option
@click.option(
    "--to",
    "target",
    type=(click.Choice(("huggingface",)), click.Path(path_type=Path)),
    metavar="huggingface DIR",
    help="Write a folder for transformers instead of a checkpoint.",
)
@force_option
@json_option
def command(
    source: str,
    output: Path | None,
    read_with: dict[str, Any],
    heads: tuple[str, ...],
    target: tuple[str, Path] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Convert SOURCE to a checkpoint of w2v-edge, which can be trained and exported.

    SOURCE is a folder of Hugging Face transformers, a model name on the Hub, or a .pt file of
    fairseq, fairseq2, torchaudio or w2v-edge. A missing or unexpected tensor is an error.
    --to huggingface DIR converts in the other direction.
    """
    if target is not None and output is not None:
        raise click.UsageError("-o and --to exclude each other")
    require("importing a checkpoint", "export")
    from w2v_edge.checkpoints import load_source
    from w2v_edge.checkpoints.huggingface.writer import write_folder
    from w2v_edge.model.checkpoint import save_checkpoint

    written = target[1] if target is not None else output or _default_output(source)
    check_absent(written, force=force)
    if Path(source).exists() and written.exists() and written.samefile(source):
        raise OutputExistsError(f"{written} is the source itself; choose another output")
    found = load_source(source, heads=heads, **read_with)
    if target is not None:
        write_folder(found.model, written, force=force)
    else:
        save_checkpoint(found.model, written)
    result = _result(found, written)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _default_output(source: str) -> Path:
    from w2v_edge.checkpoints.hub import is_hub_name

    path = Path(source)
    name = path.stem if path.is_file() else path.resolve().name
    if is_hub_name(source):
        name = source.partition("@")[0].partition("/")[2]
    output = Path(f"{name or 'model'}.pt")
    # The source itself may have this name.
    return Path(f"{name}-imported.pt") if output.exists() else output


def _result(found: Source, written: Path) -> dict[str, Any]:
    config = found.model.config
    coverage = found.coverage
    files = [written] if written.is_file() else list(written.iterdir())
    return {
        "output": str(written),
        "source": found.name,
        "format": found.format,
        "architecture": config.architecture,
        "parameters": sum(p.numel() for p in found.model.parameters()),
        "bytes": sum(path.stat().st_size for path in files),
        "quantizer": config.quantizer is not None,
        "head": None if config.head is None else config.head.kind,
        "labels": 0 if config.head is None else sum(config.head.outputs.values()),
        "normalised": config.normalise is not None,
        "tensors_used": None if coverage is None else coverage.used,
        "tensors_for_training_only": [] if coverage is None else list(coverage.training),
        "tensors_left_out": {} if coverage is None else dict(coverage.ignored),
        "remarks": [*found.remarks, *_of_folder(config, written)],
    }


def _of_folder(config: ModelConfig, written: Path) -> list[str]:
    """Return differences that a folder for transformers cannot express."""
    if not written.is_dir():
        return []
    remarks, normalise, head = [], config.normalise, config.head
    if normalise is not None and normalise.eps != EPS_OF_TRANSFORMERS:
        remarks.append(
            f"transformers adds {EPS_OF_TRANSFORMERS:g} to the variance that it normalises by, "
            f"this model {normalise.eps:g}: they differ on very quiet audio"
        )
    if head is not None and head.kind == "xvector":
        remarks.append(
            "the classifier of the speakers in training was not read: transformers draws a new "
            "one, which embeddings do not go through"
        )
    if head is not None and head.kind == "pooled":
        remarks.append("transformers has no class with such a head: it needs one of your own")
    return remarks


def _print(result: dict[str, Any]) -> None:
    what = "values" if result["head"] == "xvector" else "labels"
    head = f"{result['head']} head of {result['labels']} {what}" if result["head"] else "no head"
    quantizer = "a quantizer" if result["quantizer"] else "no quantizer"
    waveform = "normalised" if result["normalised"] else "as it is"
    screen = console()
    screen.print(
        f"{result['output']}: {result['architecture']}, {result['parameters']:,} parameters, "
        f"{quantizer}, {head}, waveform {waveform}, {megabytes(result['bytes'])}",
        soft_wrap=True,
    )
    if result["tensors_used"] is not None:
        screen.print(f"{result['tensors_used']} tensors used, none missing, none unexpected")
    if result["tensors_for_training_only"]:
        names = ", ".join(result["tensors_for_training_only"])
        screen.print(f"kept for training only: {names}", soft_wrap=True)
    for name, why in result["tensors_left_out"].items():
        screen.print(f"left out: {name} ({why})", soft_wrap=True)
    for remark in result["remarks"]:
        screen.print(f"note: {remark}", soft_wrap=True)
