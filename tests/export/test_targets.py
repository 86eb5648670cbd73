"""The graphs of each target profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import w2v_edge
from w2v_edge.bundle.golden import check_golden
from w2v_edge.cli.export import ACCELERATORS
from w2v_edge.errors import ConfigError
from w2v_edge_export import export
from w2v_edge_export.ort_format import check_ort_size
from w2v_edge_export.targets import load_target, target_names

LOOPS = {"Scan", "Loop", "If"}


@pytest.mark.usefixtures("quick_gate")
def test_an_export_for_openvino(
    checkpoint: Callable[[str], Path], all_nodes: Any, empty_batch: Any, tmp_path: Path
) -> None:
    """OpenVINO takes no loop whose weights lie in a file, and standard operators only.

    Such a bundle also runs on the CPU provider, where it verifies.
    """
    output = tmp_path / "b"
    export(checkpoint("base-small"), output, target="openvino")
    for path in output.glob("*.onnx"):
        nodes = all_nodes(path)
        assert not LOOPS & {node.op_type for node in nodes}
        assert {node.domain for node in nodes} <= {""}
    empty_batch(output)
    rows, _ = check_golden(w2v_edge.load(output))
    assert [row for row in rows if not row.ok] == []


def test_the_command_line_knows_accelerators() -> None:
    """It refuses --require-speedup where the profile computes int8 elsewhere."""
    assert {x for x in target_names() if load_target(x).between_integers} == ACCELERATORS


def test_targets_are_read_by_name() -> None:
    """Every profile is valid; an unknown name is refused with the known ones."""
    assert set(target_names()) >= {"cpu", "cuda", "openvino"}
    for name in target_names():
        assert load_target(name).name == name
    with pytest.raises(ConfigError, match=r"choose one of: .*openvino"):
        load_target("toaster")


@pytest.mark.parametrize(
    ("weights", "precision", "fits"),
    [
        (500_000_000, "fp32", True),
        (540_000_000, "fp32", False),
        (540_000_000, "fp16", True),
        (964_000_000, "int8", True),
        (2_200_000_000, "int8", False),
    ],
)
def test_too_large_for_one_file(weights: int, precision: str, fits: bool) -> None:
    """More than 2 GB of weights are refused for phones, with what to do."""
    if fits:
        check_ort_size(weights, precision)
        return
    with pytest.raises(ConfigError, match=r"at most 2\.1 GB, these take .* --target cpu"):
        check_ort_size(weights, precision)


def test_a_large_model_is_refused_before_it_is_traced(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target `mobile` refuses at once, and writes nothing."""
    monkeypatch.setattr("w2v_edge_export.ort_format.MAX_BYTES", 1000)
    monkeypatch.setattr("w2v_edge_export.pipeline.trace_parts", None)
    with pytest.raises(ConfigError, match="ORT format holds all weights in one file"):
        export(checkpoint("tiny"), tmp_path / "phone", target="mobile")
    assert not list(tmp_path.iterdir())
