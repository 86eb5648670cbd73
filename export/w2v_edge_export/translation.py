"""Two shortcuts through PyTorch's translation to ONNX, which save a third of a trace.

Both replace private functions of PyTorch while a part is traced. Where a version lacks them nothing
is replaced, and a trace only takes longer. A wrong graph would not pass the parity gate.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

INTERNAL = "torch.onnx._internal.exporter"
LOCK = threading.Lock()

DROPPED = frozenset({"aten._assert_scalar.default", "aten._assert_tensor_metadata.default"})
"""Checks, which the translation leaves out."""

AVOIDED = frozenset({"aten.flatten.using_ints"})
"""Operators whose own translation fails on empty batches; decomposed they do not."""


@contextlib.contextmanager
def shortcuts() -> Iterator[None]:
    """Build the registry of operators once, and decompose only programs that need it."""
    try:
        names = ("_registration", "_fx_passes", "_decomp")
        modules: list[Any] = [importlib.import_module(f"{INTERNAL}.{name}") for name in names]
        registration, passes, decompositions = modules
        registry_class = registration.ONNXRegistry
        translated = decompositions.get_onnx_implemented_overloads
        usual = registry_class.from_torchlib, passes.decompose_with_registry
    except (ImportError, AttributeError):
        yield
        return

    def decompose(program: ExportedProgram, registry: Any) -> ExportedProgram:
        rename(program.graph)
        known = set(translated(registry))
        called = {x for x in operators(program.graph) if str(x) not in DROPPED}
        if called <= known and not AVOIDED & set(map(str, called)):
            return program
        decomposed: ExportedProgram = usual[1](program, registry)
        return decomposed

    with LOCK:
        registry_class.from_torchlib = staticmethod(_once(usual[0]))
        passes.decompose_with_registry = decompose
        try:
            yield
        finally:
            registry_class.from_torchlib, passes.decompose_with_registry = usual


def rename(graph: fx.Graph) -> None:
    """Replace operators without a translation by equal ones that have it."""
    aten = torch.ops.aten
    for node in graph.nodes:
        if node.target == aten.__and__.Tensor:
            node.target = aten.bitwise_and.Tensor
        elif node.target == aten.to.dtype and len(node.args) == 2 and not node.kwargs:  # noqa: PLR2004
            node.target = getattr(aten, "_to_copy").default  # noqa: B009 - as PyTorch names it
            node.args, node.kwargs = node.args[:1], {"dtype": node.args[1]}


def operators(graph: fx.Graph) -> set[Any]:
    """Return PyTorch's operators in a graph; arithmetic of sizes is Python's."""
    called = {node.target for node in graph.nodes if node.op == "call_function"}
    return {x for x in called if type(x).__module__ == "torch._ops"}


@cache
def _once(build: Callable[[], Any]) -> Callable[[], Any]:
    return cache(build)
