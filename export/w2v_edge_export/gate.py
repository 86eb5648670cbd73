"""What the gate of float32 and the gate of quantized weights share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from w2v_edge.agreement import CodeAgreement, Deviation
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.bundle_writer import FILES
from w2v_edge_export.cases import CaseAudio, ParityCase
from w2v_edge_export.reference import Tensors
from w2v_edge_export.stages import Stages


class Gate:
    """Compares a bundle with its PyTorch model: references first, then all cases.

    Attributes:
        audio: the case audio with its references.
        codes: the codes compared.
        codes_wanted: codes to compare; 0 for any number.
        accepted: whether an output passed on which float32 allows no verdict.
    """

    codes_wanted = 0
    accepted = False

    def __init__(self, torch_model: SpeechModel, bundle: Model) -> None:
        self.torch_model = torch_model
        self.bundle = _OneAtATime(bundle)
        self.codes = CodeAgreement()
        self.audio = CaseAudio(torch_model, bundle.manifest)
        self.tokenizes = "tokenizer" in bundle.manifest.graphs

    def prepare(self, case: ParityCase) -> None:
        """Compute the references of one case."""
        self.audio.references(case)

    def compare(self, cases: Sequence[ParityCase], stages: Stages) -> list[Deviation]:
        """Compare the outputs of all cases, with a step of `stages` for each run."""
        raise NotImplementedError


class _OneAtATime:
    """Runs graphs; of those with the context network's weights, one is open at a time."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.manifest = model.manifest
        self.bundle = model.bundle
        self.precision = model.precision
        self.half = model.half
        self._large = [
            name for name, graph in self.manifest.graphs.items() if FILES["context"] in graph.data
        ]

    def run(self, graph: str, **tensors: npt.NDArray[Any]) -> Tensors:
        """Run one graph on tensors by name."""
        if graph in self._large:
            for other in self._large:
                if other != graph:
                    self.model.session.release(other)
        return self.model.run(graph, **tensors)
