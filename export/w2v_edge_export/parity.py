"""The parity gate: a bundle against its PyTorch model, run by the runtime that ships.

Every graph is run on recorded speech and on noise, from one receptive field to 20 s (the split
graphs to 8 s), alone and in ragged batches whose padding is garbage. Graphs of fixed shapes are
run in each shape, also on a random length.

In float32 every output is compared with the float64 reference of each utterance alone, so that a
batch that changes a result cannot pass. Where a value is beyond the usual tolerance, PyTorch is
also run in float32 on the same audio: a checkpoint that amplifies rounding does so in PyTorch too.
With quantized weights and in bf16, speech is compared with the reference within the export's
budgets, and ragged batches with the bundle itself, each utterance alone. A bf16 bundle that is
computed in float32, for want of bfloat16, is compared as one in float32.
"""

from __future__ import annotations

from w2v_edge.agreement import MAX_TIES, RELATIVE_TOLERANCE
from w2v_edge.errors import ConfigError
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.providers import available_memory
from w2v_edge.runtime.model import Model
from w2v_edge_export import cases as gate_cases
from w2v_edge_export.budget_gate import BudgetGate
from w2v_edge_export.cases import longest_that_fits, parity_cases
from w2v_edge_export.exact_gate import ExactGate
from w2v_edge_export.parity_report import ParityReport
from w2v_edge_export.stages import Stages
from w2v_edge_export.targets import load_target
from w2v_edge_export.weight_quantization.search import DEFAULT_COSINES, DEFAULT_DRIFTS, Budgets

GOLDEN_TOLERANCES = {"cosine": 0.999, "code_drift": 0.02}
"""Quantized weights, another machine against the golden vectors."""

WORST_FRAME, FEW_CODES = 10.0, 2.0
"""In bf16, golden vectors over the budgets: the cosine distance of their worst frame is larger than
at the worst decile, and the share of a few hundred codes varies."""


def bf16_tolerances(budgets: Budgets) -> dict[str, float]:
    """Return the tolerances in bf16 against PyTorch's golden vectors, which follow the budgets."""
    return {
        "cosine": 1 - WORST_FRAME * (1 - budgets.min_cosine),
        "code_drift": FEW_CODES * budgets.max_code_drift,
    }


TOLERANCES: dict[str, dict[str, float]] = {
    "fp32": {
        "features": RELATIVE_TOLERANCE,
        "context": RELATIVE_TOLERANCE,
        "code_ties": MAX_TIES,
    },
    "fp16": GOLDEN_TOLERANCES,
    "bf16": bf16_tolerances(Budgets(DEFAULT_COSINES["bf16"], DEFAULT_DRIFTS["bf16"])),
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
        ConfigError: the provider computes a bundle of float32 in float16, which has no budgets.
    """
    stages = stages or Stages()
    if bundle.manifest.precision == "fp32" and bundle.half:
        raise ConfigError(
            "found a provider that computes this bundle of float32 in float16, which is compared "
            "with golden vectors only; verify without a checkpoint there, or on provider 'cpu'"
        )
    exact = bundle.precision == "fp32"
    gate = (
        ExactGate(
            torch_model, bundle, thorough=thorough, accept_ill_conditioned=accept_ill_conditioned
        )
        if exact
        else BudgetGate(torch_model, bundle)
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
        codes_wanted=gate.codes_wanted,
        thorough=thorough,
        accepted_ill_conditioned=gate.accepted,
        longest_seconds=max(x.samples for x in cases) / bundle.sample_rate,
        shortened=fits < gate_cases.LONG_SECONDS,
    )
