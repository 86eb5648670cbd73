"""Runs a bundle's graphs; each is hashed and opened when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle_files import Bundle
from w2v_edge.errors import InferenceError, W2VEdgeError, one_line
from w2v_edge.providers import (
    Execution,
    Placement,
    open_and_prove,
    open_session,
    profiled,
    usable_cores,
)
from w2v_edge.providers.lengths import bucketed
from w2v_edge.providers.placement import sample_inputs
from w2v_edge.runtime import forking

Tensors = dict[str, npt.NDArray[Any]]
T = TypeVar("T")


class GraphRunner:
    """The sessions of one bundle. Safe to use from many threads at once, and after a fork.

    As many runs go on at a time as there are cores for their threads; others wait, so that they
    neither fight over cores nor each take memory of their own.
    """

    def __init__(self, bundle: Bundle, execution: Execution) -> None:
        self.bundle = bundle
        self.execution = execution
        self._start()
        forking.watch(self)

    def _start(self) -> None:
        """Begin with no session, and with locks that nobody holds."""
        self._sessions: dict[str, Any] = {}
        self._placement: dict[str, Placement] = {}
        self._opening = {name: threading.Lock() for name in self.bundle.manifest.graphs}
        self._slots = threading.BoundedSemaphore(self._parallel_runs())

    def _parallel_runs(self) -> int:
        """A device runs one graph at a time; DirectML allows no more."""
        host = self.execution.row.device == "cpu"
        return max(1, usable_cores() // self.execution.threads) if host else 1

    def after_fork(self) -> None:
        """In a forked child: leave the parent's sessions, whose threads are not here."""
        sessions = list(self._sessions.values())
        forking.abandon(self.execution.provider if sessions else None, sessions)
        self._start()

    @property
    def placement(self) -> dict[str, Placement]:
        """Where each graph opened so far runs."""
        return dict(self._placement)

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph on named tensors; see `w2v_edge.bundle` for names and shapes.

        Raises:
            GraphMissingError: the bundle has no such graph.
            BundleIntegrityError: a file of it is missing or damaged.
            ProviderError: the provider asked for did not start, or does not run the graph.
            InferenceError: onnxruntime refused the inputs or ran out of memory.
        """
        session = self.session(graph)
        names = self.output_names(graph)
        given, frames = self._padded(inputs)
        with self._slots:
            try:
                values = session.run(names, given)
            except Exception as error:
                raise refused(graph, error) from error
        outputs = dict(zip(names, values, strict=True))
        self._check_ranks(graph, outputs)
        return self._trimmed(graph, outputs, frames)

    def run_bound(self, graph: str, binding: Any) -> None:
        """Run a graph with inputs and outputs that are bound already; errors as for `run`."""
        session = self.session(graph)
        with self._slots:
            try:
                session.run_with_iobinding(binding)
            except Exception as error:
                raise refused(graph, error) from error

    def device(self, graph: str) -> tuple[str, int]:
        """Return where a graph's tensors lie: onnxruntime's name of the device, and its number."""
        row, options = self.execution.row, self.execution.providers[0][1]
        if row.ort_name not in self.session(graph).get_providers():
            return "cpu", 0
        return row.device, int(options.get("device_id", 0)) if row.device != "cpu" else 0

    def output_names(self, graph: str) -> list[str]:
        """Return the names of a graph's outputs, in order."""
        return [output.name for output in self.bundle.manifest.graphs[graph].outputs]

    def session(self, graph: str) -> Any:
        """Return the onnxruntime session of a graph; opening one holds up no other."""
        if graph not in self._opening:
            self.bundle.check_data(graph)
        if graph not in self._sessions:
            with self._opening[graph]:
                if graph not in self._sessions:
                    session, self._placement[graph] = self._open(graph)
                    self._sessions[graph] = session
        return self._sessions[graph]

    def prove(self, graph: str) -> Placement:
        """Run a graph once in a session of its own, profiled; also on the CPU.

        Raises:
            ProviderError: it does not run on the provider asked for.
        """
        return self._guarded(graph, lambda: self._open_proven(graph))[1]

    def profile(self, graph: str, runs: int, inputs: Tensors) -> list[dict[str, Any]]:
        """Run a graph so often in a profiled session of its own; errors as for `run`."""
        path = self.bundle.path(f"{graph}.onnx")
        given = self._padded(inputs)[0]

        def opened() -> tuple[list[dict[str, Any]], Placement]:
            return profiled(path, self.execution, given, runs=runs)

        return self._guarded(graph, opened)[0]

    def _open(self, graph: str) -> tuple[Any, Placement]:
        if self.execution.needs_proof:
            forking.check(self.execution.provider)
            return self._guarded(graph, lambda: self._open_proven(graph))
        session = self._guarded(graph, lambda: self._open_plain(graph))
        return session, Placement(tuple(session.get_providers()))

    def _open_plain(self, graph: str) -> Any:
        return open_session(self.bundle.path(f"{graph}.onnx"), self.execution)

    def _open_proven(self, graph: str) -> tuple[Any, Placement]:
        manifest = self.bundle.manifest
        inputs = sample_inputs(manifest.graphs[graph], manifest.sample_rate)
        return open_and_prove(
            self.bundle.path(f"{graph}.onnx"),
            self.execution,
            self._padded(inputs)[0],
            cache_key=manifest.sha256[:16],
        )

    def _guarded(self, graph: str, start: Callable[[], T]) -> T:
        """Open a graph, its weights being hashed meanwhile; it is not run before both are done."""
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(self.bundle.check_data, graph)
            try:
                opened = start()
            except W2VEdgeError:
                checked.result()
                raise
            except Exception as error:
                # A damaged file says more of the cause than what onnxruntime makes of it.
                checked.result()
                path = self.bundle.folder / f"{graph}.onnx"
                raise InferenceError(
                    f"{path}: onnxruntime could not open it: {one_line(error)}"
                ) from error
            checked.result()
        return opened

    def _check_ranks(self, graph: str, outputs: Tensors) -> None:
        """Refuse outputs with other axes than the graph declares: onnxruntime lets them pass."""
        for tensor in self.bundle.manifest.graphs[graph].outputs:
            found = outputs[tensor.name].shape
            if len(found) != len(tensor.axes):
                raise InferenceError(
                    f"graph {graph!r}: gave {tensor.name!r} of shape {found}, "
                    f"expected axes {', '.join(map(str, tensor.axes))}; export again"
                )

    def _padded(self, inputs: Tensors) -> tuple[Tensors, int | None]:
        """Pad waveforms to one of a few lengths; also return the frames there are without."""
        waveform = inputs.get("waveform") if self.execution.buckets else None
        if waveform is None or waveform.ndim != len(("b", "t")):
            return inputs, None
        samples = waveform.shape[1]
        more = bucketed(samples, self.bundle.manifest.sample_rate) - samples
        padded = np.pad(waveform, ((0, 0), (0, more)))
        return inputs | {"waveform": padded}, self.bundle.manifest.geometry.frames(samples)

    def _trimmed(self, graph: str, outputs: Tensors, frames: int | None) -> Tensors:
        """Drop the frames that come of padding to a bucket."""
        if frames is None:
            return outputs
        kept = {"frames": frames}
        if "context_lengths" in outputs:
            kept["context_frames"] = int(outputs["context_lengths"].max(initial=0))
        described = self.bundle.manifest.graphs[graph].outputs
        return {
            tensor.name: outputs[tensor.name][
                tuple(slice(kept.get(str(axis))) for axis in tensor.axes)
            ]
            for tensor in described
        }


def refused(graph: str, error: Exception) -> InferenceError:
    """Make the error for a run that onnxruntime refused."""
    return InferenceError(f"graph {graph!r}: onnxruntime: {one_line(error)}")
