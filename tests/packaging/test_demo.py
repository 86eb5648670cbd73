"""The demo from the wheel: offline, with and without PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

OFFLINE = """
import importlib.machinery, socket, sys

class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else super().find_spec(name, path, target)

HIDDEN = set(sys.argv[1].split(","))
sys.meta_path = [x for x in sys.meta_path if x is not importlib.machinery.PathFinder] + [Without]

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError("no network here")

sys.addaudithook(refuse)
from w2v_edge.cli.group import run
print(__import__("w2v_edge").__file__, file=sys.stderr)
if "torch" not in HIDDEN:
    # The whole gate has tests elsewhere.
    from w2v_edge_export import cases, exact_gate
    cases.LONG_SECONDS, exact_gate.MIN_CODES = 1.0, 600
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("hidden", ["torch,onnx,matplotlib,einops", ""], ids=["device", "all"])
def test_it_runs_offline_from_the_wheel(wheel: Path, tmp_path: Path, hidden: str) -> None:
    """The demo uses no network; without the extra `export` it runs the shipped bundle."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, hidden, "demo", "-o", tmp_path / "demo", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    names = ["tiny-int8"] if hidden else ["tiny-fp32", "tiny-int8"]
    assert [Path(x).name for x in result["bundles"]] == names
    assert (result["parity"] is None) == bool(hidden)
    assert (tmp_path / "demo/codes.png").exists() != bool(hidden)
    assert len({tuple(codes) for codes in result["codes"]}) > 100
