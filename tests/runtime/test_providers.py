"""What was asked for runs, or it is an error: providers and threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest

import w2v_edge
from w2v_edge.errors import ProviderError
from w2v_edge.names import Provider
from w2v_edge.providers import Execution, usable_cores
from w2v_edge.providers.installation import installed_wheels
from w2v_edge.providers.placement import check, sample_inputs, summarise
from w2v_edge.providers.table import TABLE

CPU, OPENVINO = (TABLE[name].ort_name for name in ("cpu", "openvino"))

CLIP = (np.sin(np.arange(4_000) / 9) / 2).astype(np.float32)

needs_no_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="nothing to refuse: this onnxruntime is the build for CUDA",
)


@pytest.fixture(scope="session")
def folder(bundle: Callable[[str], Path]) -> Path:
    """A bundle."""
    return bundle("base-small")


@needs_no_gpu
def test_a_provider_that_is_not_there(folder: Path) -> None:
    """CUDA on a machine without it is refused at load, with the line that installs it."""
    with pytest.raises(ProviderError, match=r"'cuda' is not .*w2v-edge\[gpu\]") as refused:
        w2v_edge.load(folder, provider="cuda")
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 1


@needs_no_gpu
def test_fallback_is_asked_for(folder: Path) -> None:
    """Where falling back is allowed, what really ran, and where, is on record."""
    model = w2v_edge.load(folder, provider="cuda", allow_fallback=True)
    found = model.encode(CLIP)
    assert model.provider == "cuda"
    placement = model.placement["encoder"]
    assert placement.providers == (CPU,)
    assert placement.nodes is not None
    assert set(placement.nodes) == {CPU}
    assert placement.time == {CPU: 1.0}
    assert "MatMul" in placement.elsewhere
    assert np.array_equal(found.context, w2v_edge.load(folder).encode(CLIP).context)


@pytest.mark.parametrize(
    "provider", ["tpu", "CPU", "", None, ["gpu"], [None], "CPUExecutionProvider", ("gpu", {})]
)
def test_unknown_providers(folder: Path, provider: Any) -> None:
    """A name that is no provider's is refused with those that are, even with fallback."""
    for allow_fallback in (False, True):
        with pytest.raises(ProviderError, match=r"choose one of: cpu, cuda, tensorrt, openvino"):
            w2v_edge.load(folder, provider=provider, allow_fallback=allow_fallback)


@pytest.mark.parametrize(
    "provider", [[], (), ["cpu", "cpu"], ("cpu", "cpu"), ("cpu", {}, 1), (("cpu", 1),)]
)
def test_bad_choices(folder: Path, provider: Any) -> None:
    """A choice is a name, a name with options, or a list of such, each once."""
    with pytest.raises(ProviderError, match="expected") as refused:
        w2v_edge.load(folder, provider=provider)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "provider", ["cpu", ("cpu", {}), ["cpu"], ("cpu",), [("cpu", {})], (("cpu", {}),)]
)
def test_ways_to_name_one(folder: Path, provider: Any) -> None:
    """With and without options, alone and in a list, a provider is the same one."""
    model = w2v_edge.load(folder, provider=provider)
    assert model.provider == "cpu"
    model.tokenize(CLIP)
    assert model.placement["tokenizer"].providers == (CPU,)


@needs_no_gpu
def test_the_first_of_a_list_must_run(folder: Path) -> None:
    """Naming the CPU second does not make it stand in for the first."""
    with pytest.raises(ProviderError, match="'cuda' is not in the installed onnxruntime"):
        w2v_edge.load(folder, provider=["cuda", "cpu"])


@pytest.mark.parametrize("provider", [x for x in get_args(Provider) if x != "cpu"])
def test_each_provider_is_refused_with_its_remedy(folder: Path, provider: str) -> None:
    """A provider that the installed onnxruntime lacks names what brings it, in one line."""
    if TABLE[provider].ort_name in onnxruntime.get_available_providers():
        pytest.skip(f"nothing to refuse: this onnxruntime has {provider}")
    with pytest.raises(ProviderError, match=f"'{provider}' is not in the installed") as refused:
        w2v_edge.load(folder, provider=provider)
    assert "\n" not in str(refused.value)
    assert TABLE[provider].install in str(refused.value)


def test_the_table_has_every_provider_that_onnxruntime_knows_by_that_name() -> None:
    """Each name that can be typed has a row, and onnxruntime knows what the row calls it."""
    assert tuple(TABLE) == get_args(Provider)
    assert {row.ort_name for row in TABLE.values()} <= set(onnxruntime.get_all_providers())


