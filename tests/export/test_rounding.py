"""Checkpoints that amplify float32 rounding: right exports pass, broken ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from w2v_edge.bundle.golden import check_golden
from w2v_edge.model import SpeechModel, build_model, load_checkpoint, save_checkpoint
from w2v_edge.runtime.model import load
from w2v_edge_export import export, reference
from w2v_edge_export.parity import run_parity_gate
from w2v_edge_export.parity_report import ParityReport
from w2v_edge_export.pipeline import GateError

PEAKED = 5.0
"""Factor on query and key weights, which amplifies rounding a hundredfold."""


@pytest.fixture(scope="module")
def peaked(small_config: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose attention is peaked."""
    path = tmp_path_factory.mktemp("peaked") / "model.pt"
    model = build_model(small_config("tutorial-small"), seed=7)
    with torch.no_grad():
        for block in model.get_submodule("context_network.blocks").children():
            qkv = block.get_submodule("attention.qkv")
            width = qkv.get_parameter("weight").shape[1]
            for name in ("weight", "bias"):
                qkv.get_parameter(name)[: 2 * width] *= PEAKED
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="module")
def passed(peaked: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A peaked checkpoint and its bundle."""
    checkpoint, folder = peaked, tmp_path_factory.mktemp("bundle") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 7.3)
        patch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 4_000)
        report = export(checkpoint, folder).parity
    assert report.passed
    return checkpoint, folder


def test_a_peaked_checkpoint_is_exported(passed: tuple[Path, Path]) -> None:
    """Its tolerance follows PyTorch's own float32, which the manifest and a remark state."""
    bundle = load(passed[1])
    parity = bundle.manifest.parity
    assert parity is not None
    rounding = parity["float32_rounding"]
    assert rounding["context"] > 1e-4 * parity["std"]["context"]
    assert rounding["features"] < 1e-4 * parity["std"]["features"]
    assert any("amplifies float32 rounding: context" in x for x in parity["remarks"])
    assert all(row.ok for row in check_golden(bundle)[0])


@pytest.mark.parametrize("weight", ["output.weight", "expand.weight", "norm.weight", "qkv.weight"])
def test_a_changed_weight_is_refused(
    weight: str, passed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rounding is amplified, a weight matrix that is off by 1 % is still found."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 3.7)
    checkpoint, folder = passed
    model = load_checkpoint(checkpoint)
    name = next(x for x, _ in model.named_parameters() if "blocks.1" in x and x.endswith(weight))
    with torch.no_grad():
        changed = model.get_parameter(name)
        generator = torch.Generator().manual_seed(0)
        changed.mul_(1 + 0.01 * torch.randn(changed.shape, generator=generator))
    report = run_parity_gate(model, load(folder))
    assert not report.passed
    assert {row.output for row in report.failures} == {"context"}


def test_no_verdict_without_consent(
    peaked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where PyTorch's own float32 says too little, only consent lets an export pass."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 1.0)
    monkeypatch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
    monkeypatch.setattr("w2v_edge_export.exact_gate.EVALUATIONS", (1,))
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MAX_ROUNDING", 1e-5)
    with pytest.raises(GateError) as refused:
        export(peaked, tmp_path / "bundle")
    assert refused.value.exit_code == 3
    assert any("no verdict" in row.problem for row in refused.value.report.failures)
    assert not (tmp_path / "bundle").exists()
    report = export(peaked, tmp_path / "bundle", accept_ill_conditioned=True).parity
    assert report.passed
    assert any("amplifies float32 rounding" in remark for remark in report.remarks)


@pytest.mark.parametrize("name", ["tiny", "base-small", "large-small", "tutorial-small"])
def test_references_are_float64_and_leave_the_model_alone(
    name: str, checkpoint: Callable[[str], Path], speech: dict[str, Any]
) -> None:
    """The reference equals the model in float64, and its weights are float32 again, bit for bit."""
    model = load_checkpoint(checkpoint(name))
    before = {key: x.clone() for key, x in model.state_dict().items()}
    waveform = speech["en-conf-getpin"][:16_000]
    found = reference.encode(model, waveform)
    rounding = reference.measure_rounding(model, waveform, found)
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
    double = _double(model)
    with torch.no_grad():
        features = double.features(
            torch.from_numpy(waveform)[None].double(), torch.tensor([16_000])
        )
        context = double.outputs(features)["context"]
    for key, values in (("features", features.values), ("context", context)):
        assert found.arrays[key].dtype == np.float64
        np.testing.assert_allclose(found.arrays[key], values[0].numpy(), rtol=1e-12, atol=1e-12)
        assert 0 < rounding.median[key] <= rounding.largest[key] < 1e-3


def _double(model: SpeechModel) -> SpeechModel:
    double: SpeechModel = model.double()
    return double


def _failing(report: ParityReport) -> set[str]:
    return {row.output for row in report.failures}


def test_the_quick_set_finds_what_the_thorough_set_finds(
    checkpoint: Callable[[str], Path],
    bundle: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A small change of any weight fails both, in the same outputs."""
    monkeypatch.setattr("w2v_edge_export.exact_gate.EVALUATIONS", (1,))
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 1_000)
    monkeypatch.setattr("w2v_edge_export.exact_gate.THOROUGH_CODES", 2_000)
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 2.0)
    monkeypatch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.5)
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5,))
    opened = load(bundle("base-small"))
    generator = torch.Generator().manual_seed(1)
    for part in ("feature_encoder", "context_network", "quantizer"):
        model = load_checkpoint(checkpoint("base-small"))
        with torch.no_grad():
            for parameter in model.get_submodule(part).parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(3e-3 * parameter.std(correction=0) * noise)
        quick, thorough = (run_parity_gate(model, opened, thorough=x) for x in (False, True))
        assert _failing(quick) == _failing(thorough) != set()
        assert len(thorough.rows) > len(quick.rows)
