"""`w2v-edge verify`: check hashes and outputs of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.agreement import Deviation
from w2v_edge.cli.on import bundle_tree, remote_verb
from w2v_edge.cli.options import base_option, json_option, processor_option, provider_option
from w2v_edge.cli.output import console, print_comparison, print_json, require, stages
from w2v_edge.errors import ParityError
from w2v_edge.providers import ProviderChoice

if TYPE_CHECKING:
    from w2v_edge.runtime.model import Model


@remote_verb(
    "verify",
    short_help="Check the files and outputs of a bundle.",
    inputs={"bundle": bundle_tree},
    refused=("checkpoint", "kmeans", "standardise", "processor", "base"),
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    help="Compare weights and outputs with this checkpoint in PyTorch, as export does.",
)
@click.option(
    "--kmeans",
    type=click.Path(path_type=Path),
    help="With --checkpoint: centroids that the bundle was exported with.",
)
@click.option(
    "--standardise",
    type=click.Path(path_type=Path),
    help="With --checkpoint: statistics that the bundle was exported with.",
)
@processor_option
@base_option
@provider_option
@json_option
def command(
    bundle: Path,
    checkpoint: str | None,
    kmeans: Path | None,
    standardise: Path | None,
    processor: Path | None,
    base: str | None,
    provider: ProviderChoice,
    as_json: bool,
) -> None:
    """Check every file of BUNDLE against its hash, and its outputs against golden vectors.

    Golden vectors are outputs of PyTorch, stored at export: torch is not needed. --checkpoint
    compares with PyTorch itself. The exit code is 3 if outputs differ.
    """
    sources = {"kmeans": kmeans, "standardise": standardise, "processor": processor, "base": base}
    for name, value in sources.items():
        if value is not None and checkpoint is None:
            raise click.UsageError(f"--{name} has no effect without --checkpoint")
    require("verifying", "cpu")
    import w2v_edge

    model = w2v_edge.load(bundle, provider=provider)
    model.bundle.check_all()
    if checkpoint is None:
        _verify_golden(model, as_json=as_json)
    else:
        _verify_checkpoint(model, checkpoint, as_json=as_json, **sources)


def _verify_golden(model: Model, *, as_json: bool) -> None:
    from w2v_edge.bundle.golden import check_golden

    rows, agreement = check_golden(model)
    failures = [row for row in rows if not row.ok]
    if as_json:
        print_json(
            {
                "passed": not failures,
                "against": "golden vectors",
                "files": len(model.manifest.files),
                "codes_compared": agreement.compared,
                "codes_tied": agreement.ties,
                "comparisons": rows,
            }
        )
    else:
        found = "differs from" if failures else "within the tolerances of"
        print_comparison(f"{found} the golden vectors", failures or rows)
    _finish(model, failures, quiet=as_json)


def _verify_checkpoint(model: Model, checkpoint: str, *, as_json: bool, **sources: Any) -> None:
    require("verifying against a checkpoint", "export", "cpu")
    from w2v_edge.cli.export_output import print_report
    from w2v_edge_export.verification import verify_against

    with stages("verify") as shown:
        report = verify_against(model, checkpoint, shown, **sources)
    if as_json:
        print_json({"against": checkpoint, **report.to_dict()})
    else:
        print_report(report)
    if not report.passed:
        raise ParityError(f"{model.bundle.folder}: {report.summary}")
    _finish(model, [], quiet=as_json)


def _finish(model: Model, failures: list[Deviation], *, quiet: bool) -> None:
    if failures:
        first = failures[0]
        raise ParityError(
            f"{model.bundle.folder}: {len(failures)} comparisons failed; "
            f"first: {first.output} of {first.case}"
        )
    if not quiet:
        console().print(f"{model.bundle.folder}: {len(model.manifest.files)} files, verified")
