"""`w2v-edge export`: a checkpoint becomes a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from w2v_edge.cli.output import (
    console,
    force_option,
    json_option,
    megabytes,
    print_comparison,
    print_json,
    progress,
    require,
)
from w2v_edge.errors import CheckpointError
from w2v_edge.names import Precision

if TYPE_CHECKING:
    from w2v_edge_export.parity import Report


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The bundle's folder.  [default: CHECKPOINT-PRECISION beside the checkpoint]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="fp32",
    show_default=True,
    help="Of the weights.",
)
@click.option("--target", default="cpu", show_default=True, help="Profile: cpu or cuda.")
@force_option
@json_option
def command(
    checkpoint: Path,
    output: Path | None,
    precision: str,
    target: str,
    force: bool,
    as_json: bool,
) -> None:
    """Export CHECKPOINT to a bundle of ONNX graphs that is proven equal to PyTorch.

    Every graph is compared with the PyTorch model on recorded speech and noise, from one receptive
    field to 30 s, alone and in padded batches. If any output differs beyond its
    bar, nothing is written and the exit code is 3.
    """
    require("exporting", "export", "cpu")
    from w2v_edge_export.pipeline import GateError, export_bundle

    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: expected a checkpoint file; make one: w2v-edge init")
    output = output or checkpoint.with_name(f"{checkpoint.stem}-{precision}")
    try:
        with progress("export") as show:
            report = export_bundle(
                checkpoint, output, precision=precision, target=target, force=force, progress=show
            )
    except GateError as error:
        if as_json:
            print_json({"bundle": None, "parity": error.report.to_dict()})
        else:
            print_report(error.report)
        raise
    if as_json:
        print_json({"bundle": str(output), "parity": report.to_dict()})
        return
    print_report(report)
    size = sum(path.stat().st_size for path in output.iterdir())
    console().print(f"{output}: verified, {megabytes(size)}")


def print_report(report: Report) -> None:
    """Print a parity report: what failed, or the row nearest to its bar for each output."""
    failures = report.failures
    if failures:
        print_comparison("differs from PyTorch", failures)
    else:
        title = f"equal to PyTorch in {len(report.rows)} comparisons; the nearest to their bars"
        print_comparison(title, report.worst())
    if report.codes_compared:
        console().print(
            f"codes: {report.codes_compared:,} compared, {report.codes_wrong} wrong, "
            f"{report.codes_tied} ties; distinct codes by group: "
            f"{', '.join(map(str, report.distinct_codes))}"
        )
    for remark in report.remarks:
        console().print(f"note: {remark}")
