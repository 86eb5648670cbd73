"""The graph passes, in the order in which they run on every traced part.

Each changes how a graph is written; only `quantize-weights` and `half-precision` change what it
computes, where an export asks for that. Those of kept libraries are named here; one of our own has
a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

from w2v_edge_export.graph_passes.lower_attention import lower_attention
from w2v_edge_export.graph_passes.lower_grouped_conv import lower_grouped_conv
from w2v_edge_export.graph_passes.lower_windows import lower_windows
from w2v_edge_export.graph_passes.residual_sums import residual_sums
from w2v_edge_export.targets import Target

FOLD_LIMIT = 2048
"""Bytes: constants up to this size are computed ahead."""


Pass = Callable[[ir.Model, Target], None]


def _fold_constants(model: ir.Model, _: Target) -> None:
    """Compute ahead what depends on constants only; weights, however small, keep their names."""
    weights = set(model.graph.initializers.values())

    def should_fold(node: ir.Node) -> bool | None:
        return False if weights.intersection(node.inputs) else None

    onnxscript.optimizer.fold_constants(
        model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT, should_fold=should_fold
    )


def _strip_metadata(model: ir.Model, _: Target) -> None:
    """Drop the tracer's notes: they carry paths of the machine that exported."""
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
    "fold-constants": _fold_constants,
    "share-subexpressions": _common(common.CommonSubexpressionEliminationPass),
    "drop-identities": _common(common.IdentityEliminationPass),
    "drop-unused": _common(common.RemoveUnusedNodesPass, common.RemoveUnusedOpsetsPass),
    "strip-metadata": _strip_metadata,
}
"""In their order. Those without a function here depend on what an export asks for."""

PrecisionPass = Callable[[ir.Model, str], None]
"""(model, name of the part): the function of a pass that an export brings along."""

Observer = Callable[[str, ir.Model], None]
"""Hears the name of each pass after it ran, and what it made of the part."""


def run_passes(
    model: ir.Model,
    part: str,
    target: Target,
    precision: Mapping[str, PrecisionPass],
    observer: Observer = lambda *_: None,
) -> None:
    """Run all passes on one part, in place; those of `precision` where it has them."""
    for name, run in PASSES.items():
        if run is not None:
            run(model, target)
        elif name in precision:
            precision[name](model, part)
        else:
            continue
        observer(name, model)
