"""A session: the graphs of one bundle, each hashed and opened when it is first run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from w2v_edge.bundle import (
    Bundle,
    FixedShape,
    GraphInfo,
    Manifest,
    TensorInfo,
    Tensors,
    file_stem,
)
from w2v_edge.errors import InferenceError, InputError, W2VEdgeError, one_line
from w2v_edge.providers import (
    Execution,
    Placement,
    ProviderInfo,
    import_onnxruntime,
    open_and_prove,
    open_session,
    profiled,
    usable_cores,
)
from w2v_edge.providers.bfloat16 import BF16, choose_arithmetic
from w2v_edge.providers.placement import sample_inputs
from w2v_edge.runtime import forking
from w2v_edge.runtime.inputs import check_inputs
from w2v_edge.runtime.padding import choose_shape, pad_batches, pad_to_bucket, sizes_of, trim

T = TypeVar("T")

DLPACK_CPU = 1
"""The CPU's device type in DLPack."""


@dataclass(frozen=True)
class OpenGraph:
    """An opened graph.

    Attributes:
        session: onnxruntime's `InferenceSession`.
        outputs: in the order of `names`.
        names: of the outputs.
        placement: where its operators run.
        provider: the provider that runs it.
        slots: limits the runs at a time.
    """

    session: Any
    outputs: tuple[TensorInfo, ...]
    names: list[str]
    placement: Placement
    provider: ProviderInfo
    slots: threading.BoundedSemaphore


