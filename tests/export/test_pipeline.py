"""An export gives a whole bundle that is proven equal, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from w2v_edge.bundle_files import Bundle
from w2v_edge.errors import CheckpointError, ConfigError, OutputExistsError, ParityError
from w2v_edge_export import Stages, export
from w2v_edge_export.deployable import context
from w2v_edge_export.pipeline import GateError, export_bundle

NAME = "base-small"

Files = dict[str, bytes]


def _files(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _shared_bundle(bundle: Callable[[str], Path]) -> None:
    """Export the bundle that all tests share before any of these changes the exporter."""
    bundle(NAME)


@pytest.fixture
def ignore_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sabotage the exported context networks: all frames count as valid."""

    def all_valid(features: torch.Tensor, frame_lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        valid = torch.ones_like(features[:, :, :1]) + 0 * frame_lengths[:, None, None]
        return features, valid

    monkeypatch.setattr(context, "_clean", all_valid)


@pytest.mark.usefixtures("quick_gate", "ignore_padding")
@pytest.mark.parametrize("occupied", [False, True])
def test_a_graph_that_ignores_lengths_is_refused(
    occupied: bool,
    checkpoint: Callable[[str], Path],
    copied_bundle: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """A graph that looks at padding fails the gate; no bundle appears and an old one stays."""
    output = copied_bundle(NAME) if occupied else tmp_path / "bundle"
    before = _files(output) if occupied else {}
    with pytest.raises(GateError) as refused:
        export_bundle(checkpoint("tutorial-small"), output, force=True)
    failures = refused.value.report.failures
    assert all("ragged" in row.case for row in failures)
    assert {row.output for row in failures} == {"context"}
    assert refused.value.exit_code == 3
    assert isinstance(refused.value, ParityError)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == ([output] if occupied else [])
    assert (_files(output) if occupied else {}) == before


@pytest.mark.usefixtures("quick_gate")
def test_an_export_for_cuda(
    checkpoint: Callable[[str], Path], all_nodes: Any, tmp_path: Path
) -> None:
    """For CUDA no graph has a loop; progress never falls back, and only the bundle is left."""
    output = tmp_path / "b"
    stages = Stages()
    assert export(checkpoint(NAME), output, target="cuda", stages=stages).parity.passed
    assert Bundle.open(output).manifest.target == "cuda"
    for path in output.glob("*.onnx"):
        # A loop goes back to the host for every tile.
        assert not {"Scan", "Loop", "If"} & {node.op_type for node in all_nodes(path)}
    assert list(tmp_path.iterdir()) == [output]
    assert [x.name for x in stages.stages] == list(stages.weights)
    assert stages.share == 1


def test_the_same_checkpoint_gives_the_same_graphs(
    bundle: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    copied_bundle: Callable[[str], Path],
) -> None:
    """Exported by another process over an old bundle, graphs and weights are the same bytes."""
    output = copied_bundle(NAME)
    (output / "context.bin").write_bytes(b"damaged")
    script = """
import sys
from w2v_edge_export import parity, pipeline
parity.SECONDS, parity.MIN_CODES = (0.5,), 100
pipeline.export_bundle(sys.argv[1], sys.argv[2], force=True)
"""
    subprocess.run(
        [sys.executable, "-c", script, checkpoint(NAME), output],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    found, expected = _files(output), _files(bundle(NAME))
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"manifest.json", "golden.npz"}:
        assert found[name] == expected[name], name
    Bundle.open(output).check_all()
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]


def test_an_output_that_is_there_is_kept(
    checkpoint: Callable[[str], Path], copied_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """Without force nothing is replaced: not a bundle, not a file, not a dangling link."""
    folder, file, link = copied_bundle(NAME), tmp_path / "file", tmp_path / "link"
    file.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    before = _files(folder)
    for output in (folder, file, link):
        with pytest.raises(OutputExistsError, match=output.name):
            export_bundle(checkpoint(NAME), output)
    assert _files(folder) == before
    assert file.read_text() == "mine"
    assert link.is_symlink()


def test_a_folder_that_is_no_bundle_is_kept(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Even force does not replace a folder that holds somebody's other files."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="home"):
        export_bundle(checkpoint(NAME), tmp_path / "home", force=True)
    assert (tmp_path / "home/thesis.txt").read_text() == "mine"


def test_what_cannot_be_asked_for(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """An unknown target or precision, and what is no checkpoint, are refused by name."""
    output = tmp_path / "b"
    with pytest.raises(ConfigError, match=r"toaster.*cpu"):
        export_bundle(checkpoint(NAME), output, target="toaster")
    with pytest.raises(ConfigError, match=r"fp7.*fp32"):
        export_bundle(checkpoint(NAME), output, precision="fp7")
    with pytest.raises(CheckpointError, match=r"nothing\.pt"):
        export_bundle(tmp_path / "nothing.pt", output)
    assert list(tmp_path.iterdir()) == []
