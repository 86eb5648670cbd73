"""Tracing of an inference twin by torch.onnx.export (dynamo): named inputs, dynamic axes."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
import torch
from torch import Tensor, nn

from w2v_edge_export.graph_builder import known
from w2v_edge_export.translation import shortcuts


@dataclass(frozen=True)
class Part:
    """An inference twin with example inputs for the tracer.

    Attributes:
        name: of the part; names of its weights begin with it.
        module: the twin.
        inputs: an example of each input, by its name in the graph.
        dynamic: names of the dynamic axes of each input.
        outputs: names of the outputs, in order.
        multiples: (factor, extra) of an axis that is a whole number of `factor`, and `extra` more:
            lengths derived from it then stay linear, and cost the tracer half as much.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    multiples: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def trace(part: Part, opset: int) -> ir.Model:
    """Trace a part to a graph with the names of its inputs and outputs.

    Args:
        part: the twin and its example inputs.
        opset: version of ai.onnx.
    """
    axes = {name for dynamic in part.dynamic.values() for name in dynamic.values()}
    dims = {name: _dim(name, *part.multiples.get(name, (1, 0))) for name in axes}
    shapes = {
        name: {axis: dims[dim] for axis, dim in part.dynamic.get(name, {}).items()}
        for name in part.inputs
    }
    with _quiet(), shortcuts():
        program = torch.onnx.export(
            part.module.eval(),
            kwargs=dict(part.inputs),
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_shapes=shapes,
            opset_version=opset,
            dynamo=True,
            optimize=False,
            external_data=False,
            verbose=False,
        )
    return known(program).model


def _dim(name: str, factor: int, extra: int) -> torch.export.Dim:
    root = torch.export.Dim(name)
    return root if (factor, extra) == (1, 0) else factor * root + extra


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence loggers and warnings of PyTorch's exporter; nothing it does writes to stdout."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
