"""Our graphs on the provider: parity, placement, I/O binding, buckets, and CUDA graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.gpu.runner import PASSED
from bench.gpu.setup import PRECISIONS, Setup
from bench.peers.sides import Precision
from bench.peers.speech import speech
from bench.peers.timing import one_line
from w2v_edge.bundle.golden import check_golden
from w2v_edge.providers.installation import import_onnxruntime, preload_libraries
from w2v_edge.providers.table import TABLE

Array = npt.NDArray[Any]
Batch = dict[str, Array]

TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.1}
"""Largest deviation between providers, in standard deviations of the output."""

BUCKETS = (0.9, 1.0, 1.1, 2.2, 2.9)
"""Seconds of audio: the first two are padded to one length, and the last two to another."""


def of_each(measure: Callable[[Setup, Precision], dict[str, Any]], setup: Setup) -> dict[str, Any]:
    """Measure each precision; one that fails leaves the other."""
    found: dict[str, Any] = {PASSED: True}
    for precision in PRECISIONS:
        try:
            found[precision] = measure(setup, precision)
        except Exception as error:  # noqa: BLE001 - any runtime's own; it is the result
            found[precision] = {PASSED: False, "error": one_line(error)}
        found[PASSED] &= found[precision][PASSED]
    return found


def parity(setup: Setup, precision: Precision) -> dict[str, Any]:
    """Compare with the golden vectors, as `w2v-edge verify --provider cuda` does."""
    rows, codes = check_golden(setup.load(precision))
    return {
        PASSED: bool(rows) and all(row.ok for row in rows),
        "codes_compared": codes.compared,
        "codes_tied": codes.ties,
        "comparisons": [row.to_dict() for row in rows],
    }


def placement(setup: Setup, precision: Precision) -> dict[str, Any]:
    """Profile each graph: operators and shares of time by provider."""
    model = setup.load(precision)
    placed = {graph: model.prove(graph) for graph in model.manifest.graphs}
    rows = {
        graph: {"nodes": x.nodes, "time": x.time, "heaviest": x.heaviest[:12]}
        for graph, x in placed.items()
    }
    return {PASSED: not any(x.elsewhere for x in placed.values()), "graphs": rows}


def binding(setup: Setup, precision: Precision) -> dict[str, Any]:
    """Chain two graphs on the device, from and to PyTorch's tensors, and compare with `run`."""
    import torch

    model, batch = setup.load(precision), _batch(setup.seconds[0])
    given = batch | {"waveform": torch.from_numpy(batch["waveform"]).to(setup.device)}

    def on_device() -> Any:
        front = model.run_on_device("frontend", **given)
        return model.run_on_device(
            "context", features=front["features"], frame_lengths=front["frame_lengths"]
        )["context"]

    def on_host() -> Array:
        front = model.run("frontend", **batch)
        return model.run(
            "context", features=front["features"], frame_lengths=front["frame_lengths"]
        )["context"]

    context = on_device()
    deviation = _deviation(context.numpy(), on_host())
    device = str(torch.utils.dlpack.from_dlpack(context).device)
    return {
        PASSED: deviation <= TOLERANCES[precision] and device.startswith(setup.device),
        "device": device,
        "deviation": deviation,
        "on_device_ms": _milliseconds(on_device, setup),
        "host_to_host_ms": _milliseconds(on_host, setup),
    }


def buckets(setup: Setup, precision: Precision) -> dict[str, Any]:
    """Run lengths within and across buckets; compare with the CPU, which does not pad."""
    model, reference = setup.load(precision), setup.load(precision, "cpu")
    model.prepare("encoder")
    found: dict[str, Any] = {}
    for seconds in BUCKETS:
        batch = _batch(seconds)
        begun = time.perf_counter()
        context = model.run("encoder", **batch)["context"]
        first = time.perf_counter() - begun
        run = partial(model.run, "encoder", **batch)
        found[f"{seconds:g} s"] = {
            "first_ms": round(1e3 * first, 3),
            "again_ms": _milliseconds(run, setup),
            "deviation": _deviation(context, reference.run("encoder", **batch)["context"]),
        }
    worst = max(row["deviation"] for row in found.values())
    return {PASSED: worst <= TOLERANCES[precision], **found}


