"""Bundles in bf16: where they are computed in bfloat16, and the warning where they are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

import w2v_edge
from w2v_edge.bundle import Bundle
from w2v_edge.bundle.golden import check_golden
from w2v_edge.providers import choose, open_session
from w2v_edge.providers.bfloat16 import has_bfloat16
from w2v_edge.providers.plugins import add_plugin
from w2v_edge.providers.table import TABLE
from w2v_edge.runtime.session import Session

CPU, OPENVINO = (TABLE[name].ort_name for name in ("cpu", "openvino"))
CLIP = (np.sin(np.arange(4_000) / 9) / 2).astype(np.float32)
HINT = "INFERENCE_PRECISION_HINT"

needs_no_openvino = pytest.mark.skipif(
    OPENVINO in onnxruntime.get_available_providers(),
    reason="nothing to fall back from: this onnxruntime has OpenVINO's provider",
)


@pytest.fixture
def bf16(bundle: Callable[[str], Path], tmp_path: Path, reseal: Callable[..., None]) -> Path:
    """A float32 bundle whose manifest says bf16; the graphs of such an export are the same."""
    folder = tmp_path / "bf16"
    shutil.copytree(bundle("base-small"), folder)
    reseal(folder, precision="bf16")
    return folder


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """`processor(able)`: a processor with bfloat16 instructions, or without."""

    def make(able: bool) -> None:
        monkeypatch.setattr("w2v_edge.providers.bfloat16.has_bfloat16", lambda: able)

    return make


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """`sent(folder, **options)`: OpenVINO's options when a graph is opened; none is opened."""

    def opened(folder: Path, **options: str) -> dict[str, str]:
        seen: list[tuple[str, dict[str, str]]] = []

        def record(_: str, __: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
            seen.extend(providers)
            return SimpleNamespace(
                get_providers=lambda: [OPENVINO, CPU], disable_fallback=lambda: None
            )

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [OPENVINO, CPU])
        monkeypatch.setattr("w2v_edge.providers.session._session_class", lambda _: record)
        wanted = choose(("openvino", options), 2, allow_fallback=False)
        session = Session(Bundle.open(folder), wanted)
        open_session(folder / "encoder.onnx", session.execution)
        return dict(seen)[OPENVINO]

    return opened


def test_other_providers_compute_in_float32(bf16: Path, bundle: Callable[[str], Path]) -> None:
    """The CPU's provider warns, gives the results of float32, and verifies as float32 does."""
    with pytest.warns(UserWarning, match=r"bf16 .* computed in float32: provider 'cpu'") as said:
        model = w2v_edge.load(bf16)
    assert len(said) == 1
    assert model.manifest.precision == "bf16"
    assert model.precision == "fp32"
    exact = w2v_edge.load(bundle("base-small"))
    assert exact.precision == "fp32"
    assert np.array_equal(model.encode(CLIP).context, exact.encode(CLIP).context)
    rows, _ = check_golden(model)
    expected, _ = check_golden(exact)
    assert [(row.allowed, row.ok) for row in rows] == [(row.allowed, True) for row in expected]


def test_the_hint_is_that_of_the_bundle(
    bf16: Path,
    bundle: Callable[[str], Path],
    processor: Callable[[bool], None],
    sent: Callable[..., dict[str, str]],
) -> None:
    """OpenVINO is told bf16 for a bundle in bf16, and float32 for all others."""
    processor(True)
    assert json.loads(sent(bf16)["load_config"]) == {"CPU": {HINT: "bf16"}}
    exact = sent(bundle("base-small"))
    assert exact["precision"] == "FP32"
    assert "load_config" not in exact


def test_settings_of_the_caller_leave_the_hint(
    bf16: Path, processor: Callable[[bool], None], sent: Callable[..., dict[str, str]]
) -> None:
    """The caller's `load_config` replaces single settings; OpenVINO refuses a damaged one."""
    processor(True)
    config = sent(bf16, load_config='{"CPU": {"NUM_STREAMS": "1"}, "GPU": {"X": "2"}}')
    expected = {"CPU": {HINT: "bf16", "NUM_STREAMS": "1"}, "GPU": {"X": "2"}}
    assert json.loads(config["load_config"]) == expected
    explicit = f'{{"CPU": {{"{HINT}": "f32"}}}}'
    assert json.loads(sent(bf16, load_config=explicit)["load_config"]) == json.loads(explicit)
    assert sent(bf16, load_config="{damaged")["load_config"] == "{damaged"


def test_a_processor_without_the_instructions(
    bf16: Path, processor: Callable[[bool], None], sent: Callable[..., dict[str, str]]
) -> None:
    """OpenVINO would emulate bfloat16, slowly: it computes in float32, with a warning."""
    processor(False)
    with pytest.warns(UserWarning, match=r"no bfloat16 instructions .*avx512_bf16 or amx_bf16"):
        options = sent(bf16)
    assert options["precision"] == "FP32"
    assert "load_config" not in options


def test_other_devices_of_openvino(
    bf16: Path, processor: Callable[[bool], None], sent: Callable[..., dict[str, str]]
) -> None:
    """On a GPU it computes in float32, with a warning."""
    processor(True)
    with pytest.warns(UserWarning, match="provider 'openvino' on GPU does not compute"):
        assert "load_config" not in sent(bf16, device_type="GPU")


@pytest.mark.parametrize(("bfloat16", "hint"), [(False, "f32"), (True, "bf16")])
def test_the_plugin_gets_the_same_hint(
    bfloat16: bool, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 too, since its own default is bf16 on processors that have the instructions."""
    device = SimpleNamespace(device=SimpleNamespace(type=SimpleNamespace(name="CPU")))
    monkeypatch.setattr("w2v_edge.providers.plugins.load_plugin", lambda *_: [device])
    seen: list[dict[str, str]] = []
    options = SimpleNamespace(add_provider_for_devices=lambda _, given: seen.append(given))
    add_plugin(onnxruntime, options, "openvino", {}, 2, bfloat16=bfloat16)
    (given,) = seen
    config = json.loads(given["load_config"])
    assert config == {"CPU": {HINT: hint, "INFERENCE_NUM_THREADS": "2"}}


@needs_no_openvino
def test_a_fallback_warns(bf16: Path, processor: Callable[[bool], None]) -> None:
    """If the CPU stands in for OpenVINO, the bundle is computed in float32."""
    processor(True)
    model = w2v_edge.load(bf16, provider="openvino", allow_fallback=True)
    with pytest.warns(UserWarning, match="computed in float32: provider 'cpu'"):
        model.tokenize(CLIP)


@pytest.mark.parametrize(
    ("flags", "able"),
    [("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("avx2 avx512f", False)],
)
def test_instructions_are_read_from_linux(tmp_path: Path, flags: str, able: bool) -> None:
    """By the names of /proc/cpuinfo; where there is none, a processor counts as without."""
    assert not has_bfloat16(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    assert has_bfloat16(tmp_path) is able
