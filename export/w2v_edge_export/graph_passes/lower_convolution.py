"""Passes that write the convolutions of a traced part as standard operators."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN
from w2v_edge_export.graph_builder import GraphBuilder, known, replace_node, static_channels
from w2v_edge_export.targets import Target

END = 2**63 - 1
"""The end of an axis, for `Slice`."""


@dataclass(frozen=True)
class WindowShape:
    """Shape of a `Windows` node: each step sees `shifts` neighbouring blocks of `stride` frames.

    Attributes:
        kernel: frames in a window.
        stride: frames from one window to the next.
        channels: channels of a frame.
    """

    kernel: int
    stride: int
    channels: int

    @classmethod
    def of(cls, node: ir.Node) -> WindowShape:
        """Read the shape from a `Windows` node."""
        kernel, stride = (node.attributes[name].as_int() for name in ("kernel", "stride"))
        return cls(kernel, stride, static_channels(known(node.inputs[0])))

    @property
    def shifts(self) -> int:
        """Number of blocks in a window; the last one may be used in part."""
        return -(-self.kernel // self.stride)

    @property
    def is_identity(self) -> bool:
        """Whether each window is one frame and every frame is a window."""
        return self.kernel == self.stride == 1

    def gather(self, g: GraphBuilder, x: ir.Value) -> ir.Value:
        """Concatenate the frames of each window of x (b, n, c): (b, m, kernel * c)."""
        blocks = self.blocks(g, x)
        seen = [self.take(g, blocks, shift) for shift in range(self.shifts)]
        return g.op("Concat", *seen, axis=2) if len(seen) > 1 else seen[0]

    def blocks(self, g: GraphBuilder, x: ir.Value) -> ir.Value:
        """View x (b, n, c) as blocks (b, n / stride, stride * c)."""
        return g.op("Reshape", x, [0, -1, self.stride * self.channels])

    def take(self, g: GraphBuilder, blocks: ir.Value, shift: int) -> ir.Value:
        """Slice block number `shift` of every window from blocks (b, n / stride, stride * c)."""
        last = self.shifts - 1
        width = min(self.stride, self.kernel - shift * self.stride) * self.channels
        if last == 0 and self.kernel == self.stride:
            return blocks
        end = END if shift == last else shift - last
        return g.op("Slice", blocks, [shift, 0], [end, width], [1, 2])


def is_windows(node: ir.Node | None) -> bool:
    """Return whether a node is a `Windows` node."""
    return node is not None and (node.domain, node.op_type) == (DOMAIN, "Windows")


def lower_windows(model: ir.Model, _: Target) -> None:
    """Write every `Windows` node as views, slices and a concatenation, for a MatMul to follow."""
    for node in list(model.graph):
        if is_windows(node):
            g = GraphBuilder(prefix=f"{node.name}.")
            replace_node(node, g, WindowShape.of(node).gather(g, known(node.inputs[0])))


def lower_grouped_conv(model: ir.Model, _: Target) -> None:
    """Write every `GroupedConv` node as a 2-D Conv of height 1, which onnxruntime runs faster."""
    for node in list(model.graph):
        if (node.domain, node.op_type) == (DOMAIN, "GroupedConv"):
            g = GraphBuilder(prefix=f"{node.name}.")
            x, weight, bias = (known(value) for value in node.inputs)
            groups, padding = (node.attributes[key].as_int() for key in ("groups", "padding"))
            # (b, n, d) -> (b, d, 1, n) and back
            flat = g.op("Unsqueeze", g.op("Transpose", x, perm=[0, 2, 1]), [2])
            y = g.op("Conv", flat, weight, bias, group=groups, pads=[0, padding, 0, padding])
            replace_node(node, g, g.op("Transpose", g.op("Squeeze", y, [2]), perm=[0, 2, 1]))