def test_operators_that_fall_to_the_cpu_are_named(folder: Path) -> None:
    """A graph whose products ran elsewhere than was asked is refused, and they are named."""
    wanted = Execution((("openvino", {}),), threads=1)
    model = w2v_edge.load(folder)
    inputs = sample_inputs(model.manifest.graphs["encoder"], model.sample_rate)
    placement = summarise(model.profile("encoder", 1, **inputs), (CPU,), wanted)
    assert {"MatMul", "Conv"} <= set(placement.elsewhere)
    with pytest.raises(ProviderError, match=r"'encoder' on provider 'openvino': .*MatMul") as error:
        check(placement, "encoder", wanted)
    assert "--target openvino" in str(error.value)
    assert "allow_fallback=True" in str(error.value)
    check(placement, "encoder", replace(wanted, allow_fallback=True))


def _event(operator: str, provider: str, kind: str = "float") -> dict[str, Any]:
    shapes = [{kind: [3, 3]}, {kind: [3, 3]}]
    arguments = {"op_name": operator, "provider": provider, "input_type_shape": shapes}
    return {"cat": "Node", "name": "x_kernel_time", "dur": 10, "args": arguments}


@pytest.mark.parametrize(
    ("events", "elsewhere"),
    [
        ([("openvino-subgraph_1", OPENVINO), ("Shape", CPU)], ()),
        ([("openvino-subgraph_1", OPENVINO), ("MatMul", CPU)], ("MatMul",)),
        ([("openvino-subgraph_1", OPENVINO), ("MatMulIntegerToFloat", CPU)], 1),
        ([("openvino-subgraph_1", OPENVINO), ("MatMul", CPU, "double")], ()),
        ([("Shape", CPU), ("Reshape", CPU)], ()),
    ],
)
def test_what_may_stay_on_the_cpu(events: list[Any], elsewhere: Any) -> None:
    """Shape arithmetic and the float64 sums of a normalisation may; products may not."""
    wanted = Execution((("openvino", {}),), threads=1)
    placement = summarise([_event(*event) for event in events], (OPENVINO, CPU), wanted)
    assert len(placement.elsewhere) == (elsewhere if elsewhere == 1 else len(elsewhere))


def test_every_named_provider_may_do_the_work() -> None:
    """With a list, work may be done by those in it, but the first must have done some."""
    both = Execution((("tensorrt", {}), ("cuda", {})), threads=1)
    trt, cuda = (TABLE[name].ort_name for name in ("tensorrt", "cuda"))
    shared = [_event("TRTKernel_1", trt), _event("MatMul", cuda)]
    assert summarise(shared, (trt, cuda, CPU), both).elsewhere == ()
    assert summarise(shared[1:], (trt, cuda, CPU), both).elsewhere == ("MatMul",)


def test_profiles_are_not_left_behind(folder: Path, tmp_path: Path) -> None:
    """A profiled run leaves no file, neither where the program runs nor for temporary files.

    Nor does onnxruntime's telemetry, of which a file for its sessions would be a sign.
    """
    script = """
import sys, w2v_edge
model = w2v_edge.load(sys.argv[1])
for graph in model.manifest.graphs:
    placement = model.prove(graph)
    assert sum(placement.nodes.values()) > 10
    assert abs(sum(placement.time.values()) - 1) < 1e-6
"""
    (tmp_path / "t").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "t")}
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert [x.name for x in tmp_path.rglob("*")] == ["t"]


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_bad_thread_counts(folder: Path, threads: Any) -> None:
    """Threads are a whole number above 0, or None for as many as make sense."""
    with pytest.raises(ProviderError, match=r"threads="):
        w2v_edge.load(folder, threads=threads)


def test_thread_counts(folder: Path) -> None:
    """Any number of threads gives the same codes; None means the cores this process may use."""
    expected = w2v_edge.load(folder, threads=1).tokenize(CLIP)
    for threads in (2, 3):
        model = w2v_edge.load(folder, threads=threads)
        assert model.threads == threads
        assert (model.tokenize(CLIP) == expected).mean() > 0.99
    assert w2v_edge.load(folder).threads == usable_cores()


def test_low_power(folder: Path) -> None:
    """Low power is one thread that does not spin, with the results of one thread."""
    model = w2v_edge.load(folder, power="low")
    assert model.threads == 1
    expected = w2v_edge.load(folder, threads=1).encode(CLIP).context
    assert np.array_equal(model.encode(CLIP).context, expected)
    options = model.session.open("encoder").session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    with pytest.raises(ProviderError, match="choose one of: high, low"):
        w2v_edge.load(folder, power="medium")  # type: ignore[arg-type]


def test_wheels_that_overwrite_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    """Two distributions that own one module are named where what they hide is asked for."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        info = tmp_path / f"{name.replace('-', '_')}-1.20.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.20.0\n")
        (info / "RECORD").write_text("onnxruntime/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"onnxruntime", "onnxruntime-gpu"} <= set(installed_wheels())
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ProviderError, match=r"overwrite each other; pip uninstall -y") as error:
            w2v_edge.load(folder, provider="cuda")
        assert "pip install 'onnxruntime-gpu'" in str(error.value)
    w2v_edge.load(folder).tokenize(CLIP)
