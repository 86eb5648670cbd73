"""The shape of a `Windows` node, and what takes windows apart in a graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from w2v_edge_export.deployable.ops import DOMAIN
from w2v_edge_export.graph_builder import GraphBuilder

END = 2**63 - 1
"""The end of an axis, to `Slice`."""


@dataclass(frozen=True)
class Window:
    """The shape of a `Windows` node: a step sees `shifts` neighbouring blocks of `stride` frames.

    Attributes:
        kernel, stride: in frames.
        channels: of a frame.
    """

    kernel: int
    stride: int
    channels: int

    @classmethod
    def of(cls, node: ir.Node) -> Window:
        """Read the shape off a `Windows` node."""
        x = node.inputs[0]
        assert x is not None
        assert x.shape is not None
        channels = x.shape[2]
        assert isinstance(channels, int)
        kernel, stride = (node.attributes[name].as_int() for name in ("kernel", "stride"))
        return cls(kernel, stride, channels)

    @property
    def shifts(self) -> int:
        """How many blocks a step sees, the last one perhaps in part."""
        return -(-self.kernel // self.stride)

    @property
    def is_identity(self) -> bool:
        """Whether each step sees one frame, and every frame is seen."""
        return self.kernel == self.stride == 1

    def gather(self, g: GraphBuilder, x: ir.Value) -> ir.Value:
        """Lay what each step sees of x (b, n, c) side by side: (b, m, kernel * c)."""
        blocks = self.blocks(g, x)
        seen = [self.take(g, blocks, shift) for shift in range(self.shifts)]
        return g.op("Concat", *seen, axis=2) if len(seen) > 1 else seen[0]

    def blocks(self, g: GraphBuilder, x: ir.Value) -> ir.Value:
        """View x (b, n, c) as blocks (b, n / stride, stride * c)."""
        return g.op("Reshape", x, [0, -1, self.stride * self.channels])

    def take(self, g: GraphBuilder, blocks: ir.Value, shift: int) -> ir.Value:
        """Take from (b, n / stride, stride * c) what each step sees of its block `shift`."""
        last = self.shifts - 1
        width = min(self.stride, self.kernel - shift * self.stride) * self.channels
        if last == 0 and self.kernel == self.stride:
            return blocks
        end = END if shift == last else shift - last
        return g.op("Slice", blocks, [shift, 0], [end, width], [1, 2])


def is_windows(node: ir.Node | None) -> bool:
    """Tell a `Windows` node."""
    return node is not None and (node.domain, node.op_type) == (DOMAIN, "Windows")
