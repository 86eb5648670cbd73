"""The gate that a bundle's precision calls for."""

from __future__ import annotations

from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.accuracy_gate import run_accuracy_gate
from w2v_edge_export.parity import Report, run_gate
from w2v_edge_export.progress import Progress


def run_gate_of(
    torch_model: SpeechModel, bundle: Model, progress: Progress = lambda *_: None
) -> Report:
    """Compare a bundle with its PyTorch model: exactly in float32, else within its budgets."""
    run = run_gate if bundle.manifest.precision == "fp32" else run_accuracy_gate
    return run(torch_model, bundle, progress)
