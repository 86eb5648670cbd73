"""The cache of traces: other weights, the same graph; other code or settings, another trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
import torch

from w2v_edge.model import SpeechModel, build_model, load_checkpoint
from w2v_edge_export import trace_cache
from w2v_edge_export.deployable import heads
from w2v_edge_export.parts import parts
from w2v_edge_export.targets import load_target
from w2v_edge_export.trace import Part, trace
from w2v_edge_export.trace_cache import trace_cached

TARGET = load_target("cpu")


@pytest.fixture
def model(checkpoint: Callable[[str], Path]) -> SpeechModel:
    """A small model."""
    return load_checkpoint(checkpoint("base-small"))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the parts that were traced."""
    traced: list[str] = []

    def count(part: Part, opset: int) -> ir.Model:
        traced.append(part.name)
        return trace(part, opset)

    monkeypatch.setattr(trace_cache, "trace", count)
    return traced


def _text(model: ir.Model) -> bytes:
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def test_weights_are_those_of_the_model(
    model: SpeechModel, traces: list[str], tmp_path: Path
) -> None:
    """A second checkpoint of the same config is not traced, and its graph has its own weights."""
    other = build_model(model.config, seed=8)
    first = trace_cached(parts(model)["quantizer"], TARGET, tmp_path)
    again = trace_cached(parts(model)["quantizer"], TARGET, tmp_path)
    second = trace_cached(parts(other)["quantizer"], TARGET, tmp_path)
    assert traces == ["quantizer"]
    assert _text(first) == _text(again) != _text(second)
    assert _text(second) == _text(trace_cached(parts(other)["quantizer"], TARGET, None))
    (path,) = tmp_path.iterdir()
    codebook = parts(model)["quantizer"].module.state_dict()["codebook"]
    assert codebook.numpy().tobytes() not in path.read_bytes()


def test_another_setting_or_code_is_another_trace(
    model: SpeechModel, traces: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the twin holds beside weights, and the code as it is loaded, belong to the key."""
    part = parts(model)["quantizer"]
    trace_cached(part, TARGET, tmp_path)
    assert isinstance(part.module, heads.QuantizerTwin)
    part.module.entries -= 1
    assert trace_cache._key(part, TARGET) != trace_cache._key(parts(model)["quantizer"], TARGET)
    monkeypatch.setattr(heads, "mean_over_frames", lambda x, _: x)
    trace_cached(parts(model)["quantizer"], TARGET, tmp_path)
    assert traces == ["quantizer"] * 2


def test_keys_are_the_same_in_every_process(
    checkpoint: Callable[[str], Path],
) -> None:
    """What another process traced is found, whatever its hash seed."""
    script = (
        "import sys; from pathlib import Path\n"
        "from w2v_edge.model import load_checkpoint\n"
        "from w2v_edge_export import trace_cache\n"
        "from w2v_edge_export.parts import parts\n"
        "from w2v_edge_export.targets import load_target\n"
        "made = parts(load_checkpoint(Path(sys.argv[1]))).values()\n"
        "print([trace_cache._key(part, load_target('cpu')) for part in made])\n"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script, checkpoint("base-small")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None])
def test_a_damaged_cache_is_traced_again(
    model: SpeechModel, traces: list[str], tmp_path: Path, damage: bytes | None
) -> None:
    """Files of the cache that are damaged are replaced; a cache that cannot be written is left."""
    part = parts(model)["quantizer"]
    expected = _text(trace_cached(part, TARGET, tmp_path))
    (path,) = tmp_path.iterdir()
    if damage is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damage)
    for _ in range(2):
        assert _text(trace_cached(part, TARGET, tmp_path)) == expected
    assert len(traces) == (3 if damage is None else 2)


def test_a_constant_that_is_no_weight_is_not_cached(tmp_path: Path) -> None:
    """A twin with a tensor that the key does not describe is traced each time."""

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))
            self.hidden = torch.arange(3.0) * 1.5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight + self.hidden

    part = Part("twin", Twin(), {"x": torch.zeros(2, 3)}, {"x": {0: "batch"}}, ("y",))
    trace_cached(part, TARGET, tmp_path)
    assert not list(tmp_path.iterdir())
