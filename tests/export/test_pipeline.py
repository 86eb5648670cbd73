"""An export writes a complete bundle that passed the parity gate, or nothing."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from w2v_edge.bundle import Bundle
from w2v_edge.errors import CheckpointError, ConfigError, OutputExistsError, ParityError
from w2v_edge.model import load_checkpoint
from w2v_edge_export import Stages, export
from w2v_edge_export.deployable import context
from w2v_edge_export.parts import parts
from w2v_edge_export.pipeline import GateError
from w2v_edge_export.trace import trace

NAME = "base-small"

Files = dict[str, bytes]


def _files(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _shared_bundle(bundle: Callable[[str], Path]) -> None:
    """Export the shared bundle before a test changes the exporter."""
    bundle(NAME)


@pytest.fixture
def ignore_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sabotage the exported context networks: all frames count as valid."""

    def all_valid(features: torch.Tensor, frame_lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        valid = torch.ones_like(features[:, :, :1]) + 0 * frame_lengths[:, None, None]
        return features, valid

    monkeypatch.setattr(context, "_clean", all_valid)


@pytest.mark.usefixtures("quick_gate", "ignore_padding")
def test_a_graph_that_ignores_lengths_is_refused(
    checkpoint: Callable[[str], Path], copied_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """A graph that reads padding fails the parity gate, and an existing bundle stays as it is."""
    output = copied_bundle(NAME)
    before = _files(output)
    with pytest.raises(GateError) as refused:
        export(checkpoint("tutorial-small"), output, force=True)
    failures = refused.value.report.failures
    assert all("ragged" in row.case or "golden" in row.case for row in failures)
    assert {row.output for row in failures} == {"context"}
    assert refused.value.exit_code == 3
    assert isinstance(refused.value, ParityError)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [output]
    assert _files(output) == before


OPTIMISED = """
import sys
import w2v_edge
from w2v_edge import agreement
from w2v_edge.errors import ParityError
from w2v_edge_export import cases, exact_gate, export
from w2v_edge_export.verification import verify_against
cases.LONG_SECONDS, cases.SPEECH_SECONDS, exact_gate.MIN_CODES = 1.1, 1.1, 100
cases.THOROUGH_SECONDS, exact_gate.THOROUGH_CODES = (1.0,), 100
checkpoint, output, broken = sys.argv[1:]
print(__debug__)
print(export(checkpoint, output, force=True).parity.passed)
print(verify_against(w2v_edge.load(output), checkpoint).passed)
print(verify_against(w2v_edge.load(output), broken).passed)
agreement.RELATIVE_TOLERANCE = agreement.ROUNDING_FACTOR = 0.0
try:
    export(checkpoint, output + "-2")
except ParityError:
    print("refused")
"""


def test_the_same_checkpoint_gives_the_same_graphs(
    bundle: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    copied_bundle: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """`python -O` in another process writes the same bytes, and refuses what differs."""
    output = copied_bundle(NAME)
    (output / "context.bin").write_bytes(b"damaged")
    content = torch.load(checkpoint(NAME), weights_only=True)
    content["model"]["context_network.blocks.1.attention.output.weight"][3, 5] += 1e-3
    torch.save(content, tmp_path / "broken.pt")
    done = subprocess.run(
        [sys.executable, "-O", "-c", OPTIMISED, checkpoint(NAME), output, tmp_path / "broken.pt"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    assert done.stdout.split() == ["False", "True", "True", "False", "refused"]
    found, expected = _files(output), _files(bundle(NAME))
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"manifest.json", "golden.npz"}:
        assert found[name] == expected[name], name
    Bundle.open(output).check_all()
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "broken.pt"}


@pytest.mark.usefixtures("quick_gate")
def test_stages_are_recorded(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages record their seconds and the share done, and a log has one line for each."""
    monkeypatch.setattr("w2v_edge_export.stages.QUIET_SECONDS", 0.0)
    log = io.StringIO()
    stages = Stages(log=log)
    export(checkpoint(NAME), tmp_path / "b", stages=stages)
    assert [x.name for x in stages.stages] == list(stages.weights)
    assert all(x.seconds is not None for x in stages.stages)
    assert stages.share == 1
    lines = log.getvalue().splitlines()
    found = [re.fullmatch(r"export: (.+) \(\d+\.\d s\)", line) for line in lines]
    assert [line and line[1] for line in found] == list(stages.weights)


def test_tracing_leaves_stdout_to_other_threads(
    checkpoint: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """While an export traces, other threads still print to stdout, and the tracer does not."""
    ended = threading.Event()
    streams = set()

    def watch() -> None:
        while not ended.wait(0.001):
            streams.add(sys.stdout)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        trace(parts(load_checkpoint(checkpoint("large-small")))["quantizer"], opset=20)
    finally:
        ended.set()
        thread.join()
    assert streams == {sys.stdout}
    assert capsys.readouterr().out == ""


def test_importing_the_package_is_cheap() -> None:
    """`import w2v_edge_export` brings in neither PyTorch nor ONNX tools."""
    script = """
import sys
import w2v_edge_export
print(sorted({"torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.strip() == b"[]"


def test_existing_outputs_are_kept(
    checkpoint: Callable[[str], Path], copied_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """Without `force` nothing is replaced: no bundle, no file, no dangling link."""
    folder, file, link = copied_bundle(NAME), tmp_path / "file", tmp_path / "link"
    file.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    before = _files(folder)
    for output in (folder, file, link):
        with pytest.raises(OutputExistsError, match=output.name):
            export(checkpoint(NAME), output)
    assert _files(folder) == before
    assert file.read_text() == "mine"
    assert link.is_symlink()


def test_other_folders_are_kept(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Even with `force`, a folder that holds other files is not replaced."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="home"):
        export(checkpoint(NAME), tmp_path / "home", force=True)
    assert (tmp_path / "home/thesis.txt").read_text() == "mine"


def test_unknown_arguments_are_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """An unknown target, an unknown precision and a missing checkpoint are refused by name."""
    output = tmp_path / "b"
    with pytest.raises(ConfigError, match=r"toaster.*cpu"):
        export(checkpoint(NAME), output, target="toaster")
    with pytest.raises(ConfigError, match=r"fp7.*fp32"):
        export(checkpoint(NAME), output, precision="fp7")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"nothing\.pt"):
        export(tmp_path / "nothing.pt", output)
    assert list(tmp_path.iterdir()) == []
