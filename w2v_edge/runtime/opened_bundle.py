"""A bundle that is open: what it says of itself, and its graphs, run by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Manifest
from w2v_edge.bundle_files import Bundle
from w2v_edge.providers import Placement
from w2v_edge.runtime.binding import run_on_device
from w2v_edge.runtime.frame_times import FrameTimes
from w2v_edge.runtime.graph_runner import GraphRunner, Tensors
from w2v_edge.runtime.inputs import check_inputs


class OpenedBundle:
    """What all models have: a manifest, graphs, and frames that lie in time."""

    def __init__(self, runner: GraphRunner) -> None:
        self._runner = runner

    @property
    def bundle(self) -> Bundle:
        """The bundle on disk."""
        return self._runner.bundle

    @property
    def manifest(self) -> Manifest:
        """The bundle's description of itself."""
        return self._runner.bundle.manifest

    @property
    def sample_rate(self) -> int:
        """Hz that the model takes."""
        return self.manifest.sample_rate

    @property
    def provider(self) -> str:
        """The execution provider that was asked for."""
        return self._runner.execution.provider

    @property
    def threads(self) -> int:
        """Threads that one operator may use."""
        return self._runner.execution.threads

    @property
    def placement(self) -> dict[str, Placement]:
        """Where each graph opened so far runs."""
        return self._runner.placement

    def prepare(self, graph: str) -> None:
        """Open a graph now rather than when it is first used.

        Raises:
            GraphMissingError: the model has no such graph.
            BundleIntegrityError: a file of it is missing or damaged.
            ProviderError: it does not run on the provider asked for.
        """
        self._runner.session(graph)

    def run(self, graph: str, **tensors: npt.NDArray[Any]) -> Tensors:
        """Run one graph on padded batches, by the tensor names in `w2v_edge.bundle`.

        Raises:
            GraphMissingError: the model has no such graph.
            InputError: tensors are missing, or do not belong together.
            InferenceError: onnxruntime refused the inputs.
        """
        info = self.manifest.graphs.get(graph)
        # A graph that is not there has an error of its own.
        if info is not None:
            check_inputs(graph, info.inputs, tensors)
        return self._runner.run(graph, tensors)

    def run_on_device(self, graph: str, **tensors: Any) -> dict[str, Any]:
        """Run one graph as `run` does, and leave its outputs on the provider's device.

        Args:
            graph: its name.
            tensors: by name, each an `onnxruntime.OrtValue`, a numpy array, or anything else with
                `__dlpack__`, such as a torch tensor.

        Returns:
            An `onnxruntime.OrtValue` for each output: an input for the next graph, uncopied, or
            `.numpy()`.

        Raises:
            GraphMissingError: the model has no such graph.
            InputError: something that is none of these.
            InferenceError: onnxruntime refused the inputs.
        """
        return run_on_device(self._runner, graph, tensors)

    def prove(self, graph: str) -> Placement:
        """Measure where a graph's operators run, in a short profiled run; also on the CPU.

        Raises:
            GraphMissingError: the model has no such graph.
            ProviderError: it does not run on the provider asked for.
        """
        return self._runner.prove(graph)

    def profile(self, graph: str, runs: int, **tensors: npt.NDArray[Any]) -> list[dict[str, Any]]:
        """Run one graph so often in a profiled session of its own; return onnxruntime's events.

        Errors as for `run`.
        """
        return self._runner.profile(graph, runs, tensors)

    def times(self, frames: int) -> npt.NDArray[np.float64]:
        """Return the middle of what each frame sees, (frames,) seconds."""
        return self._frame_times.of_features(frames)

    def context_times(self, frames: int) -> npt.NDArray[np.float64]:
        """Return the same for frames of the context and of logits.

        They are fewer than those of features where the context network ends in strided
        convolutions.
        """
        return self._frame_times.of_context(frames)

    @property
    def context_frame_seconds(self) -> float:
        """Seconds from one frame of the context and of logits to the next."""
        return self._frame_times.context_seconds

    @property
    def _frame_times(self) -> FrameTimes:
        return FrameTimes.of_manifest(self.manifest)
