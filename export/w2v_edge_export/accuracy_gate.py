"""The gate of bundles with quantized weights: budgets against PyTorch, and no effect of company.

Frames of speech, each utterance alone, are held against PyTorch and against the budgets that the
bundle was exported with. Ragged batches, whose padding is garbage, are held against the bundle
itself: but for isolated roundings, an utterance must give the same frames alone and in a batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from w2v_edge.agreement import Deviation, compare_most_codes, without_close_calls
from w2v_edge.audio import Waveform
from w2v_edge.errors import BundleIntegrityError
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.golden import (
    check_golden,
    code_lengths,
    compare_all_lengths,
    compare_outputs_closely,
)
from w2v_edge.runtime.model import Model
from w2v_edge_export import reference
from w2v_edge_export.parity import Case, Gate, Report
from w2v_edge_export.progress import Progress
from w2v_edge_export.reference import Arrays, Reference
from w2v_edge_export.weight_quantization.accuracy import Accuracy, AccuracyTally

COMPANY = {"cosine": 0.9999, "code_drift": 0.001}
"""How near an utterance in a batch must come to itself alone: directions of frames, and the share
of codes, or of best labels, that roundings may change."""


def run_accuracy_gate(
    torch_model: SpeechModel, bundle: Model, progress: Progress = lambda *_: None
) -> Report:
    """Compare a bundle with its PyTorch model and with itself. The report says how it went.

    Raises:
        BundleIntegrityError: the manifest states no budgets.
    """
    stated = bundle.manifest.weight_quantization or {}
    try:
        min_cosine = float(stated["budgets"]["min_cosine"])
        max_drift = float(stated["budgets"]["max_code_drift"])
    except (KeyError, TypeError, ValueError) as error:
        folder = bundle.bundle.folder
        raise BundleIntegrityError(
            f"{folder}: the manifest has no budgets; export again"
        ) from error
    gate = Gate(torch_model, bundle)
    tally = AccuracyTally()
    rows: list[Deviation] = []
    cases = list(gate.cases())
    for i, case in enumerate(cases):
        progress(case.name, i / len(cases))
        if len(case.utterances) > 1:
            rows += _company(gate, case)
        elif "speech" in case.name:
            (waveform,) = case.utterances
            found, expected = (
                _run(bundle, _batch(waveform)),
                reference.encode(torch_model, waveform),
            )
            tally.add_values(found, expected)
            if "codes" in found:
                tally.add_codes(found["codes"], expected)
    rows += _budget_rows(tally.accuracy(), min_cosine, max_drift)
    # Every other graph is run here, against what encoder and tokenizer gave.
    rows += check_golden(bundle)[0]
    return Report(
        rows=tuple(rows),
        codes_compared=tally.codes,
        codes_tied=0,
        codes_wrong=tally.differing,
        distinct_codes=tuple(len(seen) for seen in tally.distinct),
        provider=bundle.provider,
        exact=False,
    )


def _budget_rows(found: Accuracy, min_cosine: float, max_drift: float) -> list[Deviation]:
    case = "encoder speech, each alone, worst decile"
    figures = [("context", 1 - found.context_cosine, 1 - min_cosine)]
    if found.codes:
        figures.append(("codes", found.code_drift, max_drift))
    return [
        Deviation(case, name, value, allowed, None, "" if value <= allowed else "beyond its budget")
        for name, value, allowed in figures
    ]


def _company(gate: Gate, case: Case) -> list[Deviation]:
    """Compare a ragged batch with each of its utterances alone."""
    bundle = gate.bundle
    alone = [_alone(gate, x) for x in case.utterances]
    batch, expected = gate.lay_out(case, alone)
    found = bundle.run("encoder", **batch)
    name = f"encoder {case.name}"
    rows = compare_all_lengths(bundle, "encoder", found, expected, name)
    rows += compare_outputs_closely(bundle, "encoder", found, expected, name, COMPANY)
    if "tokenizer" in bundle.manifest.graphs:
        codes = _settled(gate, bundle.run("tokenizer", **batch)["codes"], expected)
        lengths = expected[code_lengths(bundle)]
        share = COMPANY["code_drift"]
        name = f"tokenizer {case.name}"
        rows.append(compare_most_codes(name, codes, expected["codes"], lengths, share))
    return rows


def _settled(gate: Gate, codes: npt.NDArray[np.int64], expected: Arrays) -> npt.NDArray[np.int64]:
    """Return codes (b, n, g) without close calls, if they are made from the context."""
    quantizer = gate.torch_model.quantizer
    if gate.torch_model.config.quantizer_input != "context" or quantizer is None:
        return codes
    with torch.inference_mode():
        logits = quantizer.logits(torch.from_numpy(expected["context"])).numpy()
    lengths = expected[code_lengths(gate.bundle)]
    valid = np.arange(codes.shape[1]) < lengths[:, np.newaxis]
    settled = without_close_calls(codes[:, :, 0], logits[:, :, 0])[..., np.newaxis]
    return np.where(valid[..., np.newaxis], settled, codes)


def _alone(gate: Gate, waveform: Waveform) -> Reference:
    found = _run(gate.bundle, _batch(waveform))
    config = gate.torch_model.config
    arrays = {name: x[0] for name, x in found.items() if not name.endswith("_lengths")}
    frames = int(found["frame_lengths"][0])
    lengths = {name: reference.lengths_of(config, name) for name in arrays}
    return Reference(arrays, lengths, frames, config.context_frames(frames))


def _batch(waveform: Waveform) -> Arrays:
    return {"waveform": waveform[np.newaxis], "lengths": np.array([len(waveform)])}


def _run(bundle: Model, batch: Arrays) -> Arrays:
    found = bundle.run("encoder", **batch)
    if "tokenizer" in bundle.manifest.graphs:
        found["codes"] = bundle.run("tokenizer", **batch)["codes"]
    return found
