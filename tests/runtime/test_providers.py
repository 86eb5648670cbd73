"""The requested provider and threads are used, or loading is an error."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import soundfile

import w2v_edge
from w2v_edge.corpus.entries import Entry
from w2v_edge.corpus.job import CorpusOptions
from w2v_edge.corpus.worker import Encoder
from w2v_edge.errors import ProviderError
from w2v_edge.extras import with_commands
from w2v_edge.names import Provider
from w2v_edge.providers import Execution, table, usable_cores
from w2v_edge.providers.installation import installed_wheels
from w2v_edge.providers.placement import check, sample_inputs, summarise
from w2v_edge.providers.session import compiled_key
from w2v_edge.providers.table import TABLE
from w2v_edge.runtime.session import Session

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
def test_fallback_is_recorded(folder: Path) -> None:
    """With `allow_fallback`, the CPU runs the graphs and `placement` says so."""
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


def test_unknown_providers(folder: Path) -> None:
    """An unknown provider is refused with the list of known ones, even with fallback."""
    unknown: list[Any] = ["tpu", "CPU", "", None, ["gpu"], [None], CPU, ("gpu", {})]
    for provider in unknown:
        for allow_fallback in (False, True):
            with pytest.raises(ProviderError, match=r"choose one of: cpu, cuda, tensorrt, openv"):
                w2v_edge.load(folder, provider=provider, allow_fallback=allow_fallback)


def test_malformed_choices(folder: Path) -> None:
    """A choice is a name, a name with options, or a list or tuple of these, each once."""
    malformed: list[Any] = [[], (), ["cpu", "cpu"], ("cpu", "cpu"), ("cpu", {}, 1), (("cpu", 1),)]
    for provider in malformed:
        with pytest.raises(ProviderError, match="expected") as refused:
            w2v_edge.load(folder, provider=provider)
        assert "\n" not in str(refused.value)


def test_equivalent_choices(folder: Path) -> None:
    """A name, a name with options, and lists and tuples of one choose the same provider."""
    choices: list[Any] = ["cpu", ("cpu", {}), ["cpu"], ("cpu",), [("cpu", {})], (("cpu", {}),)]
    for provider in choices:
        model = w2v_edge.load(folder, provider=provider)
        assert model.provider == "cpu"
        model.tokenize(CLIP)
        assert model.placement["tokenizer"].providers == (CPU,)


RATE = 16_000
SECONDS = [np.roll(np.resize(CLIP, RATE), i) for i in range(70)]
"""70 recordings of one second."""


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every batch of the tokenizer, in order."""
    seen: list[int] = []
    run = Session.run

    def counted(self: Session, graph: str, inputs: Any) -> Any:
        seen.append(len(inputs["waveform"]))
        return run(self, graph, inputs)

    monkeypatch.setattr(Session, "run", counted)
    return seen


