"""Bundles run with only `w2v-edge[cpu]` installed, at the oldest supported versions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import w2v_edge

ABSENT = {"torch", "onnx", "einops", "click", "rich", "soundfile", "soxr", "w2v_edge_export"}

RUN = """
import json, sys
before = set(sys.modules)
import w2v_edge
after_import = set(sys.modules) - before
import numpy as np
model = w2v_edge.load(sys.argv[1])
waveform = np.load(sys.argv[2])
encoding = model.encode(waveform, sample_rate=16000)
np.savez(sys.argv[3], tokens=model.tokenize(waveform), **vars(encoding))
from w2v_edge.bundle.golden import check_golden
assert all(row.ok for row in check_golden(model)[0])
import onnxruntime
def packages(names):
    files = {name.split(".")[0] for name in names if getattr(sys.modules[name], "__file__", None)}
    return sorted(files - sys.stdlib_module_names)
print(json.dumps([onnxruntime.__version__, packages(after_import), packages(sys.modules)]))
"""

SHIPPED = """
import w2v_edge
from w2v_edge import data
from w2v_edge.bundle.golden import check_golden
rows, _ = check_golden(w2v_edge.load(data.TINY_INT8))
assert all(row.ok for row in rows), rows
print(len(rows), data.__file__)
"""

REFUSALS = """
import sys
from pathlib import Path
import numpy as np, w2v_edge
from w2v_edge.audio import read_audio
calls = [
    lambda: w2v_edge.load(sys.argv[1]).encode(np.zeros(4000, np.float32), sample_rate=8000),
    lambda: read_audio(Path("any.wav"), 16000),
]
for call in calls:
    try:
        call()
    except w2v_edge.W2VEdgeError as error:
        print(error)
"""


def _run(python: Path, folder: Path, script: str, *arguments: Path) -> str:
    done = subprocess.run(
        [python, "-I", "-c", script, *arguments],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("name", ["base-small", "tutorial-small"])
def test_bundles_run_without_torch(
    name: str,
    floor_python: Path,
    bundle: Callable[[str], Path],
    speech: dict[str, npt.NDArray[Any]],
    tmp_path: Path,
) -> None:
    """Results of onnxruntime 1.20 are the same; the import needs numpy only."""
    waveform = speech["en-conf-getpin"]
    np.save(tmp_path / "waveform.npy", waveform)
    paths = (bundle(name), tmp_path / "waveform.npy", tmp_path / "out.npz")
    version, after_import, in_the_end = json.loads(_run(floor_python, tmp_path, RUN, *paths))
    assert version.startswith("1.20.")
    assert after_import == ["w2v_edge"]
    assert not ABSENT & set(in_the_end)
    expected = w2v_edge.load(bundle(name)).encode(waveform)
    arrays = vars(expected) | {"tokens": expected.codes}
    with np.load(tmp_path / "out.npz") as found:
        assert set(found.files) == set(arrays)
        for output in ("codes", "tokens", "vectors", "times"):
            assert np.array_equal(found[output], arrays[output])
        for output in ("features", "context"):
            assert np.abs(found[output] - arrays[output]).max() <= 1e-4


@pytest.mark.parametrize("name", ["base-small", "tutorial-small"])
def test_int8_gives_the_same_codes(
    name: str,
    floor_python: Path,
    int8_bundle: Callable[[str], Path],
    speech: dict[str, npt.NDArray[Any]],
    tmp_path: Path,
) -> None:
    """In int8, onnxruntime 1.20 gives the same codes, except for float rounding."""
    waveform = speech["en-conf-getpin"]
    np.save(tmp_path / "waveform.npy", waveform)
    paths = (int8_bundle(name), tmp_path / "waveform.npy", tmp_path / "out.npz")
    assert json.loads(_run(floor_python, tmp_path, RUN, *paths))[0].startswith("1.20.")
    expected = w2v_edge.load(int8_bundle(name)).tokenize(waveform)
    with np.load(tmp_path / "out.npz") as found:
        assert np.mean(found["tokens"] != expected) <= 0.01


def test_missing_extras_are_named(
    floor_python: Path, bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """Resampling and reading files name the extra to install."""
    lines = _run(floor_python, tmp_path, REFUSALS, bundle("base-small")).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.endswith("run: pip install 'w2v-edge[audio]'")


def test_the_command_line_names_its_extra(floor_python: Path, tmp_path: Path) -> None:
    """Without its extra, `w2v-edge` prints one line with the pip command and exits 1."""
    for arguments in ([], ["--help"], ["encode", "x.wav"]):
        done = subprocess.run(
            # Isolated: a checkout on PYTHONPATH would name itself.
            [floor_python, "-I", floor_python.with_name("w2v-edge"), *arguments],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert "pip install 'w2v-edge[cpu,cli]'" in line
        assert list(tmp_path.iterdir()) == []


def test_the_shipped_model_runs(floor_python: Path, tmp_path: Path) -> None:
    """The shipped model needs the wheel, numpy and onnxruntime only."""
    rows, where = _run(floor_python, tmp_path, SHIPPED).split()
    assert int(rows) > 3
    assert str(floor_python.parents[1]) in where
