"""Prints what an export found: tensors left out, graph passes, weight quantization, parity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2v_edge.bundle import Bundle, Manifest, SourceInfo
from w2v_edge.cli.output import megabytes, print_comparison, print_line, print_table

if TYPE_CHECKING:
    from w2v_edge_export.graph_passes import PassRecorder
    from w2v_edge_export.parity_report import ParityReport

MAX_NAMED = 4
"""Most tensors named with the reason for which they are left out; the manifest has all."""


def print_source(source: SourceInfo) -> None:
    """Print which tensors of a converted checkpoint were left out, and remarks."""
    if source.training_only:
        names = ", ".join(source.training_only)
        print_line(f"not needed for inference: {names}")
    reasons: dict[str, list[str]] = {}
    for name, why in source.left_out.items():
        reasons.setdefault(why, []).append(name)
    for why, left_out in reasons.items():
        more = f" and {len(left_out) - MAX_NAMED} more" if len(left_out) > MAX_NAMED else ""
        print_line(f"left out: {', '.join(left_out[:MAX_NAMED])}{more} ({why})")
    for remark in source.remarks:
        print_line(f"note: {remark}")


def print_language_model(manifest: Manifest) -> None:
    """Print size, weights and licence of the language model, if the bundle has one."""
    info = manifest.language_model
    if info is None:
        return
    size = sum(manifest.files[name].size for name in info.files)
    licence = info.licence or "not stated in the folder"
    print_line(
        f"language model: {info.name}, {megabytes(size)}, alpha {info.alpha:g}, beta "
        f"{info.beta:g}, licence: {licence}"
    )


def print_folders(bundle: Bundle, beside: Path | None) -> None:
    """Print the sizes of a bundle and of the same in ORT format, if there is one."""
    print_line(f"{bundle.folder}: verified, {megabytes(bundle.size)}")
    if beside is not None:
        size = sum(path.stat().st_size for path in beside.iterdir())
        print_line(f"{beside}: the same in ORT format, {megabytes(size)}")


def print_recorder(recorder: PassRecorder) -> None:
    """Print nodes and size after each graph pass."""
    print_table(
        "graph passes, all parts together",
        ("pass", ">nodes", ">change", ">MB", ">change"),
        (
            (
                row.name,
                row.nodes,
                f"{row.nodes - before.nodes:+d}",
                f"{row.size / 1e6:.3f}",
                f"{(row.size - before.size) / 1e6:+.3f}",
            )
            for before, row in recorder.steps()
        ),
    )


def print_quantization(
    quantization: dict[str, Any], *, details: bool = True, float_frontend: bool = False
) -> None:
    """Print precision and noise of the layers, and the budgets.

    Args:
        quantization: as the manifest has it.
        details: print a row for each layer; else a summary.
        float_frontend: whether the front end stays in float by request, and not for a budget.
    """
    layers, values = quantization["layers"], quantization["largest_values"]
    if layers and details:
        _print_layers(layers)
    elif layers:
        _print_layer_summary(layers, float_frontend=float_frontend)
    if values and details:
        _print_largest(values)
    elif values:
        name, value = max(values.items(), key=lambda item: float(item[1]))
        print_line(f"largest activation {value:.4g}, {name}; fp16 ends at 65504")
    _print_budgets(quantization)


def _print_layer_summary(layers: list[dict[str, Any]], *, float_frontend: bool) -> None:
    made = [x for x in layers if x["precision"] != "fp32"]
    worst = max(made, key=lambda layer: layer["noise"])
    print_line(
        f"{len(made)} of {len(layers)} layers in {worst['precision']}, "
        f"{sum(x['cost'] for x in made):.1%} of the work; largest noise {_decibels(worst)} dB, "
        f"{worst['name']}"
    )
    floats = [x["name"] for x in layers if x["precision"] == "fp32"]
    asked = [x for x in floats if float_frontend and x.startswith("frontend.")]
    for names, why in (
        ([x for x in floats if x not in asked], "to hold the budgets"),
        (asked, "by --frontend-precision"),
    ):
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            listed = f"{', '.join(names[:MAX_NAMED])}{more}"
            print_line(f"in float32 {why}: {listed}")


def _decibels(layer: dict[str, Any]) -> str:
    return f"{10 * math.log10(max(layer['noise'], 1e-20)):.1f}"


def _print_largest(values: dict[str, float]) -> None:
    print_table(
        "largest activations; fp16 ends at 65504",
        ("value", ">largest magnitude"),
        ((name, f"{value:.4g}") for name, value in values.items()),
    )


def _print_layers(layers: list[dict[str, Any]]) -> None:
    print_table(
        "layers by sensitivity: noise over cost",
        ("layer", "precision", "ranges", ">noise, dB", ">fraction of the work"),
        (
            (
                layer["name"],
                layer["precision"],
                layer["ranges"] + (", balanced" if layer["balanced"] else ""),
                _decibels(layer),
                f"{layer['cost']:.2%}",
            )
            for layer in layers
        ),
    )


def _print_budgets(quantization: dict[str, Any]) -> None:
    measured, budgets = quantization["measured"], quantization["budgets"]
    speed = measured["speedup"]
    faster = "not measured here" if speed is None else f"{speed:.2f} times float32"
    if speed is not None and budgets["require_speedup"]:
        faster += f" (budget {budgets['require_speedup']:g})"
    cosine = f"context cosine at the worst decile {measured['context_cosine']:.5f}"
    found = [f"{cosine} (budget {budgets['min_cosine']:g})"]
    if measured["codes"]:
        found.append(
            f"code drift {measured['code_drift']:.2%}, up to {measured['drift_bound']:.2%} on "
            f"other audio (budget {budgets['max_code_drift']:.2%})"
        )
    if measured["label_drift"] is not None:
        limit = budgets.get("max_label_change")
        budget = "" if limit is None else f" (budget {limit:.2%})"
        found.append(f"best labels that change {measured['label_drift']:.2%}{budget}")
    shift = measured.get("label_shift")
    if shift is not None:
        limit = budgets.get("max_shift")
        budget = "" if limit is None else f" (budget {limit:g} ms)"
        found.append(f"labels move by {shift:.0f} ms at the 99th percentile{budget}")
    print_line(", ".join([*found, f"speed {faster}"]))


def print_report(report: ParityReport) -> None:
    """Print a parity report: failures, or for each output the row nearest to its tolerance."""
    failures = report.failures
    if failures:
        print_comparison("differs from PyTorch", failures, report.rounding)
    else:
        equal = "equal to PyTorch" if report.exact else "within the budgets"
        title = f"{equal} in {len(report.rows)} comparisons; nearest to the tolerance:"
        print_comparison(title, report.worst(), report.rounding)
    if report.codes_compared:
        verdict = (
            f"{report.codes_wrong} wrong, {report.codes_tied} ties"
            if report.exact
            else f"{report.codes_wrong} changed"
        )
        print_line(
            f"codes: {report.codes_compared:,} compared, {verdict}; distinct codes by group: "
            f"{', '.join(map(str, report.distinct_codes))}"
        )
    for remark in report.remarks:
        print_line(f"note: {remark}")
