"""The gate of float32: every graph against the float64 reference of each utterance alone.

Where a value is beyond the usual tolerance, PyTorch is also run in float32 on the same audio: a
checkpoint that amplifies rounding does so in PyTorch too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from w2v_edge.agreement import MAX_ROUNDING, CodeAgreement, Deviation
from w2v_edge.bundle.golden import (
    check_golden,
    compare_encoder,
    compare_quantizer,
    compare_split,
    compare_tokenizer,
)
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.cases import ParityCase, more_frames, more_speech
from w2v_edge_export.gate import Gate
from w2v_edge_export.reference import EVALUATIONS, Rounding, Tensors, rounding_tensors
from w2v_edge_export.stages import Stages

MIN_CODES = 20_000
"""Codes to compare in float32, in the tokenizer and the quantizer together."""

THOROUGH_CODES = 40_000
"""The same for the thorough set, half of it in the tokenizer."""

MORE_SPEECH = 100
"""Most cases of further speech, or of further frames."""

FAR = 20.0
"""A deviation over float32's rounding error that further evaluations would not explain."""

FEWEST = 3
"""Evaluations before a deviation counts as that far: of two frames of mel energies, one may hit the
exact mean by chance."""

SPLIT_SECONDS = 8.0
"""`frontend`, `context` and `statistics` share all nodes with `encoder`; longer cases skip them."""


class ExactGate(Gate):
    """float32: every graph against the reference of each utterance alone."""

    def __init__(
        self,
        torch_model: SpeechModel,
        bundle: Model,
        *,
        thorough: bool,
        accept_ill_conditioned: bool,
    ) -> None:
        super().__init__(torch_model, bundle)
        self.thorough = thorough
        self.accept_ill_conditioned = accept_ill_conditioned
        self.codes_wanted = THOROUGH_CODES if thorough else MIN_CODES
        self._roundings: dict[ParityCase, tuple[int, list[Rounding]]] = {}

    def compare(self, cases: Sequence[ParityCase], stages: Stages) -> list[Deviation]:
        """Compare graph after graph, then the golden vectors, and more codes."""
        rows: list[Deviation] = []
        graphs = ["encoder", *(["tokenizer"] if self.tokenizes else []), "split"]
        # Graphs of fixed shapes are several files: each is run.
        limited = not self.bundle.manifest.shapes
        longest = SPLIT_SECONDS * self.bundle.manifest.sample_rate if limited else math.inf
        runs = [
            (graph, case)
            for graph in graphs
            for case in cases
            if graph != "split" or case.samples <= longest
        ]
        for i, (graph, case) in enumerate(runs):
            stages.step(f"{graph}, {case.name}", len(runs) + i, 2 * len(runs))
            rows += self._compare(graph, case)
        rows += check_golden(self.bundle)[0]
        return rows + (self._compare_more_codes(stages) if self.tokenizes else [])

    def _compare(self, graph: str, case: ParityCase) -> list[Deviation]:
        """Compare a graph; `split` stands for `statistics`, `frontend` and `context`."""
        expected = self.audio.expected(case, self.audio.references(case))
        rows, codes = self._run(graph, case, expected)
        strict = {(row.case, row.output) for row in rows if row.ok}
        measured, roundings = self._roundings.get(case, (0, [Rounding() for _ in case.utterances]))
        for evaluations in EVALUATIONS:
            if not any(_may_be_rounding(row, roundings, measured) for row in rows):
                break
            if evaluations > measured:
                more = self.audio.measure_rounding(case, range(measured, evaluations))
                for rounding, found in zip(roundings, more, strict=True):
                    rounding.add(found)
                measured = evaluations
                self._roundings[case] = measured, roundings
            rows, codes = self._run(graph, case, expected | rounding_tensors(roundings))
        self.codes.add(codes)
        return [x if (x.case, x.output) in strict else self._judged(x, roundings) for x in rows]

    def _run(
        self, graph: str, case: ParityCase, expected: Tensors
    ) -> tuple[list[Deviation], CodeAgreement]:
        bundle, codes, batch = self.bundle, CodeAgreement(), self.audio.batch(case)
        if graph == "encoder":
            rows = compare_encoder(bundle, batch, expected, case.name, codes)
        elif graph == "split":
            rows = compare_split(bundle, batch, expected, case.name)
        else:
            rows = compare_tokenizer(bundle, batch, expected, case.name, codes)
        if case.codes_only:
            frames = expected[self.torch_model.config.quantizer_input or "features"]
            rows += compare_quantizer(bundle, frames, expected, case.name, codes)
        return rows, codes

    def _judged(self, row: Deviation, roundings: Sequence[Rounding]) -> Deviation:
        """Refuse an output that is within its tolerance only because float32 says nothing."""
        largest = max(x.largest.get(row.output, 0.0) for x in roundings)
        std = float(self.audio.std.get(f"{row.output}_std", 1.0))
        if not row.ok or largest <= MAX_ROUNDING * std:
            return row
        if self.accept_ill_conditioned:
            self.accepted = True
            return row
        problem = f"no verdict: PyTorch's own float32 is off by {largest:.1e}, std {std:.1e}"
        return replace(row, problem=problem)

    def _compare_more_codes(self, stages: Stages) -> list[Deviation]:
        """Compare more codes until there are enough."""
        rows = []
        for i in range(MORE_SPEECH):
            if self.codes.compared >= self.codes_wanted:
                break
            name = f"more {'speech' if self.thorough else 'frames'} {i + 1}"
            stages.step(name, self.codes.compared, self.codes_wanted)
            if self.thorough:
                rows += self._compare("tokenizer", more_speech(self.audio, i, name))
            else:
                frames, expected = more_frames(self.audio, i)
                rows += compare_quantizer(self.bundle, frames, expected, name, self.codes)
        return rows


def _may_be_rounding(row: Deviation, roundings: Sequence[Rounding], measured: int) -> bool:
    """Whether an output differs by values alone, and not by far more than the rounding measured."""
    if row.ok or row.problem or row.output in {"frame_lengths", "context_lengths", "vectors"}:
        return False
    if row.output == "codes" or measured < FEWEST:
        return True
    largest = max(x.largest.get(row.output, np.inf) for x in roundings)
    return bool(row.worst < FAR * largest)
