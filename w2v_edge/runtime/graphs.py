"""The graphs of an open bundle: run by name on tensors, and where they run."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from w2v_edge.bundle import Bundle, Manifest, Tensors
from w2v_edge.providers import Placement
from w2v_edge.runtime.inputs import check_inputs
from w2v_edge.runtime.session import Session


class Graphs:
    """The graphs of a bundle, opened when first used.

    A context manager; leaving it, or `close`, releases their memory.

    Attributes:
        session: runs the graphs.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def __repr__(self) -> str:
        """Name the bundle, its precision, the provider and the sample rate."""
        name = self.bundle.folder.resolve().name
        about = f"{self.manifest.precision}, {self.provider}, {self.sample_rate} Hz"
        return f"{type(self).__name__}({name!r}, {about})"

    def close(self) -> None:
        """Release the graphs; any later run raises `InferenceError`."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def bundle(self) -> Bundle:
        """The bundle on disk."""
        return self.session.bundle

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.session.manifest

    @property
    def sample_rate(self) -> int:
        """Sample rate that the model takes, in Hz."""
        return self.manifest.sample_rate

    @property
    def provider(self) -> str:
        """The execution provider that was requested."""
        return self.session.execution.provider

    @property
    def precision(self) -> str:
        """The precision computed in: the manifest's, or what this provider has in its place."""
        return self.session.precision

    @property
    def half(self) -> bool:
        """Whether its provider computes float32 graphs in float16."""
        return self.session.execution.half

    @property
    def threads(self) -> int:
        """Intra-op threads."""
        return self.session.execution.threads

    @property
    def placement(self) -> dict[str, Placement]:
        """Where each graph opened so far runs; by the names of files, without `.onnx`."""
        return self.session.placement

    def prepare(self, graph: str) -> None:
        """Open a graph now, in all fixed shapes, rather than when it is first run.

        Raises:
            GraphMissingError: the model has no such graph.
            BundleIntegrityError: a file of it is missing or damaged.
            ProviderError: it does not run on the requested provider.
        """
        for shape in self.session.shapes:
            self.session.open(graph, shape)

    def run(self, graph: str, **tensors: npt.NDArray[Any]) -> Tensors:
        """Run one graph on padded batches, by the tensor names in `w2v_edge.bundle`.

        Raises:
            GraphMissingError: the model has no such graph.
            InputError: tensors are missing, or do not fit the graph or each other.
            InferenceError: onnxruntime refused the inputs.
        """
        info = self.manifest.graphs.get(graph)
        # A missing graph is an error of `Session.run`.
        if info is not None:
            check_inputs(graph, info.inputs, tensors)
        return self.session.run(graph, tensors)

    def run_on_device(self, graph: str, **tensors: Any) -> dict[str, Any]:
        """Run one graph as `run` does, and leave its outputs on the provider's device.

        Args:
            graph: its name.
            tensors: by name, each an `onnxruntime.OrtValue`, a numpy array, or anything else with
                `__dlpack__`, such as a torch tensor.

        Returns:
            An `onnxruntime.OrtValue` for each output: an input for the next graph, without a copy,
            or `.numpy()`.

        Raises:
            GraphMissingError: the model has no such graph.
            InputError: another type, or tensors that do not fit the graph or each other.
            InferenceError: onnxruntime refused the inputs.
        """
        return self.session.run_on_device(graph, tensors)

    def prove(self, graph: str) -> Placement:
        """Measure where a graph's operators run, in profiled runs of a second; also on the CPU.

        Raises:
            GraphMissingError: the model has no such graph.
            ProviderError: it does not run on the requested provider.
        """
        return self.session.prove(graph)

    def profile(self, graph: str, runs: int, **tensors: npt.NDArray[Any]) -> list[dict[str, Any]]:
        """Run a graph `runs` times in a separate session with profiling enabled.

        Returns:
            onnxruntime's events. Errors as for `run`.
        """
        return self.session.profile(graph, runs, tensors)
