"""The stages of a weight quantization: read audio, calibrate and round, measure and search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from w2v_edge.model.speech_model import SpeechModel
from w2v_edge_export.parts import parts
from w2v_edge_export.progress import Progress
from w2v_edge_export.targets import Target
from w2v_edge_export.weight_quantization.accuracy import Judge
from w2v_edge_export.weight_quantization.calibration_audio import calibration_audio
from w2v_edge_export.weight_quantization.layers import (
    make_candidates,
    make_four_bit_candidates,
)
from w2v_edge_export.weight_quantization.search import FRONTEND, Budgets, Outcome, Search


@dataclass(frozen=True)
class QuantizationOptions:
    """What a user may choose.

    Attributes:
        calibration: folder of audio; None for the recordings that ship with the package.
        frontend_precision: of the convolutions in int8; fp32 keeps every one of them in float.
        budgets: what must hold.
    """

    calibration: Path | None = None
    frontend_precision: Literal["fp32", "int8"] = "int8"
    budgets: Budgets = field(default_factory=Budgets)


def quantize(
    model: SpeechModel,
    target: Target,
    traced: Mapping[str, ir.Model],
    precision: str,
    options: QuantizationOptions,
    progress: Progress,
) -> Outcome:
    """Find out what can have fewer bits within the budgets.

    Raises:
        AccuracyError: the budgets cannot be held; nothing was written.
        InputError: calibration audio that cannot be used.
    """
    config, budgets = model.config, options.budgets
    calibrating, measuring = calibration_audio(
        options.calibration, config.sample_rate, config.geometry
    )
    judge = Judge(model, measuring, config.geometry.hop)
    search = Search(config, target, traced, judge, lambda what, _: progress(what, 0.25))
    if precision == "fp16":
        progress("looking at every value", 0.1)
        return search.measure_half(budgets)
    if precision == "int4":
        progress("rounding to 4 bits", 0.1)
        four_bit = make_four_bit_candidates(parts(model), config, measuring)
        # It is for size: what it does to speed is measured and said, not required.
        return search.measure(four_bit, replace(budgets, require_speedup=0.0))
    candidates = make_candidates(
        parts(model),
        config,
        calibrating,
        measuring,
        lambda what, done: progress(f"rounding: {what}", 0.05 + 0.15 * done),
    )
    floats = frozenset(
        x.layer.name
        for x in candidates
        if options.frontend_precision == "fp32" and x.layer.name.startswith(FRONTEND)
    )
    return search.run(candidates, floats, budgets)
