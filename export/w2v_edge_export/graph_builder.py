"""Writes ONNX graphs: single nodes, traced parts spliced in, and loops over tiles of time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge.errors import W2VEdgeError

Operand = ir.Value | int | Sequence[int]

T = TypeVar("T")


class ExportError(W2VEdgeError, RuntimeError):
    """A graph violates an invariant of the exporter or of its target."""


def known(value: T | None) -> T:
    """Return a value that is optional in ONNX and present in every graph of the exporter.

    Raises:
        ExportError: the value is absent.
    """
    if value is None:
        raise ExportError("found a node without an input, a shape or a weight that it needs")
    return value


def static_channels(x: ir.Value) -> int:
    """Return d of x (b, n, d). It is never inferred by a `Reshape`, because n may be 0.

    Raises:
        ExportError: the axis is dynamic.
    """
    dim = known(x.shape)[2]
    if not isinstance(dim, int):
        raise ExportError(f"{x.name}: found {dim} channels, expected a fixed number")
    return dim


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Add a weight to a graph."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


class GraphBuilder:
    """Collects the nodes and initializers of one graph, or of a loop's body within it.

    Attributes:
        nodes: nodes so far, in order.
        initializers: weights by name, shared with the graph around.
        missing_rows: [1] 1 for an empty batch, else 0; see `GraphAssembler`.
    """

    def __init__(self, outer: GraphBuilder | None = None, *, prefix: str = "") -> None:
        self.prefix: str = outer.prefix if outer else prefix
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = outer.initializers if outer else {}
        self.count: itertools.count[int] = outer.count if outer else itertools.count()
        self.missing_rows: ir.Value | None = outer.missing_rows if outer else None

    def op(self, op_type: str, *inputs: Operand | None, **attributes: object) -> ir.Value:
        """Append a node with one output; numbers and lists become int64 constants.

        An `op_type` of another domain is written `domain::type`.
        """
        return self.node(op_type, inputs, attributes, outputs=1)[0]

    def node(
        self,
        op_type: str,
        inputs: Sequence[Operand | None],
        attributes: Mapping[str, object],
        *,
        outputs: int,
    ) -> Sequence[ir.Value]:
        """Append a node with any number of outputs."""
        values = [x if x is None or isinstance(x, ir.Value) else self.constant(x) for x in inputs]
        domain, _, kind = op_type.rpartition("::")
        name = f"{self.prefix}{kind.lower()}_{next(self.count)}"
        node = ir.Node(
            domain,
            kind,
            values,
            ir.convenience.convert_attributes(dict(attributes)),  # type: ignore[arg-type]
            num_outputs=outputs,
            name=name,
        )
        for i, output in enumerate(node.outputs):
            output.name = f"{name}.{i}"
        self.nodes.append(node)
        return node.outputs

    def constant(self, value: int | Sequence[int]) -> ir.Value:
        """Append an int64 constant, a scalar or a list."""
        return self.op("Constant", value=ir.tensor(np.array(value, dtype=np.int64)))

    def floats(self, value: float) -> ir.Value:
        """Append a float32 constant, a scalar."""
        return self.op("Constant", value=ir.tensor(np.array(value, dtype=np.float32)))

    def bytes(self, value: int) -> ir.Value:
        """Append a uint8 constant, a scalar."""
        return self.op("Constant", value=ir.tensor(np.array(value, dtype=np.uint8)))

    def branch(self, condition: ir.Value, then: Branch, otherwise: Branch) -> ir.Value:
        """Append an `If`; each branch sees the graph around it and gives one value."""
        bodies = []
        for body in (then, otherwise):
            inner = GraphBuilder(self)
            output = body(inner)
            bodies.append(ir.Graph([], [output], nodes=inner.nodes, name=f"branch_{output.name}"))
        return self.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    def splice(
        self,
        part: ir.Model,
        prefix: str,
        inputs: Mapping[str, ir.Value],
        outputs: Sequence[str],
    ) -> dict[str, ir.Value]:
        """Copy a traced part into the graph, with `prefix` before all its names.

        Args:
            part: the part; it is not changed.
            prefix: name of the part.
            inputs: values for its inputs, by name.
            outputs: names for its outputs, in order; passes may have renamed or merged them.
        """
        graph = part.graph.clone()
        made = dict(zip(outputs, graph.outputs, strict=True))
        for value in graph.inputs:
            if value.uses():
                ir.convenience.replace_all_uses_with(value, inputs[str(value.name)])
        for name in list(graph.initializers):
            self._adopt(graph.initializers.pop(name), f"{prefix}.{name}")
        nodes = list(graph)
        graph.outputs.clear()
        graph.remove(nodes, safe=False)
        for node in walk(nodes):
            node.name = f"{prefix}.{node.name}"
            for output in node.outputs:
                output.name = f"{prefix}.{output.name}"
                output.shape = _renamed(output.shape, prefix)
        self.nodes.extend(nodes)
        return made

    def _adopt(self, value: ir.Value, name: str) -> None:
        if name in self.initializers:
            ir.convenience.replace_all_uses_with(value, self.initializers[name])
            return
        value.name = name
        self.initializers[name] = value


def _renamed(shape: ir.Shape | None, prefix: str) -> ir.Shape | None:
    """Rename length axes, which differ between parts: axes of one name may share memory."""
    if shape is None:
        return None
    return ir.Shape(
        [x if isinstance(x, int) or x.value is None else f"{prefix}.{x.value}" for x in shape]
    )


Branch = Callable[[GraphBuilder], ir.Value]


def walk(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    """Yield nodes and the nodes of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from walk(attribute.as_graph())