@needs_no_gpu
def test_a_fallback_has_the_limits_of_the_cpu(
    folder: Path, rows: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Batch size, concurrency and corpus group size are those of the provider that runs."""
    monkeypatch.setattr("w2v_edge.runtime.session.usable_cores", lambda: 4)
    fallback = w2v_edge.load(folder, provider="cuda", allow_fallback=True, threads=1)
    plain = w2v_edge.load(folder, threads=1)
    for model in (fallback, plain):
        model.tokenize(SECONDS[:20])
    half = len(rows) // 2
    assert rows[:half] == rows[half:]
    assert max(rows) == table.CPU_BATCH_SECONDS
    slots: Any = fallback.session.open("tokenizer").slots
    assert sum(slots.acquire(blocking=False) for _ in range(9)) == 4
    for _ in range(4):
        slots.release()
    groups: list[int] = []
    tokenize = fallback.tokenize

    def counted(audio: Any, **options: Any) -> Any:
        groups.append(len(audio))
        return tokenize(audio, **options)

    monkeypatch.setattr(fallback, "tokenize", counted)
    entries = [Entry(str(i), str(tmp_path / f"{i}.wav")) for i in range(len(SECONDS))]
    for entry, second in zip(entries, SECONDS, strict=True):
        soundfile.write(entry.path, second, RATE)
    Encoder(fallback, CorpusOptions(), lambda: False).encode(entries)
    assert groups == [table.CPU_GROUP_SECONDS, len(SECONDS) - table.CPU_GROUP_SECONDS]


def test_providers_on_a_cpu_have_the_limits_of_the_cpu() -> None:
    """OpenVINO on the CPU and XNNPACK batch as the CPU does; other devices as accelerators."""
    cpu = (table.CPU_BATCH_SECONDS, table.CPU_GROUP_SECONDS)
    accelerator = (table.ACCELERATOR_BATCH_SECONDS, table.ACCELERATOR_GROUP_SECONDS)
    for name, options, started, limits in (
        ("cpu", {}, [CPU], cpu),
        ("openvino", {}, [OPENVINO, CPU], cpu),
        ("openvino", {"device_type": "GPU"}, [OPENVINO, CPU], accelerator),
        ("openvino", {"device_type": "GPU"}, [CPU], cpu),
        ("xnnpack", {}, [TABLE["xnnpack"].ort_name, CPU], cpu),
        ("cuda", {}, [TABLE["cuda"].ort_name, CPU], accelerator),
        ("cuda", {}, [CPU], cpu),
    ):
        execution = Execution(((name, options),), threads=1, allow_fallback=True)
        running = execution.running(started)
        assert (execution.batch_seconds(running), execution.group_seconds(running)) == limits
    assert not any(TABLE[name].serial for name in ("cpu", "openvino", "xnnpack"))


@needs_no_gpu
def test_output_and_logging_are_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loading and running leaves onnxruntime's default logger and other threads' output alone."""

    def forbidden(*_: Any) -> None:
        raise AssertionError

    for name in ("severity", "verbosity", "callback"):
        monkeypatch.setattr(f"onnxruntime.set_default_logger_{name}", forbidden, raising=False)
    done = threading.Event()

    def write() -> int:
        lines = 0
        while not done.is_set():
            print(lines)
            os.write(2, b"x")
            lines += 1
        return lines

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for options in ({}, {"provider": "cuda", "allow_fallback": True}):
                model = w2v_edge.load(folder, **options)  # type: ignore[arg-type]
                model.encode(CLIP)
                model.prove("tokenizer")
        finally:
            done.set()
        lines = writing.result()
    captured = capfd.readouterr()
    assert captured.out.split() == [str(line) for line in range(lines)]
    assert captured.err == "x" * lines


def test_keys_of_compiled_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another bundle, onnxruntime, driver, device or option has another key."""
    for name, value in (("_driver", "1"), ("device_identity", "CPU A")):
        monkeypatch.setattr(f"w2v_edge.providers.session.{name}", lambda value=value: value)
    runtime = SimpleNamespace(__version__="1.20.0")

    def key(version: str = "1.20.0", bundle: str = "bundle", **options: str) -> str:
        runtime.__version__ = version
        return compiled_key(runtime, bundle, options)  # type: ignore[arg-type]

    keys = [key(), key("1.21.0"), key(bundle="other"), key(device_id="1"), key(device_id="2")]
    assert key() == keys[0]
    assert key(a="1", b="2") == key(b="2", a="1")
    monkeypatch.setattr("w2v_edge.providers.session._driver", lambda: "2")
    keys.append(key())
    monkeypatch.setattr("w2v_edge.providers.session.device_identity", lambda: "CPU B")
    keys.append(key())
    assert len(set(keys)) == len(keys)


@needs_no_gpu
def test_the_first_of_a_list_must_run(folder: Path) -> None:
    """The CPU as second choice does not replace a first choice that is missing."""
    with pytest.raises(ProviderError, match="'cuda' is not in the installed onnxruntime"):
        w2v_edge.load(folder, provider=["cuda", "cpu"])


def test_missing_providers_name_their_remedy(folder: Path) -> None:
    """A provider that the installed onnxruntime lacks is refused with the way to install it."""
    available = onnxruntime.get_available_providers()
    missing = [name for name, row in TABLE.items() if row.ort_name not in available]
    assert missing
    for provider in missing:
        with pytest.raises(ProviderError, match=f"'{provider}' is not in the installed") as error:
            w2v_edge.load(folder, provider=provider)
        assert "\n" not in str(error.value)
        assert with_commands(TABLE[provider].install) in str(error.value)
        assert error.value.exit_code == 1


def test_the_table_has_every_public_provider() -> None:
    """Each public name has an entry, whose name onnxruntime knows, or a plugin's library."""
    assert tuple(TABLE) == get_args(Provider)
    built_in = {row.ort_name for row in TABLE.values() if row.plugin is None}
    assert built_in <= set(onnxruntime.get_all_providers())


def test_heavy_operators_elsewhere_are_refused(folder: Path) -> None:
    """A graph whose heavy operators ran on another provider is refused, with their names."""
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
def test_light_operators_may_run_on_the_cpu(events: list[Any], elsewhere: Any) -> None:
    """Shape arithmetic and float64 sums may run on the CPU; matrix products may not."""
    wanted = Execution((("openvino", {}),), threads=1)
    placement = summarise([_event(*event) for event in events], (OPENVINO, CPU), wanted)
    assert len(placement.elsewhere) == (elsewhere if elsewhere == 1 else len(elsewhere))


def test_times_are_of_runs_after_the_warm_up() -> None:
    """Operators are counted for one run; times are medians after the first runs."""

    def run(begin: int, product: int) -> list[dict[str, Any]]:
        node = _event("MatMul", CPU) | {"ts": begin, "dur": product}
        other = _event("Shape", CPU) | {"ts": begin + product, "dur": 10}
        return [node, other, {"cat": "Session", "name": "model_run", "ts": begin, "dur": 50}]

    events = [*run(0, 900), *run(1_000, 30), *run(2_000, 800), *run(3_000, 30)]
    found = summarise(events, (CPU,), Execution((("cpu", {}),), threads=1), warm_ups=1)
    assert found.nodes == {CPU: 2}
    assert found.heaviest == (("MatMul", CPU, 0.75), ("Shape", CPU, 0.25))
    assert found.runs == 3


def test_every_named_provider_may_do_the_work() -> None:
    """Any listed provider may run heavy operators, but the first one must run some."""
    both = Execution((("tensorrt", {}), ("cuda", {})), threads=1)
    trt, cuda = (TABLE[name].ort_name for name in ("tensorrt", "cuda"))
    shared = [_event("TRTKernel_1", trt), _event("MatMul", cuda)]
    assert summarise(shared, (trt, cuda, CPU), both).elsewhere == ()
    assert summarise(shared[1:], (trt, cuda, CPU), both).elsewhere == ("MatMul",)


def test_profiles_are_not_left_behind(folder: Path, tmp_path: Path) -> None:
    """A profiled run leaves no file in the working or temporary folder, nor does telemetry."""
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


def test_invalid_thread_counts(folder: Path) -> None:
    """Threads are a whole number above 0, or None."""
    counts: list[Any] = [0, -1, 1.5, "2", True]
    for threads in counts:
        with pytest.raises(ProviderError, match=r"threads="):
            w2v_edge.load(folder, threads=threads)


def test_thread_counts(folder: Path) -> None:
    """Any number of threads gives the same codes; the default is the usable cores."""
    expected = w2v_edge.load(folder, threads=1).tokenize(CLIP)
    for threads in (2, 3):
        model = w2v_edge.load(folder, threads=threads)
        assert model.threads == threads
        assert (model.tokenize(CLIP) == expected).mean() > 0.99
    assert w2v_edge.load(folder).threads == usable_cores()


def test_low_power(folder: Path) -> None:
    """Low power is one thread that never spins, with the results of one thread."""
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
    """Two onnxruntime distributions that overwrite each other are named by the error."""
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
