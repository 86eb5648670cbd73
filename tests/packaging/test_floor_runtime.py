"""The oldest onnxruntime: device tensors, profiled runs and forked children."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

BINDING = """
import sys
import numpy as np, onnxruntime, w2v_edge
from w2v_edge.errors import InputError
assert onnxruntime.__version__.startswith("1.20.")
model = w2v_edge.load(sys.argv[1])
waveform = np.random.default_rng(3).standard_normal((2, 5_000)).astype(np.float32)
batch = {"waveform": waveform, "lengths": np.array([5_000, 3_000])}
expected = model.run("frontend", **batch)

class Elsewhere:
    def __init__(self, array):
        self.array = array
    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)
    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

for given in (waveform, onnxruntime.OrtValue.ortvalue_from_numpy(waveform), Elsewhere(waveform)):
    front = model.run_on_device("frontend", **(batch | {"waveform": given}))
    assert np.array_equal(front["features"].numpy(), expected["features"])
context = model.run_on_device("context", **front)["context"].numpy()
assert np.array_equal(context, model.run("context", **expected)["context"])

class OnDevice(Elsewhere):
    def __dlpack_device__(self):
        return (2, 0)

try:
    model.run_on_device("frontend", **(batch | {"waveform": OnDevice(waveform)}))
except InputError as error:
    print(error)
"""

PROOF_AND_FORK = """
import os, sys
import numpy as np, w2v_edge
model = w2v_edge.load(sys.argv[1], threads=2)
for graph in model.manifest.graphs:
    placement = model.prove(graph)
    assert placement.time == {"CPUExecutionProvider": 1.0}
    assert sum(placement.nodes.values()) > 10
clip = np.full(8_000, 0.1, np.float32)
expected = model.tokenize(clip)
child = os.fork()
if child == 0:
    assert np.array_equal(model.tokenize(clip), expected)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


def _run(python: Path, script: str, bundle: Path) -> tuple[str, str]:
    command = [str(python), "-I", "-c", script, str(bundle)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


def test_tensors_on_the_device(floor_python: Path, bundle: Callable[[str], Path]) -> None:
    """Arrays, OrtValues and CPU DLPack tensors are bound; device DLPack names a remedy."""
    out, err = _run(floor_python, BINDING, bundle("large-small"))
    assert err == ""
    (line,) = out.splitlines()
    assert "update onnxruntime, or pass an onnxruntime.OrtValue" in line


def test_proofs_and_forks(floor_python: Path, bundle: Callable[[str], Path]) -> None:
    """Profiles are read, and a child of a process with open sessions runs and ends."""
    assert _run(floor_python, PROOF_AND_FORK, bundle("base-small")) == ("done\n", "")
