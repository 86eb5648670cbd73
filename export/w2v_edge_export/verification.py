"""Holds a bundle against its checkpoint: every weight, then the whole gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge.comparison import Row
from w2v_edge.model.checkpoint import load_checkpoint
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.graphs import parts
from w2v_edge_export.parity import Progress, Report, run_gate

WEIGHT_BAR = 1e-6
"""Relative: folding weight norm may round differently on another machine."""


def verify_against(
    bundle: Model, checkpoint: str | Path, progress: Progress = lambda *_: None
) -> Report:
    """Compare a bundle with a checkpoint.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    model = load_checkpoint(checkpoint)
    if model.config.to_dict() != bundle.manifest.config:
        row = Row("manifest", "config", np.inf, 0, None, "not the checkpoint's configuration")
        return Report((row,), 0, 0, 0, (), bundle.provider)
    changed = compare_weights(model, bundle)
    report = run_gate(model, bundle, progress)
    return replace(report, rows=(*changed, *report.rows))


def compare_weights(model: SpeechModel, bundle: Model) -> list[Row]:
    """Compare every weight in every graph with the checkpoint's; one row a weight that differs.

    A weight that no clip happens to touch, such as the vector of a rare code, is seen here only.
    """
    expected = {
        f"{name}.{key}": tensor.numpy()
        for name, part in parts(model).items()
        for key, tensor in part.module.state_dict().items()
    }
    rows: dict[str, Row] = {}
    seen = set()
    for graph in bundle.manifest.graphs:
        for name, value in ir.load(bundle.bundle.graph_path(graph)).graph.initializers.items():
            if name in expected and value.const_value is not None:
                seen.add(name)
                row = _compare(name, value.const_value.numpy(), expected[name])
                if not row.ok:
                    rows[name] = row
    for name in sorted(expected.keys() - seen):
        rows[name] = Row("weights", name, np.inf, 0, None, "in no graph")
    return list(rows.values())


def _compare(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Row:
    if found.shape != expected.shape:
        return Row("weights", name, np.inf, 0, None, f"shape {found.shape}, not {expected.shape}")
    allowed = WEIGHT_BAR * float(np.abs(expected).max(initial=0.0))
    worst = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return Row("weights", name, worst, allowed, None, "" if worst <= allowed else "changed")
