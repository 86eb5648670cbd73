"""Tests that need onnxruntime-openvino: `make test-openvino` runs them in another venv."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime
import pytest

BUNDLES = "W2V_EDGE_OPENVINO_BUNDLES"

if "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers():
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def bundles() -> Path:
    """The folder that `tests.openvino.bundles` filled."""
    if BUNDLES not in os.environ:
        pytest.fail(f"{BUNDLES} is not set; run: make test-openvino")
    return Path(os.environ[BUNDLES])
