"""`Windows` becomes views, slices and one concatenation; a convolution then is a MatMul."""

from __future__ import annotations

import onnx_ir as ir

from w2v_edge_export.graph_builder import GraphBuilder, replace_node
from w2v_edge_export.targets import Target
from w2v_edge_export.window import Window, is_windows


def lower_windows(model: ir.Model, _: Target) -> None:
    """Rewrite every `Windows` node."""
    for node in list(model.graph):
        if is_windows(node):
            x = node.inputs[0]
            assert x is not None
            g = GraphBuilder(prefix=f"{node.name}.")
            replace_node(node, g, Window.of(node).gather(g, x))
