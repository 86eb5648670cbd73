"""The gate of quantized weights and of bf16: speech against PyTorch, batches against the bundle.

Speech keeps within the export's budgets; in a ragged batch each utterance is as it is alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.agreement import (
    Deviation,
    Measure,
    compare_lengths,
    compare_most_codes,
    without_close_calls,
)
from w2v_edge.bundle.golden import (
    check_golden,
    code_lengths,
    compare_all_lengths,
    compare_outputs_closely,
)
from w2v_edge.errors import BundleIntegrityError
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import Model
from w2v_edge_export.cases import ParityCase, more_frames, more_speech
from w2v_edge_export.gate import Gate
from w2v_edge_export.graph_builder import known
from w2v_edge_export.reference import Reference, Tensors, lengths_of
from w2v_edge_export.stages import Stages
from w2v_edge_export.weight_quantization.accuracy import AccuracyTotals

BATCH_TOLERANCES = {"cosine": 0.9999, "code_drift": 0.001}
"""Quantized weights, an utterance in a batch against itself alone: least cosine of a frame, and
share of codes and best labels that may differ."""

WIRING_COSINE = 0.8
"""Quantized weights, least cosine of outputs without a budget, at the worst decile: their noise
follows the context's, an output that is wired wrong is at random."""

VECTOR_TOLERANCE = 1e-3
"""Quantized weights, deviation of a code's vector, over the largest value of the codebook."""

SPEECH_FRAMES = 1_000
"""Frames of speech that budgets are measured on: short fixed shapes have fewer in their cases."""

OF_LABELS = {"label_drift": "max_label_change", "label_shift": "max_shift"}
"""Budgets of a CTC model's labels, by what they bound."""


