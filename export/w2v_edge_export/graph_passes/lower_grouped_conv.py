"""`GroupedConv` becomes a Conv, 2-D with a height of 1: onnxruntime is faster at that."""

from __future__ import annotations

import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN
from w2v_edge_export.graph_builder import GraphBuilder, replace_node
from w2v_edge_export.targets import Target


def lower_grouped_conv(model: ir.Model, _: Target) -> None:
    """Rewrite every `GroupedConv` node."""
    for node in list(model.graph):
        if (node.domain, node.op_type) == (DOMAIN, "GroupedConv"):
            g = GraphBuilder(prefix=f"{node.name}.")
            x, weight, bias = (value for value in node.inputs if value is not None)
            groups, padding = (node.attributes[key].as_int() for key in ("groups", "padding"))
            # (b, n, d) -> (b, d, 1, n) and back
            flat = g.op("Unsqueeze", g.op("Transpose", x, perm=[0, 2, 1]), [2])
            y = g.op("Conv", flat, weight, bias, group=groups, pads=[0, padding, 0, padding])
            replace_node(node, g, g.op("Transpose", g.op("Squeeze", y, [2]), perm=[0, 2, 1]))
