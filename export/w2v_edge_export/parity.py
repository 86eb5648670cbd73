"""The parity gate: a bundle against its PyTorch model, run by the runtime that ships.

Every graph is run on recorded speech and on noise, from one receptive field to 20 s (the split
graphs to 8 s), alone and in ragged batches whose padding is garbage.

In float32 every output is compared with the float64 reference of each utterance alone, so that a
batch that changes a result cannot pass. Where a value is beyond the usual tolerance, PyTorch is
also run in float32 on the same audio: a checkpoint that amplifies rounding does so in PyTorch too.
With quantized weights, speech is compared with the reference within the export's budgets, and
ragged batches with the bundle itself, each utterance alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.agreement import (
    MAX_ROUNDING,
    MAX_TIES,
    RELATIVE_TOLERANCE,
    CodeAgreement,
    Deviation,
    compare_lengths,
    compare_most_codes,
    without_close_calls,
)
from w2v_edge.bundle.golden import (
    check_golden,
    code_lengths,
    compare_all_lengths,
    compare_encoder,
    compare_outputs_closely,
    compare_quantizer,
    compare_split,
    compare_tokenizer,
)
from w2v_edge.errors import BundleIntegrityError
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.providers import available_memory
from w2v_edge.runtime.model import Model
from w2v_edge_export import cases as gate_cases
from w2v_edge_export.bundle_writer import FILES
from w2v_edge_export.cases import (
    CaseAudio,
    ParityCase,
    longest_that_fits,
    more_frames,
    more_speech,
    parity_cases,
)
from w2v_edge_export.graph_builder import known
from w2v_edge_export.parity_report import ParityReport
from w2v_edge_export.reference import (
    EVALUATIONS,
    Reference,
    Rounding,
    Tensors,
    lengths_of,
    rounding_tensors,
)
from w2v_edge_export.stages import Stages
from w2v_edge_export.targets import load_target
from w2v_edge_export.weight_quantization.accuracy import AccuracyTotals

MIN_CODES = 20_000
"""Codes to compare in float32, in the tokenizer and the quantizer together."""

THOROUGH_CODES = 40_000
"""The same for the thorough set, half of it in the tokenizer."""

MORE_SPEECH = 100
"""Most cases of further speech, or of further frames."""

FAR = 20.0
"""A deviation over float32's rounding error that further evaluations would not explain."""

SPLIT_SECONDS = 8.0
"""`frontend`, `context` and `statistics` share all nodes with `encoder`; longer cases skip them."""

BATCH_TOLERANCES = {"cosine": 0.9999, "code_drift": 0.001}
"""Quantized weights, an utterance in a batch against itself alone: least cosine of a frame, and
share of codes and best labels that may differ."""

WIRING_COSINE = 0.8
"""Quantized weights, least cosine of outputs without a budget, at the worst decile: their noise
follows the context's, an output that is wired wrong is at random."""

VECTOR_TOLERANCE = 1e-3
"""Quantized weights, deviation of a code's vector, over the largest value of the codebook."""

GOLDEN_TOLERANCES = {"cosine": 0.999, "code_drift": 0.02}
"""Quantized weights, another machine against the golden vectors."""

TOLERANCES: dict[str, dict[str, float]] = {
    "fp32": {
        "features": RELATIVE_TOLERANCE,
        "context": RELATIVE_TOLERANCE,
        "code_ties": MAX_TIES,
    },
    "fp16": GOLDEN_TOLERANCES,
    "int8": GOLDEN_TOLERANCES,
    "int4": GOLDEN_TOLERANCES,
}
"""Tolerances by precision, as golden vectors hold them."""


def run_parity_gate(
    torch_model: SpeechModel,
    bundle: Model,
    stages: Stages | None = None,
    *,
    thorough: bool = False,
    accept_ill_conditioned: bool = False,
) -> ParityReport:
    """Compare a bundle with its PyTorch model. A difference is in the report, and not raised.

    Args:
        torch_model: the model, in eval mode.
        bundle: the bundle, opened by the runtime.
        stages: gets a step for each case.
        thorough: compare the thorough set of cases.
        accept_ill_conditioned: let outputs pass on which float32's own rounding error is too large
            for a verdict.

    Raises:
        BundleIntegrityError: the weights are quantized and the manifest states no budgets.
    """
    stages = stages or Stages()
    exact = bundle.manifest.precision == "fp32"
    kind = _ExactGate if exact else _BudgetGate
    gate = kind(
        torch_model, bundle, thorough=thorough, accept_ill_conditioned=accept_ill_conditioned
    )
    target = load_target(bundle.manifest.target)
    tile_frames = round(target.tile_seconds * bundle.sample_rate / bundle.manifest.hop)
    fits = longest_that_fits(torch_model.config, available_memory())
    cases = parity_cases(bundle.manifest, max(1, tile_frames), thorough=thorough, fits=fits)
    # References first, graph after graph: the memory of a large model is that of PyTorch's float64
    # or of one graph, and never of both or of two.
    for i, case in enumerate(cases):
        stages.step(f"PyTorch, {case.name}", i, 2 * len(cases))
        gate.prepare(case)
    rows = gate.compare(cases, stages)
    codes, audio = gate.codes, gate.audio
    return ParityReport(
        rows=tuple(rows),
        codes_compared=codes.compared,
        codes_tied=codes.ties,
        codes_wrong=codes.wrong,
        distinct_codes=tuple(len(seen) for seen in codes.distinct),
        provider=bundle.provider,
        exact=exact,
        rounding=audio.rounding.largest,
        std={name.removesuffix("_std"): float(std) for name, std in audio.std.items()},
        float32_drift=audio.rounding.code_drift,
        codes_wanted=gate.codes_wanted if exact else 0,
        thorough=thorough,
        accepted_ill_conditioned=gate.accepted,
        longest_seconds=max(x.samples for x in cases) / bundle.sample_rate,
        shortened=fits < gate_cases.LONG_SECONDS,
    )