def cuda_graphs(setup: Setup, precision: Precision) -> dict[str, Any]:
    """Capture the encoder at fixed shapes, and replay it on other audio in the same memory."""
    found: dict[str, Any] = {}
    model = setup.load(precision)
    for seconds in setup.seconds:
        batch = _batch(seconds)
        outputs = model.run("encoder", **batch)
        plain, captured = (
            FixedEncoder(setup, precision, batch, outputs, capture=x) for x in (False, True)
        )
        times = [_milliseconds(fixed.run, setup) for fixed in (plain, captured)]
        deviations = []
        for waveform in (batch["waveform"], batch["waveform"][:, ::-1].copy()):
            captured.fill(waveform)
            captured.run()
            expected = model.run("encoder", waveform=waveform, lengths=batch["lengths"])
            deviations.append(_deviation(captured.context(), expected["context"]))
        found[f"{seconds:g} s"] = {
            "plain_ms": times[0],
            "captured_ms": times[1],
            "deviation": max(deviations),
        }
    worst = max(row["deviation"] for row in found.values())
    return {PASSED: worst <= TOLERANCES[precision], **found}


class FixedEncoder:
    """The encoder at one shape, with inputs and outputs at fixed addresses on the device."""

    def __init__(
        self, setup: Setup, precision: Precision, batch: Batch, outputs: Batch, *, capture: bool
    ) -> None:
        """Open a session.

        Args:
            setup: the device and the bundles.
            precision: of the bundle.
            batch: inputs of the shape.
            outputs: of the shape's outputs.
            capture: whether the provider records a CUDA graph; without effect on the CPU.
        """
        ort = import_onnxruntime()
        row = TABLE[setup.device]
        if row.library:
            preload_libraries(ort)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = setup.shop.threads
        more = {"enable_cuda_graph": "1"} if capture and row.library else {}
        providers = [(row.ort_name, row.options | more)]
        with _fixed_graph(setup.shop.graph(precision), batch) as path:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        self._session.disable_fallback()
        of_numpy = ort.OrtValue.ortvalue_from_numpy
        self._inputs = {"waveform": of_numpy(batch["waveform"], row.device, 0)}
        self._outputs = {name: of_numpy(x, row.device, 0) for name, x in outputs.items()}
        self._binding = self._session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def fill(self, waveform: Array) -> None:
        """Copy another waveform (batch, samples) of the same shape to the same memory."""
        self._inputs["waveform"].update_inplace(waveform)

    def run(self) -> None:
        """Run, and wait for the device."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def context(self) -> Array:
        """Return the context (batch, frames, dim) of the last run."""
        found: Array = self._outputs["context"].numpy()
        return found


@contextmanager
def _fixed_graph(path: Path, batch: Batch) -> Iterator[Path]:
    """Yield a graph for one shape, with `lengths` as a constant.

    onnxruntime folds what depends on them alone. It would run on the CPU, and a CUDA graph holds
    work of the GPU alone.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    (waveform,) = [x for x in graph.input if x.name == "waveform"]
    for axis, size in zip(
        waveform.type.tensor_type.shape.dim, batch["waveform"].shape, strict=True
    ):
        axis.dim_value = size
    del graph.input[:]
    graph.input.append(waveform)
    graph.initializer.append(onnx.numpy_helper.from_array(batch["lengths"], "lengths"))
    # The intermediate shapes were inferred for other lengths.
    del graph.value_info[:]
    # External data must lie beside the graph.
    with TemporaryDirectory(dir=path.parent.parent) as folder:
        for data in path.parent.glob("*.bin"):
            (Path(folder) / data.name).hardlink_to(data)
        onnx.save(model, Path(folder) / path.name)
        yield Path(folder) / path.name


def _batch(seconds: float) -> Batch:
    waveform = speech(seconds)
    return {"waveform": waveform[None], "lengths": np.array([len(waveform)])}


def _deviation(found: Array, expected: Array) -> float:
    """Return the largest deviation in standard deviations of `expected`."""
    if found.shape != expected.shape:
        raise ValueError(f"found shape {found.shape}, expected {expected.shape}")
    return float(np.abs(found - expected).max() / expected.std())


def _milliseconds(run: Callable[[], Any], setup: Setup) -> float:
    """Return the median time of a run that ends with the device's work."""
    times = []
    for turn in range(setup.warm_up + setup.rounds):
        begun = time.perf_counter()
        run()
        if turn >= setup.warm_up:
            times.append(time.perf_counter() - begun)
    return round(1e3 * median(times), 3)
