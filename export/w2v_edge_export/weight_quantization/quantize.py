"""The stages of a weight quantization: read audio, calibrate and round, measure and search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from w2v_edge.errors import ConfigError
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge_export.graphs import parts
from w2v_edge_export.targets import CONTRIB, Target
from w2v_edge_export.weight_quantization.accuracy import Judge
from w2v_edge_export.weight_quantization.calibration_audio import calibration_audio
from w2v_edge_export.weight_quantization.layers import make_candidates
from w2v_edge_export.weight_quantization.search import FRONTEND, Budgets, Outcome, Search

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class QuantizationOptions:
    """What a user may choose.

    Attributes:
        calibration: folder of audio; None for the recordings that ship with the package.
        frontend_precision: of the convolutions; fp32 keeps every one of them in float.
        budgets: what must hold.
    """

    calibration: Path | None = None
    frontend_precision: Literal["fp32", "int8"] = "int8"
    budgets: Budgets = field(default_factory=Budgets)


def quantize(
    model: SpeechModel,
    target: Target,
    traced: Mapping[str, ir.Model],
    options: QuantizationOptions,
    progress: Progress,
) -> Outcome:
    """Find the layers that can be int8 within the budgets.

    Raises:
        AccuracyError: none can; nothing was written.
        ConfigError: the target has no operators for it.
        InputError: calibration audio that cannot be used.
    """
    if CONTRIB not in target.domains:
        raise ConfigError(f"target {target.name!r} has no int8 operators; choose the target cpu")
    config = model.config
    rate = config.sample_rate
    audio = calibration_audio(options.calibration, rate, config.geometry.min_samples)
    calibrating, measuring = audio
    candidates = make_candidates(
        parts(model),
        config,
        calibrating,
        lambda what, done: progress(f"rounding: {what}", 0.05 + 0.15 * done),
    )
    floats = frozenset(
        x.layer.name
        for x in candidates
        if options.frontend_precision == "fp32" and x.layer.name.startswith(FRONTEND)
    )
    progress("measuring accuracy", 0.2)
    judge = Judge(model, measuring, rate)
    search = Search(config, target, traced, judge, lambda what, _: progress(what, 0.25))
    return search.run(candidates, floats, options.budgets)
