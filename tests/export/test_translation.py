"""Shortcuts through PyTorch's translation change no result, and leave PyTorch as it was."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.onnx._internal.exporter import _fx_passes, _registration

from w2v_edge_export.trace import Part, trace


class Translated(nn.Module):
    """All operators have a translation, some of them under another name."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        index = torch.arange(x.shape[1], device=x.device)
        inside = (index >= 1) & (index < lengths.unsqueeze(1))
        return x.to(torch.float64).cumsum(dim=1).to(torch.float32) * inside.unsqueeze(2)


class Decomposed(nn.Module):
    """An operator has no translation of its own."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return nn.functional.softshrink(x) + lengths.to(x.dtype).view(-1, 1, 1)


@pytest.mark.parametrize("lacking", [False, True])
@pytest.mark.parametrize("twin", [Translated(), Decomposed()], ids=["translated", "decomposed"])
def test_results_are_those_of_the_module(
    twin: nn.Module, lacking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program is decomposed if it must be, or if PyTorch lacks what is replaced."""
    decompose, programs = _fx_passes.decompose_with_registry, []

    def noted(program: ExportedProgram, registry: Any) -> ExportedProgram:
        programs.append(program)
        return decompose(program, registry)

    monkeypatch.setattr(_fx_passes, "decompose_with_registry", noted)
    if lacking:
        monkeypatch.setattr("w2v_edge_export.translation.INTERNAL", "torch.onnx.elsewhere")
    registry = _registration.ONNXRegistry.from_torchlib
    inputs = {"x": torch.randn(2, 9, 3), "lengths": torch.tensor([9, 4])}
    dynamic = {"x": {0: "batch", 1: "frames"}, "lengths": {0: "batch"}}
    model = trace(Part("twin", twin, inputs, dynamic, ("y",)), 20)
    assert len(programs) == (lacking or isinstance(twin, Decomposed))
    assert _fx_passes.decompose_with_registry is noted
    assert _registration.ONNXRegistry.from_torchlib == registry
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    other = {"x": torch.randn(3, 5, 3), "lengths": torch.tensor([5, 1, 0])}
    (found,) = session.run(None, {name: value.numpy() for name, value in other.items()})
    torch.testing.assert_close(torch.from_numpy(found), twin(**other))
