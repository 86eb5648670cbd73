"""From a twin to an ONNX graph: torch.onnx.export with dynamo, named inputs and dynamic axes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx_ir as ir
import torch

from w2v_edge_export.deployable.part import Part


def trace(part: Part, opset: int) -> ir.Model:
    """Trace the twin of `part`; inputs and outputs carry the part's names."""
    axes = {name for dynamic in part.dynamic.values() for name in dynamic.values()}
    dims = {name: torch.export.Dim(name) for name in axes}
    shapes = {
        name: {axis: dims[dim] for axis, dim in part.dynamic.get(name, {}).items()}
        for name in part.inputs
    }
    with _quiet():
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
    assert program is not None
    return program.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own remarks off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
