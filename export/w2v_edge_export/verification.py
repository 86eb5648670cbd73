"""Holds a bundle against its checkpoint: every weight, then the whole gate."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge.agreement import Deviation
from w2v_edge.bundle import GRAPH_INPUTS
from w2v_edge.checkpoints import load_source
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.gate import run_gate_of
from w2v_edge_export.parity import Report
from w2v_edge_export.parts import parts
from w2v_edge_export.pipeline import describe
from w2v_edge_export.progress import Progress
from w2v_edge_export.selection import Selection, select
from w2v_edge_export.targets import load_target
from w2v_edge_export.weight_quantization.stored import stored_weight

FOLDED = "position.conv.weight"
FOLDED_TOLERANCE = 1e-6
"""Relative: folding weight norm may round differently on another machine. All else is exact."""

ROUNDED_TOLERANCE = 0.05
"""How far a rounded weight's column may turn, one minus its cosine, or change its length."""


def verify_against(
    bundle: Model,
    checkpoint: str | Path,
    progress: Progress = lambda *_: None,
    *,
    kmeans: Path | None = None,
) -> Report:
    """Compare a bundle with a checkpoint.

    Args:
        bundle: the bundle.
        checkpoint: whatever `w2v_edge.checkpoints.load_source` reads.
        progress: hears what is being done.
        kmeans: the centroids, for a bundle that was exported with some.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the bundle was exported with centroids, and they are not given.
    """
    selection = Selection.from_dict(bundle.manifest.selection, kmeans)
    model = select(load_source(checkpoint, selection.language).model, selection)
    rows = compare_manifest(model, bundle, selection)
    if rows:
        return Report(tuple(rows), 0, 0, 0, (), bundle.provider)
    changed = compare_weights(model, bundle)
    report = run_gate_of(model, bundle, progress)
    return replace(report, rows=(*changed, *report.rows))


def compare_manifest(model: SpeechModel, bundle: Model, selection: Selection) -> list[Deviation]:
    """Compare what a manifest says of the model with the checkpoint; one row a field."""
    found = bundle.manifest
    target = load_target(found.target)
    expected = describe(
        model.config,
        target,
        found.precision,
        found.graphs,
        found.files,
        found.source,
        found.weight_quantization,
        selection,
    )
    there = parts(model).keys()
    lacking = {"statistics"} - there
    lacking |= {"quantizer", "tokenizer"} if "quantizer" not in there else set()
    names = GRAPH_INPUTS.keys() - lacking
    wrong = [
        field.name
        for field in dataclasses.fields(expected)
        if field.name not in {"tools", "parity", "sha256", "format_version"}
        and getattr(found, field.name) != getattr(expected, field.name)
    ]
    wrong += ["graphs"] if found.graphs.keys() != names else []
    return [Deviation("manifest", name, np.inf, 0, None, "not the checkpoint's") for name in wrong]


def compare_weights(model: SpeechModel, bundle: Model) -> list[Deviation]:
    """Compare every weight in every graph with the checkpoint's; one row a weight that differs.

    A weight that no clip happens to touch, such as the vector of a rare code, is seen here only.
    """
    expected = {
        f"{name}.{key}": tensor.numpy()
        for name, part in parts(model).items()
        for key, tensor in part.module.state_dict().items()
    }
    rows: dict[str, Deviation] = {}
    seen = set()
    for graph in bundle.manifest.graphs:
        found = _initializers(bundle, graph)
        for name, weight in expected.items():
            stored = found.get(name)
            integers = stored_weight(found, name, weight.shape)
            if stored is not None:
                row = _compare(name, stored, weight)
            elif integers is not None:
                row = _compare_rounded(name, integers, weight)
            else:
                continue
            seen.add(name)
            if not row.ok:
                rows[name] = row
    for name in sorted(expected.keys() - seen):
        rows[name] = Deviation("weights", name, np.inf, 0, None, "in no graph")
    return list(rows.values())


def _initializers(bundle: Model, graph: str) -> dict[str, npt.NDArray[Any]]:
    model = ir.load(bundle.bundle.graph_path(graph))
    return {
        name: value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def _compare_rounded(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Deviation:
    """Compare a weight that was rounded: direction and length of each output's column."""
    # Outputs come last, but for a grouped convolution, which is read without its scales.
    grouped = expected.ndim == len(("d", "c", "height", "kernel"))
    axes = (1, 2, 3) if grouped else (0,)
    product = (found * expected).sum(axis=axes, dtype=np.float64)
    norms = [np.sqrt(np.square(x).sum(axis=axes, dtype=np.float64)) for x in (found, expected)]
    silent = (norms[0] == 0) & (norms[1] == 0)
    cosines = np.where(silent, 1.0, product / np.maximum(norms[0] * norms[1], 1e-300))
    worst = float(1 - cosines.min(initial=1.0))
    if not grouped:
        lengths = np.where(silent, 1.0, norms[0] / np.maximum(norms[1], 1e-300))
        worst = max(worst, float(np.abs(lengths - 1).max(initial=0.0)))
    return Deviation("weights", name, worst, ROUNDED_TOLERANCE, None, "" if worst <= ROUNDED_TOLERANCE else "changed")


def _compare(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Deviation:
    if found.shape != expected.shape:
        return Deviation("weights", name, np.inf, 0, None, f"shape {found.shape}, not {expected.shape}")
    largest = float(np.abs(expected).max(initial=0.0))
    allowed = FOLDED_TOLERANCE * largest if name.endswith(FOLDED) else 0.0
    worst = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return Deviation("weights", name, worst, allowed, None, "" if worst <= allowed else "changed")
