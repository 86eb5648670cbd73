"""Graphs of fixed shapes: the axes of an assembled graph are bound, and what follows is folded."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from w2v_edge.bundle import FixedShape
from w2v_edge.bundle.shapes import LARGEST_BATCH, MOST_SHAPES, check_shapes
from w2v_edge.errors import ConfigError
from w2v_edge.model.config import ModelConfig
from w2v_edge_export.graph_builder import ExportError, known, walk
from w2v_edge_export.graph_passes import fold_constants

FEWEST_FIELDS = 3
"""Receptive fields in the largest shape: golden vectors need a few frames."""


def fixed_shapes(
    config: ModelConfig, samples: Sequence[int], batch: int, longest_seconds: float
) -> tuple[FixedShape, ...]:
    """Return the shapes of a model's graphs, the shortest first.

    Args:
        config: of the model.
        samples: of each shape; empty for open axes.
        batch: utterances in a batch.
        longest_seconds: longest full-attention length.

    Raises:
        ConfigError: too few or too many samples, or too large a batch.
    """
    if not samples:
        return ()
    geometry, sizes = config.geometry, sorted(set(samples))
    fewest = FEWEST_FIELDS * geometry.receptive_field
    most = min(round(longest_seconds * config.sample_rate), LARGEST_BATCH)
    if sizes[0] < geometry.min_samples or not fewest <= sizes[-1] <= most:
        raise ConfigError(
            f"--samples: expected at least {geometry.min_samples}, the largest from {fewest} to "
            f"{most}, found {', '.join(map(str, sizes))}"
        )
    if len(sizes) > MOST_SHAPES:
        raise ConfigError(f"--samples: expected at most {MOST_SHAPES} sizes, found {len(sizes)}")
    if not 1 <= batch <= LARGEST_BATCH // sizes[-1]:
        raise ConfigError(
            f"--batch: expected 1 to {LARGEST_BATCH // sizes[-1]} utterances of {sizes[-1]} "
            f"samples, found {batch}"
        )
    frames = [geometry.frames(x) for x in sizes]
    shapes = tuple(
        FixedShape(batch, x, n, config.context_frames(n))
        for x, n in zip(sizes, frames, strict=True)
    )
    check_shapes(shapes, geometry)
    return shapes


def fold_shapes(model: ir.Model) -> None:
    """Fold what depends on shapes alone, given the lengths of all axes of a graph's inputs.

    Raises:
        ExportError: a length is still open, or a node has a branch or a loop.
    """
    for node in model.graph:
        for value in node.outputs:
            # Names of the tracer's axes: the lengths are inferred anew.
            value.shape = None
    fold_constants(model, infer_shapes=True)
    for node in list(model.graph):
        if _takes_everything(node):
            ir.convenience.replace_all_uses_with(node.outputs[0], known(node.inputs[0]))
    common.CommonSubexpressionEliminationPass()(model)
    _drop_identities(model)
    common.RemoveUnusedNodesPass()(model)
    _check(model)


def _drop_identities(model: ir.Model) -> None:
    """Drop identities, but those between two outputs, such as the context and its last layer.

    The pass of onnx_ir makes one output of these.
    """
    for node in list(model.graph):
        if node.op_type != "Identity":
            continue
        value, output = known(node.inputs[0]), node.outputs[0]
        ends = output.is_graph_output()
        if ends and (value.is_graph_input() or value.is_initializer() or value.is_graph_output()):
            continue
        ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
        if ends:
            value.name, value.type, value.shape = output.name, output.type, output.shape
        model.graph.remove(node, safe=True)


def _takes_everything(node: ir.Node) -> bool:
    """Whether a node slices nothing off, or pads with nothing."""
    if node.op_type not in {"Slice", "Pad"} or node.outputs[0].is_graph_output():
        return False
    # The input of each that must be constant, and its neutral value: steps and pads.
    index, neutral = (4, 1) if node.op_type == "Slice" else (1, 0)
    if index < len(node.inputs):
        constant = ir.convenience.get_const_tensor(known(node.inputs[index]))
        if constant is None or (constant.numpy() != neutral).any():
            return False
    return known(node.inputs[0]).shape == node.outputs[0].shape


def _check(model: ir.Model) -> None:
    for node in walk(model.graph):
        if any(x.type == ir.AttributeType.GRAPH for x in node.attributes.values()):
            raise ExportError(f"{node.name}: found {node.op_type} in a graph of fixed shape")
        for value in node.outputs:
            if value.shape is None or not value.shape.is_static():
                raise ExportError(f"{value.name}: found shape {value.shape}, expected lengths")