def replace_node(node: ir.Node, g: GraphBuilder, value: ir.Value) -> None:
    """Replace a node with one output by the nodes of `g`; `value` replaces its output."""
    old = node.outputs[0]
    value.type, value.shape = old.type, old.shape
    ir.convenience.replace_nodes_and_values(
        known(node.graph), node, [node], g.nodes, [old], [value]
    )


@dataclass(frozen=True)
class TilePlan:
    """Tiles of a waveform.

    Attributes:
        hop: samples from one step to the next.
        overlap: samples of a tile beyond the hops of its steps.
        left_padding: zeros before the first sample.
        max_steps: maximum number of steps in a tile; None for a single tile.
    """

    hop: int
    overlap: int
    left_padding: int
    max_steps: int | None


TileBody = Callable[[GraphBuilder, ir.Value, ir.Value, Sequence[ir.Value]], Sequence[ir.Value]]
"""(builder, tile (b, s), first step (), states) -> the new states, then a stacked (b, n, d)."""


def over_tiles(
    g: GraphBuilder,
    waveform: ir.Value,
    steps: ir.Value,
    plan: TilePlan,
    body: TileBody,
    *,
    states: Sequence[ir.Value] = (),
) -> Sequence[ir.Value]:
    """Run `body` over all tiles of `waveform` (b, t), which has `steps` () steps.

    Tiles have equal lengths, so that little is computed past the end. At least one is run. An empty
    batch is run as one row of zeros.

    Returns:
        The final states, then the stacked output, if any, (b, steps, d).
    """
    limit = steps if plan.max_steps is None else plan.max_steps
    tiles = at_least(g, ceil_div(g, steps, at_least(g, limit, 1)), 1)
    tile_steps = at_least(g, ceil_div(g, steps, tiles), 1)
    tile_samples = _scaled(g, tile_steps, plan.hop, plan.overlap)
    padded = _pad(g, waveform, tiles, tile_steps, plan)

    def run(inner: GraphBuilder, tile: ir.Value, state: Sequence[ir.Value]) -> Sequence[ir.Value]:
        first = inner.op("Mul", tile, tile_steps)
        begin = _scaled(inner, first, plan.hop)
        end = inner.op("Add", begin, tile_samples)
        bounds = [inner.op("Reshape", x, [1]) for x in (begin, end)]
        return body(inner, inner.op("Slice", padded, *bounds, [1]), first, state)

    if plan.max_steps is None:
        results = run(g, g.constant(0), states)
        stacked = list(results[len(states) :])
    else:
        results = _scan(g, tiles, run, states)
        # (b, tiles, n, d) -> (b, tiles * n, d)
        stacked = [
            g.op("Reshape", x, g.op("Concat", [0, -1], g.op("Shape", x, start=3), axis=0))
            for x in results[len(states) :]
        ]
    end = g.op("Reshape", steps, [1])
    return [*results[: len(states)], *(g.op("Slice", x, [0], end, [1]) for x in stacked)]


def _scan(
    g: GraphBuilder,
    tiles: ir.Value,
    run: Callable[[GraphBuilder, ir.Value, Sequence[ir.Value]], Sequence[ir.Value]],
    states: Sequence[ir.Value],
) -> Sequence[ir.Value]:
    """Loop over tile numbers; weights and the waveform are seen from the graph around."""
    inner = GraphBuilder(g)
    tile = ir.val(f"tile_{next(g.count)}", ir.DataType.INT64, [])
    state_inputs = [ir.Value(name=f"{s.name}.state", type=s.type, shape=s.shape) for s in states]
    outputs = list(run(inner, tile, state_inputs))
    stacked = len(outputs) - len(states)
    graph = ir.Graph([*state_inputs, tile], outputs, nodes=inner.nodes, name="tile")
    attributes: dict[str, object] = {"body": graph, "num_scan_inputs": 1}
    if stacked:
        attributes["scan_output_axes"] = [1] * stacked
    numbers = g.op("Range", 0, tiles, 1)
    return g.node("Scan", [*states, numbers], attributes, outputs=len(outputs))


def _pad(
    g: GraphBuilder, waveform: ir.Value, tiles: ir.Value, tile_steps: ir.Value, plan: TilePlan
) -> ir.Value:
    """Pad with the zeros that the first and last tile see, and with a row for an empty batch."""
    extra = plan.overlap - plan.left_padding
    span = _scaled(g, g.op("Mul", tiles, tile_steps), plan.hop, extra)
    right = g.op("Sub", span, size(g, waveform, 1))
    right = g.op("Reshape", at_least(g, right, 0), [1])
    rows = known(g.missing_rows)
    return g.op("Pad", waveform, g.op("Concat", [0, plan.left_padding], rows, right, axis=0))


def _scaled(g: GraphBuilder, value: ir.Value, factor: int, extra: int = 0) -> ir.Value:
    """Return value * factor + extra, with no node for a factor of 1 or for adding 0.

    onnxruntime removes such nodes, and warns if a loop's body reads both ends of one.
    """
    scaled = value if factor == 1 else g.op("Mul", value, factor)
    return g.op("Add", scaled, extra) if extra else scaled


def size(g: GraphBuilder, value: ir.Value, axis: int) -> ir.Value:
    """Return the length of an axis as a scalar."""
    return g.op("Reshape", g.op("Shape", value, start=axis, end=axis + 1), g.constant([]))


def at_least(g: GraphBuilder, value: Operand, bound: int) -> ir.Value:
    """Return max(value, bound)."""
    return g.op("Max", value, bound)


def ceil_div(g: GraphBuilder, value: Operand, by: Operand) -> ir.Value:
    """Return ceil(value / by) of integers, value >= 0 and by > 0."""
    return g.op("Div", g.op("Sub", g.op("Add", value, by), 1), by)
