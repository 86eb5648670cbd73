"""OpenVINO runs all heavy operators and gives the CPU provider's results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import w2v_edge
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import ProviderError

OPENVINO = "OpenVINOExecutionProvider"
NAMES = ("tiny", "base-small", "large-small", "tutorial-small")

FORK = """
import os, sys, numpy as np, w2v_edge
model = w2v_edge.load(sys.argv[1], provider="openvino")
clip = np.full(8000, 0.1, np.float32)
model.tokenize(clip)
child = os.fork()
if child == 0:
    try:
        model.tokenize(clip)
    except w2v_edge.W2VEdgeError as error:
        print(error, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
model.tokenize(clip)
"""


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, bundles: Path) -> Path:
    """A bundle for OpenVINO, of each architecture."""
    return bundles / f"{request.param}-openvino"


def test_golden_vectors_hold(folder: Path) -> None:
    """In float32, every graph is as near to PyTorch as on the CPU provider."""
    model = w2v_edge.load(folder, provider="openvino")
    rows, _ = check_golden(model)
    assert [row for row in rows if not row.ok] == []


def test_the_work_is_done_there(folder: Path) -> None:
    """OpenVINO takes every product; of the time of graphs of some size, the CPU has little."""
    model = w2v_edge.load(folder, provider="openvino")
    for graph in model.manifest.graphs:
        placement = model.prove(graph)
        assert placement.elsewhere == ()
        assert placement.nodes is not None
        assert placement.nodes[OPENVINO] >= 1
        assert placement.providers[0] == OPENVINO


@pytest.mark.parametrize("samples", [400, 401, 5_000, 16_000, 48_123, 160_000])
def test_any_length(folder: Path, samples: int, speech: dict[str, npt.NDArray[Any]]) -> None:
    """One session takes waveforms of any length, in any order, and gives the CPU's results."""
    clip = np.resize(np.concatenate(list(speech.values())), samples)
    model = w2v_edge.load(folder, provider="openvino", threads=2)
    reference = w2v_edge.load(folder)
    for part in (clip, clip[: max(400, samples // 2)], clip):
        found, expected = model.encode(part), reference.encode(part)
        assert np.abs(found.context - expected.context).max() <= 1e-4 * expected.context.std()
        assert np.abs(found.features - expected.features).max() <= 1e-4 * expected.features.std()
        assert found.codes is not None
        assert expected.codes is not None
        assert (found.codes != expected.codes).mean() <= 1e-3


def test_tensors_go_from_graph_to_graph(bundles: Path) -> None:
    """Outputs that are left where they are make inputs of the next graph."""
    model = w2v_edge.load(bundles / "tiny-openvino", provider="openvino")
    batch = {"waveform": np.full((1, 9_000), 0.1, np.float32), "lengths": np.array([9_000])}
    front = model.run_on_device("frontend", **batch)
    context = model.run_on_device("context", **front)["context"].numpy()
    assert np.abs(context - model.run("encoder", **batch)["context"]).max() <= 1e-4


def test_graphs_for_another_target_are_refused(bundles: Path) -> None:
    """A graph with loops is refused with a remedy; with fallback the CPU runs it."""
    with pytest.raises(ProviderError, match=r"'tokenizer' on .*--target openvino") as refused:
        w2v_edge.load(bundles / "tiny-cpu", provider="openvino").tokenize(np.ones(4_000))
    assert "\n" not in str(refused.value)
    lenient = w2v_edge.load(bundles / "tiny-cpu", provider="openvino", allow_fallback=True)
    assert len(lenient.tokenize(np.full(4_000, 0.1, np.float32)))
    assert "MatMul" in lenient.placement["tokenizer"].elsewhere


@pytest.mark.parametrize("options", [{"nonsense": "1"}, {"device_type": "NPU"}])
def test_options_it_does_not_take(
    bundles: Path, options: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong option, or a device that is not there, is an error, and nothing else is printed."""
    model = w2v_edge.load(bundles / "tiny-openvino", provider=("openvino", options))
    with pytest.raises(ProviderError, match="'openvino'") as refused:
        model.tokenize(np.full(4_000, 0.1, np.float32))
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_options_reach_it(bundles: Path) -> None:
    """The caller's options replace the defaults."""
    clip = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    exact = w2v_edge.load(bundles / "tiny-openvino", provider="openvino")
    rounded = w2v_edge.load(
        bundles / "tiny-openvino",
        provider=("openvino", {"precision": "ACCURACY", "num_of_threads": 1}),
    )
    assert np.abs(exact.encode(clip).context - rounded.encode(clip).context).max() <= 1e-3


def test_a_child_says_what_to_do(bundles: Path) -> None:
    """In a forked child, OpenVINO is refused in one line instead of hanging."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, bundles / "tiny-openvino"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    (line,) = done.stdout.splitlines()
    assert "'openvino' was open when this process was forked" in line
    assert "spawn" in line
    assert done.stderr == ""
