"""Real plugin providers give the CPU provider's results; `make test-plugins` installs them."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import w2v_edge
from w2v_edge import data
from w2v_edge.agreement import frame_cosines
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import ProviderError
from w2v_edge.providers.bfloat16 import has_bfloat16
from w2v_edge.providers.plugins import load_plugin
from w2v_edge.providers.table import TABLE

BUNDLES = "W2V_EDGE_OPENVINO_BUNDLES"

SIMULATED = {"soc_model": "60", "htp_arch": "73"}
"""A chip of Qualcomm's, for the simulator of its NPU."""

PLUGINS = {name: row.plugin for name, row in TABLE.items() if row.plugin is not None}


def _folder(provider: str, name: str = "tiny-openvino") -> Path:
    plugin = PLUGINS[provider]
    if importlib.util.find_spec(plugin.module) is None:
        pytest.skip(f"{plugin.package} is not installed; run: make test-plugins")
    return Path(os.environ[BUNDLES]) / name


def _openvino_folder() -> Path:
    folder = _folder("openvino")
    try:
        load_plugin(onnxruntime, "openvino")
    except ProviderError as error:
        if "finds no device" not in str(error):
            raise
        pytest.skip(f"OpenVINO's plugin serves Intel's processors only: {error}")
    return folder


def test_openvino_reproduces_golden_vectors() -> None:
    """In float32, although the library's own default is bf16 where the processor has it."""
    with w2v_edge.load(_openvino_folder(), provider="openvino") as model:
        rows, _ = check_golden(model)
        assert [row for row in rows if not row.ok] == []
        for placement in model.placement.values():
            assert set(placement.nodes or {}) == {TABLE["openvino"].ort_name}


@pytest.mark.skipif(
    not has_bfloat16(), reason="this processor has neither avx512_bf16 nor amx_bf16"
)
def test_openvino_in_bfloat16(tmp_path: Path, reseal: Callable[..., None]) -> None:
    """A bundle in bf16 is computed in bfloat16, within its tolerances."""
    exact = _openvino_folder()
    shutil.copytree(exact, tmp_path / "bf16")
    reseal(tmp_path / "bf16", precision="bf16")
    with w2v_edge.load(tmp_path / "bf16", provider="openvino") as model:
        assert model.precision == "bf16"
        rows, _ = check_golden(model)
        assert [row for row in rows if not row.ok] == []
        clip = data.clips(16_000)["en-activated"]
        expected = w2v_edge.load(exact).encode(clip).context
        assert np.abs(model.encode(clip).context - expected).max() > 1e-4 * expected.std()


def test_a_kind_of_device_that_is_not_there() -> None:
    """The option `device_type` chooses among the devices that the library lists."""
    folder = _openvino_folder()
    model = w2v_edge.load(folder, provider=("openvino", {"device_type": "NPU"}))
    with pytest.raises(ProviderError, match=r"found devices of type CPU.*, expected NPU"):
        model.prepare("encoder")


def test_webgpu_gives_the_results_of_the_cpu() -> None:
    """On any Vulkan driver, such as one in software."""
    folder = _folder("webgpu")
    try:
        model = w2v_edge.load(folder, provider="webgpu")
        model.prepare("encoder")
    except ProviderError as error:
        if "device" not in str(error) and "adapter" not in str(error):
            raise
        pytest.skip(f"no Vulkan driver that WebGPU takes: {error}")
    clip = data.clips(16_000)["en-activated"][:8_000]
    found, expected = model.encode(clip), w2v_edge.load(folder).encode(clip)
    np.testing.assert_allclose(found.context, expected.context, atol=1e-4)
    np.testing.assert_array_equal(found.codes, expected.codes)
    assert (model.placement["encoder"].time or {})[TABLE["webgpu"].ort_name] > 0.5


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the simulator is for x86-64")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_qnn_on_a_simulated_npu(precision: str) -> None:
    """Golden vectors hold; features, context and codes are those of the CPU, up to rounding."""
    folder = _folder("qnn", f"tiny-qnn-{precision}")
    clip = data.clips(16_000)["en-activated"][:12_345]
    expected = w2v_edge.load(folder).encode(clip)
    with w2v_edge.load(folder, provider=("qnn", SIMULATED)) as model:
        found = model.encode(clip)
        for a, b in ((found.features, expected.features), (found.context, expected.context)):
            assert np.quantile(frame_cosines(a, b), 0.1) > 0.9999
        np.testing.assert_array_equal(found.codes, expected.codes)
        assert set(model.placement["encoder-16000"].nodes or {}) == {TABLE["qnn"].ort_name}
        assert model.precision == ("fp16" if precision == "fp32" else precision)
        rows, _ = check_golden(model)
        assert [row for row in rows if not row.ok] == []
