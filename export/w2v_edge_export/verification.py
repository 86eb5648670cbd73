"""Comparison of a bundle with its checkpoint: every weight, then the parity gate."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge.agreement import Deviation
from w2v_edge.bundle import GRAPH_INPUTS
from w2v_edge.errors import ConfigError
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.bundle_writer import describe
from w2v_edge_export.parity import run_parity_gate
from w2v_edge_export.parity_report import ParityReport
from w2v_edge_export.parts import parts
from w2v_edge_export.reference import Tensors
from w2v_edge_export.selection import Selection, read_source, select
from w2v_edge_export.stages import Stages
from w2v_edge_export.targets import load_target
from w2v_edge_export.weight_quantization.plan import CENTRE

STAGES = {"load": 2, "compare weights": 2, "compare": 50}
"""Stages of a verification with their rough share of its time."""

FOLDED = "position.conv.weight"
FOLDED_TOLERANCE = 1e-6
"""Relative: folding weight norm rounds differently on other machines. Other weights are exact."""

ROUNDED_TOLERANCE = 0.05
"""Tolerance for the cosine distance and the relative length of a rounded weight's columns."""


def verify_against(
    bundle: Model,
    checkpoint: str | Path,
    stages: Stages | None = None,
    *,
    kmeans: Path | None = None,
    standardise: Path | None = None,
    processor: Path | None = None,
    base: str | None = None,
) -> ParityReport:
    """Compare a bundle with a checkpoint.

    Args:
        bundle: the bundle.
        checkpoint: any source of `w2v_edge.checkpoints.load_source`.
        stages: records the stages.
        kmeans: file of the centroids, for a bundle that was exported with some.
        standardise: file of the statistics, for a bundle that was exported with some.
        processor: folder of the preprocessor's and the tokenizer's files, if it was one.
        base: the model that a LoRA was merged into, if it was named.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the bundle was exported with centroids or statistics, and they are not given.
    """
    stages = stages or Stages()
    stages.weights = STAGES
    with stages.stage("load"):
        selection = Selection.from_dict(bundle.manifest.selection, kmeans, standardise)
        model = select(read_source(checkpoint, selection, processor, base).model, selection)
    with stages.stage("compare weights"):
        rows = compare_manifest(model, bundle, selection)
        if rows:
            return ParityReport(tuple(rows), 0, 0, 0, (), bundle.provider)
        changed = compare_weights(model, bundle)
    with stages.stage("compare"):
        report = run_parity_gate(
            model,
            bundle,
            stages,
            thorough=True,
            accept_ill_conditioned=bool(
                (bundle.manifest.parity or {}).get("accepted_ill_conditioned")
            ),
        )
    return replace(report, rows=(*changed, *report.rows))


def compare_manifest(model: SpeechModel, bundle: Model, selection: Selection) -> list[Deviation]:
    """Compare the manifest with the checkpoint; one row for each field that differs."""
    found = replace(bundle.manifest, config=_with_defaults(bundle.manifest.config))
    target = load_target(found.target)
    target = target.fixed() if found.shapes else target
    expected = describe(
        model.config,
        target,
        found.precision,
        found.graphs,
        found.files,
        found.source,
        found.weight_quantization,
        selection,
        found.language_model,
        found.shapes,
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


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Add the settings that an earlier release did not write to a manifest's config."""
    try:
        return ModelConfig.from_dict(config).to_dict()
    except ConfigError:
        return dict(config)


def compare_weights(model: SpeechModel, bundle: Model) -> list[Deviation]:
    """Compare every weight in every graph with the checkpoint; one row for each that differs.

    Weights that no audio uses, such as the vector of a rare code, are compared here only.
    """
    expected = {
        f"{name}.{key}": tensor.numpy()
        for name, part in parts(model).items()
        for key, tensor in part.module.state_dict().items()
    }
    rows: dict[str, Deviation] = {}
    seen = set()
    shapes = bundle.manifest.shapes or (None,)
    for graph, shape in itertools.product(bundle.manifest.graphs, shapes):
        found = _initializers(bundle.bundle.graph_path(graph, shape))
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


def _initializers(path: Path) -> dict[str, npt.NDArray[Any]]:
    model = ir.load(path)
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
    return Deviation(
        "weights",
        name,
        worst,
        ROUNDED_TOLERANCE,
        None,
        "" if worst <= ROUNDED_TOLERANCE else "changed",
    )


def _compare(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Deviation:
    if found.shape != expected.shape:
        return Deviation(
            "weights", name, np.inf, 0, None, f"shape {found.shape}, not {expected.shape}"
        )
    largest = float(np.abs(expected).max(initial=0.0))
    allowed = FOLDED_TOLERANCE * largest if name.endswith(FOLDED) else 0.0
    worst = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return Deviation("weights", name, worst, allowed, None, "" if worst <= allowed else "changed")


def stored_weight(
    initializers: Tensors, name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float32] | None:
    """Return a quantized weight as its float original is laid out; None where it is not stored.

    Args:
        initializers: of a graph.
        name: of the original, such as `context.blocks.0.attention.query.weight`.
        shape: of the original: (k, n), or (d, c, 1, kernel) of a grouped convolution.
    """
    if f"{name}.fp16" in initializers:
        return initializers[f"{name}.fp16"].astype(np.float32)
    if f"{name}.int4" in initializers:
        return _four_bits(initializers[f"{name}.int4"], initializers[f"{name}.scale"], shape)
    if f"{name}.int8" not in initializers:
        return None
    values = initializers[f"{name}.int8"].astype(np.float32)
    scale = initializers[f"{name}.scale"]
    if values.ndim == len(("d", "c", "height", "kernel")):
        weight = (values * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
        return weight if len(shape) == weight.ndim else weight.transpose(3, 1, 2, 0).reshape(shape)
    if len(shape) == len(("d", "c", "height", "kernel")):
        return _first_of_band(values, shape)
    weight = values[: shape[0]] * scale
    if f"{name}.balance" in initializers:
        # Inputs are multiplied by it, a channel's alike in every frame of the window.
        balance = initializers[f"{name}.balance"]
        weight = weight * np.tile(balance, shape[0] // len(balance))[:, np.newaxis]
    return weight.astype(np.float32)


def _four_bits(
    packed: npt.NDArray[np.uint8], scale: npt.NDArray[np.float32], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Unpack (n, blocks, bytes), two inputs a byte, to (k, n)."""
    values = np.stack([packed & 15, packed >> 4], axis=3).reshape(*packed.shape[:2], -1)
    blocks = (values.astype(np.float32) - CENTRE) * scale.reshape(*packed.shape[:2], 1)
    weight: npt.NDArray[np.float32] = blocks.reshape(len(packed), -1)[:, : shape[0]].T
    return weight


def _first_of_band(
    values: npt.NDArray[np.float32], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Read (d, c, 1, kernel) off the first frame's columns of a band, up to each one's scale."""
    outputs, width, _, kernel = shape
    first = values[:, : kernel * width, :width].reshape(-1, kernel, width, width)
    # (groups, kernel, in, out) -> (groups * out, in, 1, kernel)
    weight = first.transpose(0, 3, 2, 1).reshape(outputs, width, 1, kernel)
    return weight.astype(np.float32)
