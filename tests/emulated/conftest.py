"""Tests on emulated processors: `make test-arm64` prepares them, and runs these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = "W2V_EDGE_EMULATED"


@pytest.fixture(scope="session")
def emulated() -> Path:
    """The folder that `tests.emulated.prepare` and `tests.emulated.bundles` filled."""
    if FOLDER not in os.environ:
        pytest.skip("no emulated processors; make test-arm64 prepares them, on x86 and Debian")
    return Path(os.environ[FOLDER]).resolve()
