"""What each graph pass does: nodes and bytes of all parts together, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import onnx_ir as ir


@dataclass(frozen=True)
class Row:
    """The parts after one pass.

    Attributes:
        name: of the pass; `trace` is what the tracer gave.
        nodes: those of loops and branches included.
        size: of the graphs and their weights, in bytes.
    """

    name: str
    nodes: int
    size: int


@dataclass
class Explanation:
    """Collects the sizes of the parts as the passes run; hand `add` to an export."""

    sizes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, part: str, name: str, model: ir.Model) -> None:
        """Note what a pass made of a part."""
        nodes = sum(1 for _ in model.graph.all_nodes())
        nodes += sum(len(function) for function in model.functions.values())
        weights = sum(
            x.const_value.nbytes for x in model.graph.initializers.values() if x.const_value
        )
        self.sizes.setdefault(name, {})[part] = nodes, weights + _graph_bytes(model)

    @property
    def rows(self) -> list[Row]:
        """One row a pass, in their order."""
        return [
            Row(name, sum(x for x, _ in parts.values()), sum(x for _, x in parts.values()))
            for name, parts in self.sizes.items()
        ]

    def steps(self) -> Iterator[tuple[Row, Row]]:
        """Yield each row with the one before it; the first with itself."""
        rows = self.rows
        yield from pairwise(rows[:1] + rows)


def _graph_bytes(model: ir.Model) -> int:
    """Return the size of the graph's file, its weights left out."""
    bare = model.clone()
    for value in bare.graph.initializers.values():
        value.const_value = None
    bare.graph.initializers.clear()
    return int(ir.to_proto(bare).ByteSize())
