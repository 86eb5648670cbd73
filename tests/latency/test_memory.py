"""Memory of a process by stage, limits on it, and the parts that a device needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import w2v_edge
from w2v_edge import data
from w2v_edge.bundle import Bundle
from w2v_edge.errors import InferenceError
from w2v_edge.latency.measure.installation import installed_parts
from w2v_edge.latency.measure.memory import RESET, StagePeaks, bytes_read, peak_mb
from w2v_edge.latency.measure.memory_limit import limiting

SIZE = 64_000_000


STAGES = f"""
import json
from w2v_edge.latency.measure.memory import StagePeaks

peaks = StagePeaks("before")
peaks.begin("large")
bytearray({SIZE})
peaks.begin("small")
peaks.end()
print(json.dumps([peaks.reset, peaks.mb]))
"""


def test_each_stage_has_its_own_peak() -> None:
    """Memory that was freed before a stage does not count for it, where peaks can be reset."""
    if not os.access(RESET, os.W_OK):
        pytest.skip("the system does not reset peaks of memory")
    # In a process of its own: other threads of this one may take and free memory.
    done = subprocess.run([sys.executable, "-c", STAGES], capture_output=True, check=True)
    reset, mb = json.loads(done.stdout)
    assert reset
    assert mb["large"] > mb["small"] + 0.5 * SIZE / 1e6


def test_peaks_that_cannot_be_reset_are_those_so_far(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the file a stage's peak is the largest one until its end, and it is said."""
    monkeypatch.setattr("w2v_edge.latency.measure.memory.RESET", tmp_path / "none" / "none")
    peaks = StagePeaks("before")
    peaks.begin("after")
    peaks.end()
    assert not peaks.reset
    assert peaks.mb["after"] >= peaks.mb["before"]
    assert (peak_mb() or 0) >= peaks.mb["after"]


def test_bytes_read_are_counted(tmp_path: Path) -> None:
    """A file that is read counts with its size."""
    before, _ = bytes_read()
    if before is None:
        pytest.skip("the system does not count bytes")
    path = tmp_path / "a"
    path.write_bytes(bytes(500_000))
    path.read_bytes()
    after, _ = bytes_read()
    assert after is not None
    assert 500_000 <= after - before < 700_000


def _groups(root: Path, own: str, handed_down: str) -> Path:
    """Make folders like control groups; the group `handed_down` has the memory controller."""
    for folder in (root / own, *(root / own).parents):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("cpu")
        if folder == root:
            break
    (root / handed_down / "cgroup.subtree_control").write_text("cpu memory")
    membership = root / "membership"
    membership.write_text(f"4:memory:/other\n0::/{own}\n")
    return membership


def test_a_limit_is_a_control_group_where_one_can_be_made(tmp_path: Path) -> None:
    """The group is made below the closest one that hands memory down, and trials enter it."""
    membership = _groups(tmp_path, "user/session/scope", "user")
    with limiting(300.0, tmp_path, membership) as limit:
        assert limit is not None
        assert limit.by == "control group"
        assert limit.group is not None
        assert limit.group.parent == tmp_path / "user"
        assert (limit.group / "memory.max").read_text() == "300000000"
        done = subprocess.run(
            [*limit.prefix, "sh", "-c", "echo $$"], capture_output=True, check=True, text=True
        )
        assert (limit.group / "cgroup.procs").read_text() == done.stdout
        assert limit.kills() == 0
        (limit.group / "memory.events").write_text("oom 1\noom_kill 2\n")
        assert limit.kills() == 2


@pytest.mark.parametrize("membership", ["4:memory:/own\n", "0::/none\n", ""])
def test_without_a_control_group_peaks_are_compared(tmp_path: Path, membership: str) -> None:
    """Version 1 and folders without the controller give none; a peak above the limit is refused."""
    path = tmp_path / "membership"
    path.write_text(membership)
    with limiting(300.0, tmp_path, path) as limit:
        assert limit is not None
        assert (limit.by, limit.prefix) == ("peak", ())
        limit.check(300.0)
        for peak, words in ((301.0, "found a peak of 301 MB"), (None, "not reported")):
            with pytest.raises(InferenceError, match=words):
                limit.check(peak)
    with limiting(None) as none:
        assert none is None


def test_the_needed_files_of_a_bundle_are_enough(tmp_path: Path, speech: dict[str, Any]) -> None:
    """A copy of the files that are needed for codes gives the same codes; others are not needed."""
    model = w2v_edge.load(data.TINY_INT8, threads=1)
    clip = speech["en-activated"]
    expected = model.tokenize(clip)
    parts = installed_parts(model.bundle)
    needed = [x.name for x in parts if x.needed and x.kind == "file"]
    for name in needed:
        shutil.copy(data.TINY_INT8 / name, tmp_path / name)
    np.testing.assert_array_equal(w2v_edge.load(tmp_path, threads=1).tokenize(clip), expected)
    left_out = {x.name for x in parts if not x.needed and x.kind == "file"}
    assert {"golden.npz", "encoder.onnx", "context.bin"} <= left_out
    unopened = installed_parts(Bundle.open(data.TINY_INT8))
    assert [x.name for x in unopened if x.needed and x.kind == "file"] == ["manifest.json"]


def test_packages_are_listed_with_their_sizes() -> None:
    """Imported packages are needed; optional ones that are installed are not."""
    script = (
        "import json, w2v_edge\n"
        "from w2v_edge import data, strict\n"
        "from w2v_edge.latency.measure.installation import installed_parts\n"
        "model = w2v_edge.load(data.TINY_INT8, threads=1)\n"
        "model.prepare('tokenizer')\n"
        "print(json.dumps(strict.to_plain(installed_parts(model.bundle))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    parts = {x["name"]: x for x in json.loads(done.stdout) if x["kind"] == "package"}
    assert {name for name, x in parts.items() if x["needed"]} == {
        "w2v-edge", "numpy", "onnxruntime",
    }  # fmt: skip
    assert 5 < parts["numpy"]["size_mb"] < 200
    assert not parts["click"]["needed"]
