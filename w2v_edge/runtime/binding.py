"""Runs graphs on tensors that stay where they are: on the device, from one graph to the next."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from w2v_edge.errors import InputError
from w2v_edge.providers import import_onnxruntime
from w2v_edge.runtime.graph_runner import GraphRunner, refused

CPU = 1
"""The CPU's number in DLPack."""


def run_on_device(runner: GraphRunner, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run a graph and leave its outputs on the provider's device.

    Args:
        runner: of the bundle.
        graph: its name.
        inputs: by name, each an `onnxruntime.OrtValue`, a numpy array, or anything else with
            `__dlpack__`; on the CPU, or on the provider's device, where they are not copied.

    Returns:
        An `onnxruntime.OrtValue` for each output: `.numpy()` copies it to the host, and it can be
        an input of the next graph.

    Raises:
        InputError: something that is none of these.
        InferenceError: onnxruntime refused the inputs.
    """
    ort = import_onnxruntime()
    session = runner.session(graph)
    # They hold the memory that the binding points at, until the run is over.
    values = {name: _as_ort_value(ort, name, tensor) for name, tensor in inputs.items()}
    device, number = runner.device(graph)
    binding = session.io_binding()
    try:
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in runner.output_names(graph):
            binding.bind_output(name, device, number)
    except Exception as error:
        raise refused(graph, error) from error
    binding.synchronize_inputs()
    runner.run_bound(graph, binding)
    binding.synchronize_outputs()
    return dict(zip(runner.output_names(graph), binding.get_outputs(), strict=True))


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
        if tensor.__dlpack_device__()[0] != CPU:
            raise InputError(
                f"{name}: found a tensor on a device, which onnxruntime {ort.__version__} does "
                "not take through DLPack; update onnxruntime, or give an onnxruntime.OrtValue"
            )
        tensor = np.from_dlpack(tensor)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor))
