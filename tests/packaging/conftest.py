"""The wheel, and an environment with nothing but it and the oldest dependencies it takes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# onnxruntime 1.20 has builds for these only; numpy 1.26 for all but the last.
OLD_PYTHONS = ((3, 11), (3, 12), (3, 13))


@pytest.fixture(scope="session")
def wheel(shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]) -> Path:
    """The wheel of the current source, built once per run."""
    folder = shared_folder / "dist"
    with locked("wheel"):
        if not folder.exists():
            command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
            subprocess.run([*command, "--outdir", folder, REPOSITORY], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def floor_python(
    wheel: Path, shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Path:
    """A Python with the wheel, its extra `cpu` at the oldest versions, and nothing else.

    `W2V_EDGE_FLOOR_PYTHON` names one that is ready; otherwise one is made in `.venv-floor`, which
    is kept, and the wheel is installed anew in every run.
    """
    if given := os.environ.get("W2V_EDGE_FLOOR_PYTHON"):
        return Path(given)
    if sys.version_info[:2] not in OLD_PYTHONS:
        pytest.skip("onnxruntime 1.20 has no build for this Python")
    folder = REPOSITORY / ".venv-floor"
    python = folder / "bin/python"
    done = shared_folder / "floor-is-ready"
    with locked("floor"):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            # Other runs may share the folder.
            with (folder / ".lock").open("w") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                _install(python, wheel)
            done.touch()
    return python


def _install(python: Path, wheel: Path) -> None:
    numpy = "numpy==1.26.*" if sys.version_info[:2] in OLD_PYTHONS[:-1] else "numpy==2.1.*"
    if not _has_dependencies(python):
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        _pip(python, f"{wheel}[cpu]", "onnxruntime==1.20.*", numpy)
    _pip(python, "--force-reinstall", "--no-deps", str(wheel))


def _has_dependencies(python: Path) -> bool:
    script = "import onnxruntime; assert onnxruntime.__version__.startswith('1.20.')"
    if not python.exists():
        return False
    return subprocess.run([python, "-Ic", script], check=False, capture_output=True).returncode == 0


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*command, *arguments], check=True)
