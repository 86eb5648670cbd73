"""`w2v-edge serve`: its errors, its addresses, and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2v_edge import data
from w2v_edge.web.assets import CHECKOUT, ORT_WEB_FILES, ORT_WEB_VERSION

Verb = Callable[..., Any]
BUNDLE = data.TINY_INT8


@pytest.fixture
def ort_web(tmp_path: Path) -> Path:
    """A folder like that of npm's onnxruntime-web."""
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in ORT_WEB_FILES:
        (folder / "dist" / name).touch()
    return folder


def test_errors_are_one_line(
    w2v_edge: Verb, refused: Verb, ort_web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No onnxruntime-web, a port in use, and a wrong certificate: one line that says what to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("w2v_edge.web.assets.CHECKOUT", tmp_path / "none")
    install = f"npm install --prefix . --ignore-scripts onnxruntime-web@{ORT_WEB_VERSION}"
    refused(w2v_edge("serve", BUNDLE), 1, install)
    refused(w2v_edge("serve", BUNDLE, "--onnxruntime-web", tmp_path / "gone"), 1, install)
    refused(w2v_edge("serve", BUNDLE, "--onnxruntime-web", tmp_path), 1, "dist/ort", install)
    (tmp_path / "file").write_text("x")
    given = ("serve", BUNDLE, "--onnxruntime-web", ort_web)
    refused(w2v_edge(*given, "--reports", "file"), 1, "file", "not a folder")
    wrong = ("--certificate", "file", "--key", "file")
    refused(w2v_edge(*given, *wrong), 1, "expected a certificate and its key")
    refused(w2v_edge(*given, *wrong[:3], "gone"), 1, "expected a certificate and its key")
    assert w2v_edge(*given, *wrong[:2]).code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(w2v_edge(*given, "--port", port), 1, f"port {port}", "choose another")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "onnxruntime-web"]


def test_ctrl_c_ends_it(ort_web: Path, tmp_path: Path) -> None:
    """The printed addresses are served until Ctrl-C, which ends the server with exit code 0."""
    command = [sys.executable, "-m", "w2v_edge", "serve", str(BUNDLE), "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0", "--onnxruntime-web", str(ort_web)],  # noqa: S104
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    links = json.loads(process.stdout.readline())
    with urllib.request.urlopen(links["bench"][0], timeout=30) as answer:  # noqa: S310 - our own
        assert b"Speed on this device" in answer.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    *warning, last = err.splitlines()
    assert last == "ended"
    assert all(x.startswith("warning: over plain http") for x in warning)
    assert not (tmp_path / "reports").exists()


def test_the_version_is_that_of_the_page() -> None:
    """The version in errors and help is that of the page's package."""
    package = json.loads((CHECKOUT.parents[1] / "package.json").read_text())
    assert package["dependencies"]["onnxruntime-web"] == ORT_WEB_VERSION
    help_text = (Path(data.__file__).parents[1] / "cli/serve.py").read_text()
    assert f"onnxruntime-web@{ORT_WEB_VERSION}" in help_text
