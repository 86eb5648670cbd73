"""Models of the Hugging Face Hub by name: from its cache, offline."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2v_edge.bundle import read_manifest
from w2v_edge.checkpoints import load_source

Make = Callable[..., Any]

RUN = """
import sys
from w2v_edge.cli.group import run
import w2v_edge_export.cases
w2v_edge_export.cases.LONG_SECONDS = 1.0
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def cache(hf_folder: Callable[[str], Path], cached: Make, tmp_path: Path) -> Path:
    """A cache that holds one model, as the Hub's library lays it out."""
    cached(tmp_path / "cache", "owner/small-model", hf_folder("wav2vec2-layer"))
    return tmp_path / "cache"


@pytest.fixture
def offline(cache: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`offline(*arguments)`: run the command line in another process, with that cache.

    `endpoint` is the address of a Hub to ask, in place of the offline mode.
    """

    def run(*arguments: str | Path, endpoint: str = "") -> subprocess.CompletedProcess[str]:
        hub = {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
        environment = {**os.environ, **hub, "HF_HUB_CACHE": str(cache)}
        command = [sys.executable, "-c", RUN, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )

    return run


def test_a_model_in_the_cache(offline: Make, hf_folder: Make, tmp_path: Path) -> None:
    """A cached model is exported by name, into the current folder, with its source."""
    done = offline("export", "owner/small-model")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(tmp_path / "small-model-fp32")
    assert manifest.source.name == "owner/small-model"
    assert manifest.source.sha256 == load_source(hf_folder("wav2vec2-layer")).sha256


@pytest.mark.parametrize(
    "name", ["owner/other-model", "nobody/small-model", "owner/small-model@v2"]
)
def test_a_model_that_is_not_in_the_cache(name: str, offline: Make, tmp_path: Path) -> None:
    """Offline, a model that is not cached is exit code 1, and nothing is written."""
    done = offline("export", name)
    assert done.returncode == 1
    *_, line = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {name}: cannot be downloaded from the Hugging Face Hub")
    assert [x.name for x in tmp_path.iterdir()] == ["cache"]


def test_weights_that_are_not_in_the_cache(offline: Make, cache: Path) -> None:
    """A partly fetched snapshot is exit code 1, and nothing is written."""
    (weights,) = cache.rglob("snapshots/*/model.safetensors")
    weights.unlink()
    done = offline("export", "owner/small-model")
    assert done.returncode == 1
    *_, line = done.stderr.strip().splitlines()
    assert "owner/small-model" in line
    assert "weights" in line


def test_a_hub_that_cannot_be_reached(offline: Make) -> None:
    """A Hub that hangs up is asked once, and the error is one line with its address."""
    asked = []

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(b"config.json" in self.request.recv(1024))

    with socketserver.TCPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        done = offline("export", "owner/other-model", endpoint=endpoint)
        server.shutdown()
    assert done.returncode == 1
    (line,) = (x for x in done.stderr.splitlines() if not x.startswith("export: "))
    assert line.startswith("error: owner/other-model: cannot be downloaded")
    assert f"{endpoint} cannot be reached" in line
    assert sum(asked) == 1
