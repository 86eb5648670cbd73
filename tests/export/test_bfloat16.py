"""bf16 is measured by OpenVINO in bfloat16 before it is published, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import w2v_edge
from w2v_edge.errors import ConfigError, ProviderError
from w2v_edge.providers.bfloat16 import has_bfloat16
from w2v_edge.providers.table import TABLE
from w2v_edge_export import export
from w2v_edge_export.verification import verify_against
from w2v_edge_export.weight_quantization.search import AccuracyBudgetError

HAS_OPENVINO = TABLE["openvino"].ort_name in onnxruntime.get_available_providers()

needs_bfloat16 = pytest.mark.skipif(
    not (HAS_OPENVINO and has_bfloat16()),
    reason="measured in bfloat16: needs onnxruntime-openvino (make test-openvino), and a processor "
    "with avx512_bf16 or amx_bf16",
)


@pytest.fixture
def bf16(
    checkpoint: Callable[[str], Path], tmp_path: Path, quick_gate: None
) -> Callable[..., Path]:
    """`bf16(name, **options)`: an export for OpenVINO; so small a model gains no speed."""
    del quick_gate

    def make(name: str, **options: Any) -> Path:
        folder = tmp_path / "bundle"
        given: dict[str, Any] = {"target": "openvino", "require_speedup": 0.0} | options
        export(checkpoint(name), folder, precision="bf16", **given)
        return folder

    return make


@pytest.mark.parametrize("target", ["cpu", "cuda", "web"])
def test_other_targets_refuse_it(target: str, bf16: Callable[..., Path], tmp_path: Path) -> None:
    """The error names the target that has it; nothing is written."""
    with pytest.raises(ConfigError, match=r"no precision 'bf16'; .* has it: openvino"):
        bf16("tiny", target=target)
    assert not list(tmp_path.iterdir())


def test_fixed_shapes_are_refused(bf16: Callable[..., Path], tmp_path: Path) -> None:
    """OpenVINO's bfloat16 is less exact there; the error says what to leave out."""
    with pytest.raises(ConfigError, match=r"'bf16' with --samples, .* leave --samples out"):
        bf16("tiny", samples=(16_000,))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(HAS_OPENVINO, reason="this onnxruntime has OpenVINO's provider")
def test_openvino_is_needed(bf16: Callable[..., Path], tmp_path: Path) -> None:
    """Without it nothing could be measured: the error says what to install."""
    with pytest.raises(ProviderError, match=r"measured on OpenVINO: .* pip install") as refused:
        bf16("tiny")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_the_instructions_are_needed(
    bf16: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor without them the error says where to run it, before any work."""
    available = [TABLE[name].ort_name for name in ("openvino", "cpu")]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr("w2v_edge_export.measuring.has_bfloat16", lambda: False)
    monkeypatch.setattr("w2v_edge_export.pipeline.read_source", None)
    with pytest.raises(ProviderError, match="avx512_bf16 or amx_bf16 in /proc/cpuinfo") as refused:
        bf16("tiny")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_in_float32_it_is_verified_as_float32(
    bundle: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
    reseal: Callable[..., None],
) -> None:
    """Where it is computed in float32, every output must equal PyTorch's, as in float32."""
    folder = tmp_path / "bf16"
    shutil.copytree(bundle("base-small"), folder)
    reseal(folder, precision="bf16")
    with pytest.warns(UserWarning, match="computed in float32"):
        model = w2v_edge.load(folder)
    report = verify_against(model, checkpoint("base-small"))
    assert report.exact
    assert report.passed
    assert report.codes_compared > 1_000


@needs_bfloat16
def test_an_export(bf16: Callable[..., Path], checkpoint: Callable[[str], Path]) -> None:
    """Weights stay in float32, outputs are those of bfloat16, within budgets that are stated."""
    folder = bf16("base-small")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    stated = manifest["weight_quantization"]
    assert manifest["precision"] == "bf16"
    assert manifest["parity"]["provider"] == "openvino"
    assert stated["budgets"]["min_cosine"] == 0.999
    assert stated["budgets"]["max_code_drift"] == 0.04
    # bfloat16 rounds to 8 bits: measured in float32, both would be 0.
    assert 1e-5 < 1 - stated["measured"]["context_cosine"] < 1e-3
    assert 0 < stated["measured"]["code_drift"] < 0.04
    types = {x.data_type for x in onnx.load(folder / "context.onnx").graph.initializer}
    assert onnx.TensorProto.BFLOAT16 not in types
    report = verify_against(w2v_edge.load(folder, provider="openvino"), checkpoint("base-small"))
    assert report.passed
    assert not report.exact
    with pytest.warns(UserWarning, match="computed in float32"):
        exact = w2v_edge.load(folder)
    clip = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    found = w2v_edge.load(folder, provider="openvino").encode(clip).context
    assert 1e-4 < np.abs(found - exact.encode(clip).context).max() < 1
    assert verify_against(exact, checkpoint("base-small")).exact


@needs_bfloat16
def test_a_model_that_bfloat16_spoils_is_refused(bf16: Callable[..., Path], tmp_path: Path) -> None:
    """The tutorial's softmax over queries amplifies bfloat16's rounding in the context."""
    with pytest.raises(AccuracyBudgetError, match="context cosine"):
        bf16("tutorial-small")
    assert not list(tmp_path.iterdir())


@needs_bfloat16
def test_speed_has_a_budget(bf16: Callable[..., Path], tmp_path: Path) -> None:
    """bf16 is for speed: an encoder that is not so much faster than float32 is refused."""
    with pytest.raises(AccuracyBudgetError, match="times the float32 speed, 1000 wanted"):
        bf16("base-small", require_speedup=1000.0)
    assert not list(tmp_path.iterdir())
