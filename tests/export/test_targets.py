"""The graphs of each target profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import w2v_edge
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import ConfigError
from w2v_edge_export import export
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


def test_targets_are_read_by_name() -> None:
    """Every profile is valid; an unknown name is refused with the known ones."""
    assert set(target_names()) >= {"cpu", "cuda", "openvino"}
    for name in target_names():
        assert load_target(name).name == name
    with pytest.raises(ConfigError, match=r"choose one of: .*openvino"):
        load_target("toaster")