class _OneAtATime:
    """Runs graphs; of those with the context network's weights, one is open at a time."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.manifest = model.manifest
        self.bundle = model.bundle
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


class _Gate:
    """State that both gates share: the case audio and the counts of codes."""

    def __init__(
        self,
        torch_model: SpeechModel,
        bundle: Model,
        *,
        thorough: bool,
        accept_ill_conditioned: bool,
    ) -> None:
        self.torch_model = torch_model
        self.bundle = _OneAtATime(bundle)
        self.thorough = thorough
        self.accept_ill_conditioned = accept_ill_conditioned
        self.accepted = False
        self.codes_wanted = THOROUGH_CODES if thorough else MIN_CODES
        self.codes = CodeAgreement()
        self.audio = CaseAudio(torch_model, bundle.manifest)
        self.tokenizes = "tokenizer" in bundle.manifest.graphs

    def prepare(self, case: ParityCase) -> None:
        """Compute the references of one case."""
        self.audio.references(case)

    def compare(self, cases: Sequence[ParityCase], stages: Stages) -> list[Deviation]:
        """Compare the outputs of all cases."""
        raise NotImplementedError


class _ExactGate(_Gate):
    """float32: every graph against the reference of each utterance alone."""

    def __init__(
        self,
        torch_model: SpeechModel,
        bundle: Model,
        *,
        thorough: bool,
        accept_ill_conditioned: bool,
    ) -> None:
        super().__init__(
            torch_model, bundle, thorough=thorough, accept_ill_conditioned=accept_ill_conditioned
        )
        self._roundings: dict[ParityCase, tuple[int, list[Rounding]]] = {}

    def compare(self, cases: Sequence[ParityCase], stages: Stages) -> list[Deviation]:
        """Compare graph after graph, then the golden vectors, and more codes."""
        rows: list[Deviation] = []
        graphs = ["encoder", *(["tokenizer"] if self.tokenizes else []), "split"]
        longest = SPLIT_SECONDS * self.bundle.manifest.sample_rate
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
            if not any(_may_be_rounding(row, roundings) for row in rows):
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


def _may_be_rounding(row: Deviation, roundings: Sequence[Rounding]) -> bool:
    """Whether an output differs by values alone, and not by far more than the rounding measured."""
    if row.ok or row.problem or row.output in {"frame_lengths", "context_lengths", "vectors"}:
        return False
    if row.output == "codes":
        return True
    largest = max(x.largest.get(row.output, np.inf) for x in roundings)
    return bool(row.worst < FAR * largest)


class _BudgetGate(_Gate):
    """Quantized weights: speech against the reference, batches against the bundle itself."""

    def __init__(
        self,
        torch_model: SpeechModel,
        bundle: Model,
        *,
        thorough: bool,
        accept_ill_conditioned: bool,
    ) -> None:
        super().__init__(
            torch_model, bundle, thorough=thorough, accept_ill_conditioned=accept_ill_conditioned
        )
        self.totals = AccuracyTotals()
        self.graphs = ("encoder", "tokenizer") if self.tokenizes else ("encoder",)
        self._found: dict[tuple[str, ParityCase], Tensors] = {}
        stated = bundle.manifest.weight_quantization or {}
        try:
            self.min_cosine = float(stated["budgets"]["min_cosine"])
            self.max_drift = float(stated["budgets"]["max_code_drift"])
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
        self.codes = self.totals.code_agreement
        # `frontend`, `context` and `quantizer` are run here only.
        rows += self._compare_budgets() + self._compare_wiring() + check_golden(self.bundle)[0]
        return rows + (self._compare_vectors() if self.tokenizes else [])

    def _compare(self, case: ParityCase) -> list[Deviation]:
        if case.is_batch:
            return self._compare_batch(case)
        if case.is_speech:
            found = self._run(case)
            expected = self.audio.reference_of(case.utterances[0])
            self.totals.add_values(found, expected)
            if "codes" in found:
                self.totals.add_codes(found["codes"], expected)
            frames = np.array([expected.frames])
            name = f"encoder {case.name}"
            return [compare_lengths(name, "frame_lengths", found["frame_lengths"], frames)]
        return []

    def _compare_wiring(self) -> list[Deviation]:
        """Compare outputs without a budget with PyTorch's, by direction."""
        case = "encoder speech, each alone, worst decile"
        rows = []
        for name, cosine in sorted(self.totals.worst_cosines().items()):
            if name != "context":
                problem = "" if cosine >= WIRING_COSINE else "differs"
                rows.append(Deviation(case, name, 1 - cosine, 1 - WIRING_COSINE, None, problem))
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
        measured = [("context", 1 - found.context_cosine, 1 - self.min_cosine)]
        if found.codes:
            measured.append(("codes", found.code_drift, self.max_drift))
        return [
            Deviation(case, name, value, allowed, None, "" if value <= allowed else "over budget")
            for name, value, allowed in measured
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
