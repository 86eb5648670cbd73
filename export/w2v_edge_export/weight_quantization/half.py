"""Products in fp16 for GPUs and NPUs; norms, softmax and residual sums stay in float32.

fp16 ends at 65504. A norm may hide an overflow from the outputs, so that the range of every value
in fp16 is measured on speech in the float32 graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from w2v_edge_export.graph_builder import GraphBuilder, known

LARGEST = 65504.0

MOVES = frozenset("Reshape Slice Transpose Unsqueeze Squeeze Split Expand".split())
"""Operators whose first input alone is data."""

FOLLOWS = frozenset(("MatMul", "Add", "Mul", "Gelu", "Concat", *MOVES))
"""Operators in fp16 where an input is."""

HALF_PARTS = ("frontend", "context")

FLOAT_WEIGHTS = ("conv.0.weight", "head.")
"""Prefixes of weights in float32: a waveform may be too quiet for fp16, logits decide on labels."""


class HalfPrecision:
    """Graph pass that turns products and the operators after them into fp16.

    Attributes:
        values: names of the values in fp16, by part.
        weights: largest magnitude of each weight in fp16.
    """

    def __init__(self) -> None:
        self.values: dict[str, set[str]] = {}
        self.weights: dict[str, float] = {}

    def __call__(self, model: ir.Model, part: str) -> None:
        """Rewrite one lowered part in place."""
        if part in HALF_PARTS:
            rewrite = _Rewrite(model.graph)
            self.values[part] = rewrite.run()
            self.weights |= {f"{part}.{name}": x for name, x in rewrite.largest.items()}


class _Rewrite:
    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.halves: set[ir.Value] = set()
        self.largest: dict[str, float] = {}
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> set[str]:
        for node in list(self.graph):
            if self._becomes_half(node):
                self._feed(node, ir.DataType.FLOAT16)
                for output in node.outputs:
                    output.type = ir.TensorType(ir.DataType.FLOAT16)
                    self.halves.add(output)
            else:
                self._feed(node, ir.DataType.FLOAT)
        for i, output in enumerate(self.graph.outputs):
            if output in self.halves:
                self.graph.outputs[i] = self._cast(output, ir.DataType.FLOAT, None)
        cast = {x for x, kind in self.casts if kind == ir.DataType.FLOAT16}
        return {
            str(x.name)
            for x in self.halves | cast
            if (source := x.producer()) is not None and source.op_type not in MOVES
        }

    def _becomes_half(self, node: ir.Node) -> bool:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        weighted = weight is not None and weight.is_initializer()
        if node.op_type in {"MatMul", "Conv"} and weight is not None and weighted:
            # Products in float64 are there for their precision.
            exact = weight.dtype == ir.DataType.DOUBLE
            return not exact and not str(weight.name).startswith(FLOAT_WEIGHTS)
        if node.op_type not in FOLLOWS or self.halves.isdisjoint(node.inputs):
            return False
        # A sum of two activations is the residual stream, or the bias that hides padding.
        return node.op_type != "Add" or weighted

    def _feed(self, node: ir.Node, kind: ir.DataType) -> None:
        """Give a node inputs of one type; integers and shapes are left alone."""
        data = node.inputs[:1] if node.op_type in MOVES else node.inputs
        for i, value in enumerate(data):
            if value is None:
                continue
            if kind == ir.DataType.FLOAT and value in self.halves:
                node.replace_input_with(i, self._cast(value, kind, node))
            elif kind == ir.DataType.FLOAT16 and value not in self.halves:
                node.replace_input_with(i, self._halved(value, node))

    def _halved(self, value: ir.Value, before: ir.Node) -> ir.Value:
        if not value.is_initializer():
            return self._cast(value, ir.DataType.FLOAT16, before)
        key = (value, ir.DataType.FLOAT16)
        if key not in self.casts:
            exact = known(value.const_value).numpy()
            self.largest[str(value.name)] = float(np.abs(exact).max(initial=0.0))
            with np.errstate(over="ignore"):
                array = exact.astype(np.float16)
            name = f"{value.name}.fp16"
            tensor = ir.tensor(array, name=name)
            half = ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(ir.DataType.FLOAT16),
                const_value=tensor,
            )
            self.graph.register_initializer(half)
            self.casts[key] = half
        return self.casts[key]

    def _cast(self, value: ir.Value, kind: ir.DataType, before: ir.Node | None) -> ir.Value:
        if (value, kind) not in self.casts:
            g = GraphBuilder(prefix=f"{value.name}.{kind.name.lower()}.")
            made = g.op("Cast", value, to=kind)
            made.type, made.shape = ir.TensorType(kind), value.shape
            if before is None:
                self.graph.extend(g.nodes)
            else:
                self.graph.insert_before(before, g.nodes)
            self.casts[value, kind] = made
        return self.casts[value, kind]


def exposed(graph: ir.Model, values: Mapping[str, set[str]]) -> list[str]:
    """Make values of an assembled float32 graph its outputs; return their names."""
    wanted = {f"{part}.{name}" for part, names in values.items() for name in names}
    found = []
    for node in graph.graph:
        for output in node.outputs:
            if output.name in wanted:
                output.type = ir.TensorType(ir.DataType.FLOAT)
                graph.graph.outputs.append(output)
                found.append(str(output.name))
    return found


def overflowing(ranges: Mapping[str, float]) -> list[str]:
    """Return one line for each value that fp16 cannot hold, the largest first."""
    beyond = sorted(((x, name) for name, x in ranges.items() if not x <= LARGEST), reverse=True)
    return [f"{name} reaches {value:.3g}, fp16 ends at {LARGEST:g}" for value, name in beyond]
