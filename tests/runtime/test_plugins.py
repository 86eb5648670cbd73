"""Providers in libraries of their own packages: found, loaded once, or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import w2v_edge
from w2v_edge import data
from w2v_edge.errors import ProviderError
from w2v_edge.providers.plugins import has_module
from w2v_edge.providers.table import TABLE

MODULE = "onnxruntime_ep_webgpu"

needs_no_plugin = pytest.mark.skipif(
    has_module(MODULE), reason="the plugin package itself is installed"
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, for a module in place of the plugin package's."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop(MODULE, None)


@needs_no_plugin
def test_a_missing_package_is_named() -> None:
    """The error says what to install."""
    with pytest.raises(ProviderError, match="pip install onnxruntime-ep-webgpu"):
        w2v_edge.load(data.TINY_INT8, provider="webgpu")


@needs_no_plugin
@pytest.mark.parametrize(
    "source",
    [
        "def get_library_path(): return __file__",
        "def get_library_path(): raise RuntimeError('expected one library, found 0')",
        "",
        "import a_module_that_does_not_exist",
    ],
)
def test_a_library_that_does_not_load(package: Path, source: str) -> None:
    """A package that is broken, or of another onnxruntime, is one line with what to do."""
    (package / f"{MODULE}.py").write_text(source)
    with pytest.raises(ProviderError, match="of onnxruntime-ep-webgpu does not load") as error:
        w2v_edge.load(data.TINY_INT8, provider="webgpu")
    assert "\n" not in str(error.value)


@needs_no_plugin
def test_the_cpu_stands_in_for_a_broken_plugin(package: Path) -> None:
    """With `allow_fallback`, which `placement` shows."""
    (package / f"{MODULE}.py").write_text("def get_library_path(): return __file__")
    model = w2v_edge.load(data.TINY_INT8, provider="webgpu", allow_fallback=True)
    model.prepare("quantizer")
    assert model.placement["quantizer"].providers == (TABLE["cpu"].ort_name,)


@needs_no_plugin
def test_doctor_names_plugins(package: Path) -> None:
    """With the reason why one does not load."""
    (package / f"{MODULE}.py").write_text("def get_library_path(): return __file__")
    command = (
        f"import sys; sys.path.insert(0, {str(package)!r}); from w2v_edge.cli.group import run"
    )
    command += "; sys.exit(run(['doctor', '--json']))"
    done = subprocess.run(
        [sys.executable, "-c", command], check=True, capture_output=True, text=True
    )
    assert "does not load" in json.loads(done.stdout)["plugins"]["webgpu"]