class Session:
    """The graphs of one bundle. Safe to use from many threads at once, and after a fork.

    On the CPU as many runs go on at a time as there are cores for their threads; others wait, so
    that they neither compete for cores nor each take memory of their own.
    """

    def __init__(self, bundle: Bundle, execution: Execution) -> None:
        """Start with no graph opened.

        Args:
            bundle: on disk.
            execution: provider, threads and options to run with.
        """
        self.bundle = bundle
        if bundle.manifest.precision == BF16:
            arithmetic = choose_arithmetic(execution, execution.info)
            execution = replace(execution, arithmetic=arithmetic)
        self.execution = execution
        self._closed = False
        self._start()
        forking.watch(self)

    def _start(self) -> None:
        """Start with no graph opened, and with locks that nobody holds."""
        self._graphs: dict[str, OpenGraph] = {}
        self._changing = threading.Lock()
        self._opening = {name: threading.Lock() for name in self.manifest.graph_files}
        self._slots: dict[str, threading.BoundedSemaphore] = {}

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def precision(self) -> str:
        """The precision computed in: the manifest's, but fp32 for bf16 without bfloat16 here.

        On a provider that computes float32 graphs in float16 it is fp16 for fp32.
        """
        stated = self.manifest.precision
        if stated == BF16 and self.execution.arithmetic != BF16:
            stated = "fp32"
        return "fp16" if stated == "fp32" and self.execution.half else stated

    @property
    def placement(self) -> dict[str, Placement]:
        """Where each graph opened so far runs; by the names of files, without `.onnx`."""
        return {name: graph.placement for name, graph in dict(self._graphs).items()}

    def close(self) -> None:
        """Release all graphs. Runs that are in progress end normally."""
        with self._changing:
            self._closed = True
            self._graphs = {}

    def release(self, graph: str) -> None:
        """Release one graph; its next run opens it again. Runs in progress end normally."""
        with self._changing:
            for shape in self.shapes:
                self._graphs.pop(file_stem(graph, shape), None)

    def after_fork(self) -> None:
        """In a forked child: leave the parent's sessions, whose threads do not exist here."""
        sessions = [graph.session for graph in self._graphs.values()]
        forking.abandon(self.execution.provider if sessions else None, sessions)
        self._start()

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph on named tensors; see `w2v_edge.bundle` for names and shapes.

        A batch may have 0 rows.

        Raises:
            GraphMissingError: the bundle has no such graph.
            BundleIntegrityError: a file of it is missing or damaged.
            ProviderError: the requested provider did not start, or does not run the graph.
            InferenceError: onnxruntime refused the inputs or ran out of memory.
        """
        if not all(len(tensor) for tensor in inputs.values()):
            return self._run_no_rows(graph, inputs)
        if self.manifest.shapes:
            return self._run_fixed(graph, inputs)
        opened = self._graphs.get(graph) or self.open(graph)
        if not opened.provider.buckets or "waveform" not in inputs:
            return self._run(graph, opened, inputs)
        found = self._run(graph, opened, pad_to_bucket(inputs, self.manifest.sample_rate))
        return trim(self.manifest, graph, found, {"samples": inputs["waveform"].shape[1]})

    def _run_fixed(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph of the smallest fixed shape that holds the inputs, in as many batches."""
        info = self._info(graph)
        sizes = sizes_of(info.inputs, {name: x.shape for name, x in inputs.items()})
        shape = choose_shape(graph, self.manifest.shapes, sizes)
        opened = self._graphs.get(file_stem(graph, shape)) or self.open(graph, shape)
        batches = [
            self._run(graph, opened, batch) for batch in pad_batches(info.inputs, inputs, shape)
        ]
        joined = batches[0]
        if len(batches) > 1:
            joined = {name: np.concatenate([x[name] for x in batches]) for name in opened.names}
        return trim(self.manifest, graph, joined, sizes)

    def _run(self, graph: str, opened: OpenGraph, inputs: Tensors) -> Tensors:
        with opened.slots:
            try:
                values = opened.session.run(opened.names, inputs)
            except Exception as error:
                raise _refused(graph, error) from error
        for tensor, value in zip(opened.outputs, values, strict=True):
            # onnxruntime does not compare outputs with the axes that a graph declares.
            if value.ndim != len(tensor.axes):
                raise InferenceError(
                    f"graph {graph!r}: output {tensor.name!r} has shape {value.shape}, "
                    f"expected axes {', '.join(map(str, tensor.axes))}; export again"
                )
        return dict(zip(opened.names, values, strict=True))

    def run_on_device(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run a graph and leave its outputs on the provider's device.

        Args:
            graph: its name.
            inputs: by name, each an `onnxruntime.OrtValue`, a numpy array, or anything else with
                `__dlpack__`. Tensors on the CPU or on the provider's device are not copied.

        Returns:
            An `onnxruntime.OrtValue` for each output: `.numpy()` copies it to the host, and it can
            be an input of the next graph.

        Raises:
            InputError: another type, or tensors that do not fit the graph or each other.
            InferenceError: onnxruntime refused the inputs.
        """
        ort, info = import_onnxruntime(), self._info(graph)
        # They own the memory that the binding points to, until the run ends.
        values = {name: _as_ort_value(ort, name, tensor) for name, tensor in inputs.items()}
        check_inputs(graph, info.inputs, values)
        sizes = sizes_of(info.inputs, {name: x.shape() for name, x in values.items()})
        opened = self.open(graph, self._exact_shape(graph, sizes))
        device, number = self._device(opened)
        if not all(value.shape()[0] for value in values.values()):
            rows = self._run_no_rows(graph, {name: x.numpy() for name, x in values.items()})
            of_numpy = ort.OrtValue.ortvalue_from_numpy
            return {name: of_numpy(row, device, number) for name, row in rows.items()}
        binding = opened.session.io_binding()
        try:
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            for name in opened.names:
                binding.bind_output(name, device, number)
            binding.synchronize_inputs()
            with opened.slots:
                opened.session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:
            raise _refused(graph, error) from error
        return dict(zip(opened.names, binding.get_outputs(), strict=True))

    def _run_no_rows(self, graph: str, inputs: Tensors) -> Tensors:
        """Return outputs of 0 rows: those of one row of zeros, cut off.

        Graphs of early releases, and some providers, crash on a batch of 0.
        """
        row = {name: np.zeros((1, *x.shape[1:]), x.dtype) for name, x in inputs.items()}
        return {name: values[:0] for name, values in self.run(graph, row).items()}

    def open(self, graph: str, shape: FixedShape | None = None) -> OpenGraph:
        """Open a graph, if it is not open yet; opening one does not block others.

        Args:
            graph: its name.
            shape: of a bundle with fixed shapes, by default the smallest.

        Raises:
            GraphMissingError: the bundle has no such graph.
            InferenceError: the session was closed.
        """
        self._info(graph)
        shape = shape or self.shapes[0]
        stem = file_stem(graph, shape)
        with self._opening[stem]:
            with self._changing:
                self._check_open()
                opened = self._graphs.get(stem)
            if opened is None:
                opened = self._open(graph, shape)
                with self._changing:
                    self._check_open()
                    self._graphs[stem] = opened
            return opened

    @property
    def shapes(self) -> tuple[FixedShape | None, ...]:
        """The fixed shapes, the smallest first; a single None for open axes."""
        return self.manifest.shapes or (None,)

    def _info(self, graph: str) -> GraphInfo:
        if graph not in self.manifest.graphs:
            self.bundle.check_data(graph)
        return self.manifest.graphs[graph]

    def _exact_shape(self, graph: str, sizes: dict[str, int]) -> FixedShape | None:
        """Return the fixed shape that inputs have; None for open axes.

        Raises:
            InputError: no shape is theirs; tensors on a device are not padded.
        """
        shapes = self.manifest.shapes
        for shape in shapes:
            if all(shape.axes[axis] == size for axis, size in sizes.items()) or not sizes["batch"]:
                return shape
        if not shapes:
            return None
        found, expected = (
            ", ".join(f"{axis}={x[axis]}" for axis in sizes) for x in (sizes, shapes[-1].axes)
        )
        raise InputError(
            f"graph {graph!r}: found {found}, expected a shape of this bundle, such as {expected}; "
            "run pads its inputs, run_on_device does not"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise InferenceError("this model was closed; load the bundle again")

    def prove(self, graph: str) -> Placement:
        """Run a graph in a separate session with profiling enabled; also on the CPU.

        Raises:
            ProviderError: it does not run on the requested provider.
        """
        return self._checked(graph, lambda: self._open_proven(graph, self.shapes[0], timed=True))[1]

    def profile(self, graph: str, runs: int, inputs: Tensors) -> list[dict[str, Any]]:
        """Run a graph `runs` times in a separate session with profiling enabled.

        Returns:
            onnxruntime's events. Errors as for `run`.
        """
        info, shape, given = self._info(graph), None, inputs
        if self.manifest.shapes:
            sizes = sizes_of(info.inputs, {name: x.shape for name, x in inputs.items()})
            shape = choose_shape(graph, self.manifest.shapes, sizes)
            given = next(pad_batches(info.inputs, inputs, shape))
        elif self.execution.info.buckets:
            given = pad_to_bucket(inputs, self.manifest.sample_rate)
        path = self._path(graph, shape)
        return self._checked(graph, lambda: profiled(path, self.execution, given, runs=runs))[0]

    def _path(self, graph: str, shape: FixedShape | None) -> Path:
        return self.bundle.path(f"{file_stem(graph, shape)}.onnx")

    def _open(self, graph: str, shape: FixedShape | None) -> OpenGraph:
        if self.execution.needs_proof:
            forking.check(self.execution.provider)
            session, placement = self._checked(graph, lambda: self._open_proven(graph, shape))
        else:
            path = self._path(graph, shape)
            session = self._checked(graph, lambda: open_session(path, self.execution))
            placement = Placement(tuple(session.get_providers()))
        outputs = self.manifest.graphs[graph].outputs
        provider = self.execution.running(session.get_providers())
        if self.execution.arithmetic == BF16 and provider is not self.execution.info:
            # It fell back: this graph is computed in float32, with a warning.
            choose_arithmetic(self.execution, provider)
        limit = 1 if provider.serial else max(1, usable_cores() // self.execution.threads)
        slots = self._slots.setdefault(provider.ort_name, threading.BoundedSemaphore(limit))
        names = [output.name for output in outputs]
        return OpenGraph(session, outputs, names, placement, provider, slots)

    def _open_proven(
        self, graph: str, shape: FixedShape | None, *, timed: bool = False
    ) -> tuple[Any, Placement]:
        axes = None if shape is None else shape.axes
        return open_and_prove(
            self._path(graph, shape),
            self.execution,
            sample_inputs(self._info(graph), self.manifest.sample_rate, axes),
            cache_key=self.manifest.sha256[:16],
            timed=timed,
        )

    def _checked(self, graph: str, start: Callable[[], T]) -> T:
        """Open a graph while its weights are hashed; one that is run to prove itself, after."""
        if self.execution.needs_proof:
            self.bundle.check_data(graph)
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(self.bundle.check_data, graph)
            try:
                opened = start()
            except W2VEdgeError:
                checked.result()
                raise
            except Exception as error:
                # A damaged file explains the error better than onnxruntime does.
                checked.result()
                path = self.bundle.folder / f"{graph}.onnx"
                reason = one_line(error)
                if any("\ud800" <= char <= "\udfff" for char in str(path)):
                    reason = "its path is no Unicode text in this locale; rename the folder"
                raise InferenceError(f"{path}: onnxruntime could not open it: {reason}") from error
            checked.result()
        return opened

    def _device(self, opened: OpenGraph) -> tuple[str, int]:
        """Return the device of a graph's tensors: onnxruntime's name and the device number."""
        device = opened.provider.device
        options = self.execution.options_of(opened.provider)
        return device, int(options.get("device_id", 0)) if device != "cpu" else 0


def _as_ort_value(ort: ModuleType, name: str, tensor: Any) -> Any:
    if isinstance(tensor, ort.OrtValue):
        return tensor
    if not isinstance(tensor, np.ndarray):
        if not hasattr(tensor, "__dlpack__"):
            raise InputError(
                f"{name}: found {type(tensor).__name__}, expected an onnxruntime.OrtValue, a "
                "numpy array, or a tensor with __dlpack__"
            )
        if hasattr(ort.OrtValue, "from_dlpack"):
            return ort.OrtValue.from_dlpack(tensor)
        if tensor.__dlpack_device__()[0] != DLPACK_CPU:
            raise InputError(
                f"{name}: found a tensor on a device, which onnxruntime {ort.__version__} cannot "
                "import by DLPack; update onnxruntime, or pass an onnxruntime.OrtValue"
            )
        tensor = np.from_dlpack(tensor)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor))


def _refused(graph: str, error: Exception) -> InferenceError:
    return InferenceError(f"graph {graph!r}: onnxruntime: {one_line(error)}")
