"""Runs a bundle's graphs; each is hashed and opened when it is first needed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from w2v_edge.bundle_files import Bundle
from w2v_edge.errors import InferenceError, W2VEdgeError
from w2v_edge.providers import Execution, open_session

Tensors = dict[str, npt.NDArray[Any]]


class GraphRunner:
    """The sessions of one bundle. Safe to use from many threads at once."""

    def __init__(self, bundle: Bundle, execution: Execution) -> None:
        self.bundle = bundle
        self.execution = execution
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def placement(self) -> dict[str, list[str]]:
        """The execution providers of each graph opened so far, first choice first."""
        return {name: session.get_providers() for name, session in self._sessions.items()}

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        """Run a graph on named tensors; see `w2v_edge.bundle` for names and shapes.

        Raises:
            GraphMissingError: the bundle has no such graph.
            BundleIntegrityError: a file of it is missing or damaged.
            ProviderError: the provider asked for did not start.
            InferenceError: onnxruntime refused the inputs or ran out of memory.
        """
        session = self._session(graph)
        names = [output.name for output in self.bundle.manifest.graphs[graph].outputs]
        try:
            values = session.run(names, inputs)
        except Exception as error:
            raise InferenceError(f"graph {graph!r}: onnxruntime: {_line(error)}") from error
        return dict(zip(names, values, strict=True))

    def _session(self, graph: str) -> Any:
        with self._lock:
            if graph not in self._sessions:
                self._sessions[graph] = self._open(graph)
            return self._sessions[graph]

    def _open(self, graph: str) -> Any:
        """Open a graph, its weights being hashed meanwhile; it is not run before both are done."""
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(self.bundle.check_data, graph)
            try:
                session = open_session(self.bundle.path(f"{graph}.onnx"), self.execution)
            except W2VEdgeError:
                checked.result()
                raise
            except Exception as error:
                # A damaged file says more of the cause than what onnxruntime makes of it.
                checked.result()
                path = self.bundle.folder / f"{graph}.onnx"
                raise InferenceError(
                    f"{path}: onnxruntime could not open it: {_line(error)}"
                ) from error
            checked.result()
        return session


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
