"""`w2v-edge inspect`: show the contents of a bundle."""

from __future__ import annotations

from pathlib import Path

import click
from rich.padding import Padding

from w2v_edge import strict
from w2v_edge.bundle import Bundle, Manifest, TensorInfo
from w2v_edge.cli.export_output import print_source
from w2v_edge.cli.options import json_option, verb
from w2v_edge.cli.output import console, megabytes, print_json, print_table
from w2v_edge.errors import BundleIntegrityError
from w2v_edge.latency.report.wording import figure


@verb("inspect", short_help="Show the contents of a bundle.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--operators", is_flag=True, help="Also show each graph's operators and weights.")
@json_option
def command(bundle: Path, operators: bool, as_json: bool) -> None:
    """Show the contents of BUNDLE: decisions, graphs, files and their state, parity."""
    opened = Bundle.open(bundle)
    states = {name: _state(opened, name) for name in opened.manifest.files}
    if as_json:
        decided = {"decisions": opened.manifest.decisions, "file_states": states}
        print_json({**strict.to_plain(opened.manifest), **decided})
    else:
        _print(opened.manifest, states, opened.size, operators=operators)
    broken = [name for name, state in states.items() if state != "ok"]
    if broken:
        raise BundleIntegrityError(
            f"{bundle}: {broken[0]} is {states[broken[0]]}; copy it again or export again"
        )


def _print(manifest: Manifest, states: dict[str, str], size: int, *, operators: bool) -> None:
    _print_summary(manifest, size)
    _print_graphs(manifest)
    if operators:
        _print_operators(manifest)
    print_table(
        "files",
        ("file", ">size, MB", "sha256", "state"),
        (
            (name, figure(info.size / 1e6), info.sha256[:16], states[name])
            for name, info in manifest.files.items()
        ),
    )
    _print_parity(manifest)
    print_source(manifest.source)


def _precision(manifest: Manifest) -> str:
    return "fp32, computed in bf16" if manifest.precision == "bf16" else manifest.precision


def _print_summary(manifest: Manifest, size: int) -> None:
    codebook = manifest.codebook
    rate = manifest.sample_rate
    rows = {
        "architecture": manifest.config.get("architecture"),
        "weights": f"{_precision(manifest)}, for target {manifest.target}",
        "size": f"{megabytes(size)} in {len(manifest.files)} files and the manifest",
        "made from": (
            f"{manifest.source.name} ({manifest.source.format}), "
            f"sha256 {manifest.source.sha256[:16]}"
        ),
        "waveform": f"{rate} Hz mono, at least {manifest.min_samples} samples",
        "frames": (
            f"one every {manifest.hop} samples ({1000 * manifest.hop / rate:g} ms), "
            f"each sees {manifest.receptive_field} samples"
        ),
        "frames by samples": manifest.output_length,
        "features": f"{manifest.features_dim} wide",
        "context": f"{manifest.context_dim} wide",
        "codes": codebook
        and f"{codebook.groups} groups of {codebook.entries}, vectors {codebook.vector_dim} wide",
        "logits": _head(manifest),
        "decided": manifest.decisions,
        "opset, IR": f"{manifest.opset}, {manifest.ir_version}",
        "shapes": _shapes(manifest),
        "longest context": f"{manifest.longest_context_seconds:g} s",
        "made with": ", ".join(f"{k} {v}" for k, v in manifest.tools.items()),
    }
    print_table("bundle", ("", ""), ((name, text) for name, text in rows.items() if text))


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
        return ""
    kind = "CTC" if manifest.ctc else "classes"
    if manifest.ctc and manifest.ctc.language:
        kind += f" of {manifest.ctc.language}"
    few = " ".join(manifest.labels[:10]) + (" ..." if len(manifest.labels) > 10 else "")  # noqa: PLR2004
    named = f"{len(manifest.labels)} labels: {few}" if manifest.labels else "labels not known"
    return f"{kind} [{', '.join(manifest.logits_axes)}], {named}"


def _print_graphs(manifest: Manifest) -> None:
    print_table(
        "graphs; values are float32 unless their type is named",
        ("graph", "inputs", "outputs"),
        (
            (name, *("\n".join(map(_tensor, x)) for x in (graph.inputs, graph.outputs)))
            for name, graph in manifest.graphs.items()
        ),
    )


def _print_operators(manifest: Manifest) -> None:
    console().print("operators", style="bold")
    for name, graph in manifest.graphs.items():
        common = sorted(graph.operators.items(), key=lambda item: -item[1])
        console().print(
            f"  {name}: {sum(graph.operators.values())} nodes, weights: "
            f"{', '.join(graph.data) or 'none'}"
        )
        listed = ", ".join(f"{op} {number}" for op, number in common)
        console().print(Padding(listed, (0, 0, 0, 4)))
    console().print()


def _print_parity(manifest: Manifest) -> None:
    parity = manifest.parity
    if parity is None:
        console().print("parity: not checked")
        return
    codes = (
        f", {parity['codes_compared']:,} codes compared, {parity['codes_wrong']} "
        f"{'changed' if manifest.weight_quantization else 'wrong'}, {parity['codes_tied']} ties, "
        f"distinct codes by group: {', '.join(map(str, parity['distinct_codes']))}"
    )
    console().print(
        f"parity with PyTorch at export: {'passed' if parity['passed'] else 'FAILED'}, "
        f"{parity['comparisons']} comparisons{codes if parity['codes_compared'] else ''}"
    )


def _state(bundle: Bundle, name: str) -> str:
    try:
        bundle.path(name)
    except BundleIntegrityError:
        return "damaged" if (bundle.folder / name).is_file() else "missing"
    return "ok"


def _tensor(tensor: TensorInfo) -> str:
    kind = "" if tensor.type == "float" else f" {tensor.type}"
    return f"{tensor.name} [{', '.join(map(str, tensor.axes))}]{kind}"