class BudgetGate(Gate):
    """Quantized weights or bf16: speech against the reference, batches against the bundle."""

    def __init__(self, torch_model: SpeechModel, bundle: Model) -> None:
        super().__init__(torch_model, bundle)
        self.totals = AccuracyTotals(torch_model.config)
        self.graphs = ("encoder", "tokenizer") if self.tokenizes else ("encoder",)
        self._found: dict[tuple[str, ParityCase], Tensors] = {}
        stated = bundle.manifest.weight_quantization or {}
        try:
            self.min_cosine = float(stated["budgets"]["min_cosine"])
            self.max_drift = float(stated["budgets"]["max_code_drift"])
            self.of_labels = {
                name: float(stated["budgets"][budget])
                for name, budget in OF_LABELS.items()
                if stated["budgets"].get(budget) is not None
            }
        except (KeyError, TypeError, ValueError) as error:
            folder = bundle.bundle.folder
            raise BundleIntegrityError(
                f"{folder}: the manifest has no budgets; export again"
            ) from error

    def prepare(self, case: ParityCase) -> None:
        """Compute the references of speech; batches are compared with the bundle itself."""
        if case.is_speech:
            super().prepare(case)

    def compare(self, cases: Sequence[ParityCase], stages: Stages) -> list[Deviation]:
        """Compare all speech with the budgets, and every graph with the golden vectors."""
        wanted = [case for case in cases if case.is_batch or case.is_speech]
        runs = [(graph, case) for graph in self.graphs for case in wanted]
        for i, (graph, case) in enumerate(runs):
            stages.step(f"{graph}, {case.name}", len(runs) + i, 2 * len(runs))
            for each in (case, *_each_alone(case)):
                self._outputs(graph, each)
        rows = [row for case in cases for row in self._compare(case)]
        rows += self._add_more_speech(stages)
        self.codes = self.totals.code_agreement
        # `frontend`, `context` and `quantizer` are run here only.
        rows += self._compare_budgets() + self._compare_wiring() + check_golden(self.bundle)[0]
        return rows + (self._compare_vectors() if self.tokenizes else [])

    def _compare(self, case: ParityCase) -> list[Deviation]:
        if case.is_batch:
            return self._compare_batch(case)
        return self._add_speech(case) if case.is_speech else []

    def _add_speech(self, case: ParityCase) -> list[Deviation]:
        """Add speech to what the budgets are measured on."""
        found = self._run(case)
        expected = self.audio.reference_of(case.utterances[0])
        self.totals.add_values(found, expected)
        if "codes" in found:
            self.totals.add_codes(found["codes"], expected)
        frames = np.array([expected.frames])
        name = f"encoder {case.name}"
        return [compare_lengths(name, "frame_lengths", found["frame_lengths"], frames)]

    def _add_more_speech(self, stages: Stages) -> list[Deviation]:
        """Add further speech, until the worst decile and the share of codes are of many frames."""
        rows: list[Deviation] = []
        for i in itertools.count():
            frames = sum(map(len, self.totals.cosines["features"]))
            if frames >= SPEECH_FRAMES:
                break
            stages.step("more speech", frames, SPEECH_FRAMES)
            case = more_speech(self.audio, i, f"more speech {i + 1}")
            rows += self._add_speech(replace(case, codes_only=False))
        return [row for row in rows if not row.ok]

    def _compare_wiring(self) -> list[Deviation]:
        """Compare outputs without a budget with PyTorch's, by direction."""
        case = "encoder speech, each alone, worst decile"
        rows = []
        for name, cosine in sorted(self.totals.worst_cosines().items()):
            if name != "context":
                problem = "" if cosine >= WIRING_COSINE else "differs"
                allowed = 1 - WIRING_COSINE
                rows.append(Deviation(case, name, 1 - cosine, allowed, None, problem, "1 - cosine"))
        return rows

    def _compare_vectors(self) -> list[Deviation]:
        """Compare the vectors of the bundle's own codes with PyTorch's codebook."""
        frames, _ = more_frames(self.audio, 0)
        source = self.torch_model.config.quantizer_input or "features"
        found = self.bundle.run("quantizer", **{source: frames})
        codebook = known(self.torch_model.quantizer).codebook
        with torch.inference_mode():
            expected = codebook.lookup(torch.from_numpy(found["codes"])).numpy()
        worst = float(np.abs(found["vectors"] - expected).max(initial=0.0))
        allowed = VECTOR_TOLERANCE * float(codebook.weight.detach().abs().max())
        problem = "" if worst <= allowed else "differs"
        return [Deviation("quantizer more frames", "vectors", worst, allowed, None, problem)]

    def _compare_budgets(self) -> list[Deviation]:
        case, found = "encoder speech, each alone, worst decile", self.totals.accuracy()
        measured: list[tuple[str, float, float, Measure]] = [
            ("context", 1 - found.context_cosine, 1 - self.min_cosine, "1 - cosine")
        ]
        if found.codes:
            measured.append(("codes", found.code_drift, self.max_drift, "share of codes"))
        for name, allowed in self.of_labels.items():
            value = getattr(found, name)
            measure: Measure = "shift, ms" if name == "label_shift" else "share of labels"
            measured.append((name, math.inf if value is None else value, allowed, measure))
        return [
            Deviation(
                case,
                name,
                value,
                allowed,
                problem="" if value <= allowed else "over budget",
                measure=measure,
            )
            for name, value, allowed, measure in measured
        ]

    def _compare_batch(self, case: ParityCase) -> list[Deviation]:
        """Compare each utterance of a ragged batch with itself alone."""
        bundle = self.bundle
        alone = [self._alone(x) for x in _each_alone(case)]
        expected = self.audio.expected(case, alone)
        found = self._outputs("encoder", case)
        name = f"encoder {case.name}"
        rows = compare_all_lengths(bundle, "encoder", found, expected, name)
        rows += compare_outputs_closely(bundle, "encoder", found, expected, name, BATCH_TOLERANCES)
        if self.tokenizes:
            codes = self._settled(self._outputs("tokenizer", case)["codes"], expected)
            lengths = expected[code_lengths(bundle)]
            share = BATCH_TOLERANCES["code_drift"]
            name = f"tokenizer {case.name}"
            rows.append(compare_most_codes(name, codes, expected["codes"], lengths, share))
        return rows

    def _settled(self, codes: npt.NDArray[np.int64], expected: Tensors) -> npt.NDArray[np.int64]:
        """Return codes (b, n, g), with close calls resolved if they are made from the context."""
        quantizer = self.torch_model.quantizer
        if self.torch_model.config.quantizer_input != "context" or quantizer is None:
            return codes
        with torch.inference_mode():
            logits = quantizer.logits(torch.from_numpy(expected["context"])).numpy()
        lengths = expected[code_lengths(self.bundle)]
        valid = np.arange(codes.shape[1]) < lengths[:, np.newaxis]
        settled = without_close_calls(codes[:, :, 0], logits[:, :, 0])[..., np.newaxis]
        return np.where(valid[..., np.newaxis], settled, codes)

    def _alone(self, case: ParityCase) -> Reference:
        """Return the bundle's results for one utterance, in the form of a reference."""
        found = self._run(case)
        config = self.torch_model.config
        arrays = {name: x[0] for name, x in found.items() if not name.endswith("_lengths")}
        frames = int(found["frame_lengths"][0])
        lengths = {name: lengths_of(config, name) for name in arrays}
        return Reference(arrays, lengths, frames, config.context_frames(frames))

    def _run(self, case: ParityCase) -> Tensors:
        """Return the outputs of one utterance, with the tokenizer's codes."""
        found = self._outputs("encoder", case)
        if self.tokenizes:
            found = found | {"codes": self._outputs("tokenizer", case)["codes"]}
        return found

    def _outputs(self, graph: str, case: ParityCase) -> Tensors:
        """Run a graph on a case, once."""
        key = graph, case
        if key not in self._found:
            self._found[key] = self.bundle.run(graph, **self.audio.batch(case))
        return self._found[key]


def _each_alone(case: ParityCase) -> list[ParityCase]:
    """Return the utterances of a batch, each as a case."""
    if not case.is_batch:
        return []
    return [ParityCase(x.source, (x,), x.samples) for x in case.utterances]
