"""Residual sums before a layer norm are written `Sum`, for onnxruntime on the CPU.

onnxruntime fuses an Add with the LayerNormalization behind it; its fused kernel for the CPU takes
three times as long as the two it replaces. It leaves `Sum` alone, which computes the same.
"""

from __future__ import annotations

import onnx_ir as ir

from w2v_edge_export.targets import CONTRIB, Target


def residual_sums(model: ir.Model, target: Target) -> None:
    """Rewrite every Add that a LayerNormalization takes."""
    if CONTRIB not in target.domains:
        return
    for node in model.graph:
        if node.op_type == "Add" and any(
            user.op_type == "LayerNormalization" for user in node.outputs[0].consumers()
        ):
            node.op_type = "Sum"
