"""`w2v-edge inspect`: show the contents of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from w2v_edge import strict
from w2v_edge.bundle import Bundle, Manifest, TensorInfo
from w2v_edge.cli.export_output import print_source
from w2v_edge.cli.options import json_option, verb
from w2v_edge.cli.output import console, megabytes, print_json, print_table
from w2v_edge.errors import BundleIntegrityError


@verb("inspect")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Show the contents of BUNDLE: decisions, graphs, operators, files and their state, parity."""
    opened = Bundle.open(bundle)
    states = {name: _state(opened, name) for name in opened.manifest.files}
    if as_json:
        decided = {"decisions": opened.manifest.decisions, "file_states": states}
        print_json({**strict.to_plain(opened.manifest), **decided})
    else:
        _print(opened.manifest, states)
    broken = [name for name, state in states.items() if state != "ok"]
    if broken:
        raise BundleIntegrityError(
            f"{bundle}: {broken[0]} is {states[broken[0]]}; copy it again or export again"
        )


def _print(manifest: Manifest, states: dict[str, str]) -> None:
    _print_summary(manifest)
    _print_graphs(manifest)
    print_table(
        "files",
        ("file", ">size", "sha256", "state"),
        (
            (name, megabytes(info.size), info.sha256[:16], states[name])
            for name, info in manifest.files.items()
        ),
    )
    _print_parity(manifest)
    print_source(manifest.source)


def _precision(manifest: Manifest) -> str:
    return "fp32, computed in bf16" if manifest.precision == "bf16" else manifest.precision


def _print_summary(manifest: Manifest) -> None:
    codebook = manifest.codebook
    rate = manifest.sample_rate
    rows = {
        "architecture": manifest.config.get("architecture"),
        "weights": f"{_precision(manifest)}, for target {manifest.target}",
        "made from": (
            f"{manifest.source.name} ({manifest.source.format}), "
            f"sha256 {manifest.source.sha256[:16]}"
        ),
        "waveform": f"{rate} Hz mono, at least {manifest.min_samples} samples",
        "frames": (
            f"one every {manifest.hop} samples ({1000 * manifest.hop / rate:g} ms), "
            f"each sees {manifest.receptive_field}"
        ),
        "frames of n samples": manifest.output_length,
        "features, context": f"{manifest.features_dim}, {manifest.context_dim} wide",
        "codes": (
            "none"
            if codebook is None
            else f"{codebook.groups} groups of {codebook.entries}, vectors {codebook.vector_dim}"
        ),
        "logits": _head(manifest),
        "decided": manifest.decisions,
        "opset, IR": f"{manifest.opset}, {manifest.ir_version}",
        "shapes": _shapes(manifest),
        "longest context": f"{manifest.longest_context_seconds:g} s",
        "made with": ", ".join(f"{k} {v}" for k, v in manifest.tools.items()),
    }
    print_table("bundle", ("", ""), rows.items())


def _shapes(manifest: Manifest) -> str:
    if not manifest.shapes:
        return "any batch, any length"
    samples = ", ".join(str(x.samples) for x in manifest.shapes)
    return f"fixed: batches of {manifest.shapes[0].batch}, of {samples} samples"


def _head(manifest: Manifest) -> str:
    if manifest.heads:
        return "; ".join(
            f"{name} [batch, labels], {len(x.labels)} labels: {' '.join(x.labels[:10])}"
            for name, x in manifest.heads.items()
        )
    if not manifest.logits_axes:
        return "none"
    kind = "CTC" if manifest.ctc else "classes"
    if manifest.ctc and manifest.ctc.language:
        kind += f" of {manifest.ctc.language}"
    few = " ".join(manifest.labels[:10]) + (" ..." if len(manifest.labels) > 10 else "")  # noqa: PLR2004
    named = f"{len(manifest.labels)} labels: {few}" if manifest.labels else "labels not known"
    return f"{kind} [{', '.join(manifest.logits_axes)}], {named}"


def _print_graphs(manifest: Manifest) -> None:
    print_table(
        "graphs",
        ("graph", "inputs", "outputs", "data", ">nodes", "operators"),
        (
            (
                name,
                "\n".join(map(_tensor, graph.inputs)),
                "\n".join(map(_tensor, graph.outputs)),
                "\n".join(graph.data),
                sum(graph.operators.values()),
                " ".join(f"{op}:{n}" for op, n in _common(graph.operators)),
            )
            for name, graph in manifest.graphs.items()
        ),
    )


def _print_parity(manifest: Manifest) -> None:
    parity = manifest.parity
    if parity is None:
        console().print("parity: not checked")
        return
    console().print(
        f"parity with PyTorch at export: {'passed' if parity['passed'] else 'FAILED'}, "
        f"{parity['comparisons']} comparisons, {parity['codes_compared']:,} codes compared, "
        f"{parity['codes_wrong']} wrong, {parity['codes_tied']} ties, "
        f"distinct codes {parity['distinct_codes']}"
    )


def _state(bundle: Bundle, name: str) -> str:
    try:
        bundle.path(name)
    except BundleIntegrityError:
        return "damaged" if (bundle.folder / name).is_file() else "missing"
    return "ok"


def _tensor(tensor: TensorInfo) -> str:
    return f"{tensor.name} {tensor.type} [{', '.join(map(str, tensor.axes))}]"


def _common(operators: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(operators.items(), key=lambda item: -item[1])
