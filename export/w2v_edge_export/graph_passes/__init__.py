"""The graph passes, in the order in which they run on every traced part.

Passes change how a graph is written. Only `quantize-weights` and `half-precision` change what it
computes, where an export asks for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

from w2v_edge_export.graph_passes.lower_attention import lower_attention
from w2v_edge_export.graph_passes.lower_convolution import lower_grouped_conv, lower_windows
from w2v_edge_export.targets import CONTRIB, Target

FOLD_LIMIT = 2048
"""Bytes: larger constants are not folded."""

Pass = Callable[[ir.Model, Target], None]


def residual_sums(model: ir.Model, target: Target) -> None:
    """Write every Add before a LayerNormalization as `Sum`, for onnxruntime on the CPU.

    onnxruntime fuses an Add with the LayerNormalization after it; its fused kernel for the CPU
    takes three times as long as the two. It leaves `Sum`, which computes the same, alone.
    """
    if CONTRIB not in target.domains:
        return
    for node in model.graph:
        if node.op_type == "Add" and any(
            user.op_type == "LayerNormalization" for user in node.outputs[0].consumers()
        ):
            node.op_type = "Sum"


def fold_constants(model: ir.Model, *, infer_shapes: bool = False) -> None:
    """Fold expressions of constants; weights, however small, keep their names.

    Args:
        model: the graph, changed in place.
        infer_shapes: infer the shape of each value on the way, so that shapes are constants too.
    """
    weights = {
        value
        for value in model.graph.initializers.values()
        # Numbers that sizes are computed with are initializers too, once they are folded.
        if not (infer_shapes and value.dtype == ir.DataType.INT64)
    }

    def should_fold(node: ir.Node) -> bool | None:
        return False if weights.intersection(node.inputs) else None

    onnxscript.optimizer.fold_constants(
        model,
        onnx_shape_inference=infer_shapes,
        input_size_limit=FOLD_LIMIT,
        output_size_limit=FOLD_LIMIT,
        should_fold=should_fold,
    )


def _strip_metadata(model: ir.Model, _: Target) -> None:
    """Drop the tracer's notes, which hold paths of the exporting machine."""
    common.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()


def _common(*passes: type[ir.passes.InPlacePass]) -> Pass:
    def run(model: ir.Model, _: Target) -> None:
        for kind in passes:
            kind()(model)

    return run


PASSES: dict[str, Pass | None] = {
    "quantize-weights": None,
    "lower-attention": lower_attention,
    "lower-windows": lower_windows,
    "lower-grouped-conv": lower_grouped_conv,
    "residual-sums": residual_sums,
    "half-precision": None,
    "fold-constants": lambda model, _: fold_constants(model),
    "share-subexpressions": _common(common.CommonSubexpressionEliminationPass),
    "drop-identities": _common(common.IdentityEliminationPass),
    "drop-unused": _common(common.RemoveUnusedNodesPass, common.RemoveUnusedOpsetsPass),
    "strip-metadata": _strip_metadata,
}
"""Passes by name, in order. Those without a function depend on the precision of an export."""

PrecisionPass = Callable[[ir.Model, str], None]
"""(model, name of the part): a pass that depends on the precision of an export."""


@dataclass(frozen=True)
class PassSizes:
    """Size of all parts together after a graph pass.

    Attributes:
        name: name of the pass; `trace` stands for the traced graphs, before any pass.
        nodes: number of nodes, subgraphs included.
        size: bytes of graphs and weights.
    """

    name: str
    nodes: int
    size: int


@dataclass
class PassRecorder:
    """Records the sizes of parts as the graph passes run, for `export --explain`."""

    sizes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, part: str, name: str, model: ir.Model) -> None:
        """Record the size of a part after the pass called `name`."""
        nodes = sum(1 for _ in model.graph.all_nodes())
        nodes += sum(len(function) for function in model.functions.values())
        weights = sum(
            x.const_value.nbytes for x in model.graph.initializers.values() if x.const_value
        )
        self.sizes.setdefault(name, {})[part] = nodes, weights + _graph_bytes(model)

    @property
    def rows(self) -> list[PassSizes]:
        """Sizes after each pass, in order."""
        return [
            PassSizes(name, sum(x for x, _ in parts.values()), sum(x for _, x in parts.values()))
            for name, parts in self.sizes.items()
        ]

    def steps(self) -> Iterator[tuple[PassSizes, PassSizes]]:
        """Yield the sizes before and after each pass; for the first, the same sizes twice."""
        rows = self.rows
        yield from pairwise(rows[:1] + rows)


def _graph_bytes(model: ir.Model) -> int:
    """Return the size of a graph's file without weights."""
    bare = model.clone()
    for value in bare.graph.initializers.values():
        value.const_value = None
    bare.graph.initializers.clear()
    return int(ir.to_proto(bare).ByteSize())


def run_passes(
    model: ir.Model,
    part: str,
    target: Target,
    precision: Mapping[str, PrecisionPass],
    recorder: PassRecorder | None = None,
) -> None:
    """Run all passes on one traced part, in place.

    Args:
        model: the traced part.
        part: its name.
        target: profile of the runtime that the graph is for.
        precision: the passes that depend on the precision, by name.
        recorder: records the size after each pass.
    """
    if recorder is not None:
        recorder.add(part, "trace", model)
    for name, run in PASSES.items():
        if run is not None:
            run(model, target)
        elif name in precision:
            precision[name](model, part)
        else:
            continue
        if recorder is not None:
            recorder.add(part, name, model)
