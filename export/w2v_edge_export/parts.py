"""The parts of a model: inference twins, traced once and lowered for a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from w2v_edge.model.config import LogMelConfig, ModelConfig
from w2v_edge.model.feature_encoder import ConvFeatureEncoder, GroupNormFeatureEncoder
from w2v_edge.model.mel import LogMelFeatureEncoder
from w2v_edge.model.speech_model import SpeechModel, Wav2Vec2Model
from w2v_edge_export.deployable.frontend import FRONTEND_TILES, FrontendTile, overlap
from w2v_edge_export.deployable.heads import QuantizerTwin
from w2v_edge_export.deployable.mel import LogMelFrontendTile, MelMoments, MelStatistics
from w2v_edge_export.deployable.statistics import (
    SampleMoments,
    UtteranceStatistics,
    WindowMoments,
)
from w2v_edge_export.deployable.twins import context_twin
from w2v_edge_export.graph_builder import ExportError
from w2v_edge_export.graph_passes import PassRecorder, run_passes
from w2v_edge_export.stages import Stages
from w2v_edge_export.targets import Target
from w2v_edge_export.trace import Part
from w2v_edge_export.trace_cache import trace_cached
from w2v_edge_export.weight_quantization.half import HalfPrecision
from w2v_edge_export.weight_quantization.lowering import quantize_graph
from w2v_edge_export.weight_quantization.plan import Plan

BATCH = {0: "batch"}
FRAMES = {0: "batch", 1: "frames"}
TILE = {0: "batch", 1: "samples"}

PART_OUTPUTS = {
    "samples": ("sums", "squares"),
    "moments": ("total", "products"),
    "statistics": ("statistics",),
    "frontend": ("features",),
    "quantizer": ("codes", "vectors"),
}
"""Outputs of each part; those of the context network depend on the model."""


def parts(model: SpeechModel) -> dict[str, Part]:
    """Return the twins of `model` with example inputs, by name, in the order of the data flow."""
    config = model.config
    geometry, channels = config.geometry, config.feature_encoder.channels
    lengths = torch.tensor([9 * geometry.hop, 5 * geometry.hop])
    extra = overlap(config.feature_encoder.layers)
    frontend_inputs = {
        "tile": torch.zeros(2, 6 * geometry.hop + extra),
        "start": torch.tensor(3),
        "lengths": lengths,
    }
    made = _statistics_parts(model, lengths)
    if made:
        frontend_inputs["statistics"] = torch.ones(2, statistics_width(config))
    frontend = _frontend(model)
    dynamic = {"tile": TILE, "lengths": BATCH, "statistics": BATCH}
    made.append(
        Part(
            "frontend",
            frontend,
            frontend_inputs,
            dynamic,
            PART_OUTPUTS["frontend"],
            multiples={"samples": (geometry.hop, extra)},
        )
    )
    if model.quantizer is not None:
        width = config.context.output_dim if config.quantizer_input == "context" else channels
        inputs = {"frames": torch.zeros(2, 12, width)}
        twin = QuantizerTwin(model.quantizer)
        made.append(Part("quantizer", twin, inputs, {"frames": FRAMES}, PART_OUTPUTS["quantizer"]))
    # Enough frames for an adapter to leave two: the tracer takes a single one for a constant.
    context, frames = context_twin(model), 12 * config.squeeze
    made.append(
        Part(
            "context",
            context,
            {
                "features": torch.zeros(2, frames, channels),
                "frame_lengths": torch.tensor([frames, 7]),
            },
            {"features": FRAMES, "frame_lengths": BATCH},
            context.outputs,
            multiples={"frames": (config.squeeze, 0)},
        )
    )
    return {part.name: part for part in made}


def statistics_width(config: ModelConfig) -> int:
    """Return the width of the statistics vector that the front end needs."""
    channels = config.feature_encoder.measured_channels
    return 2 * channels + (0 if config.normalise is None else 2)


def moment_shapes(config: ModelConfig) -> dict[str, list[int]]:
    """Return the shape, after the batch, of each output of the part `moments`."""
    width = config.feature_encoder.layers[0].kernel
    if isinstance(config.feature_encoder, LogMelConfig):
        return {"total": [config.feature_encoder.bins], "products": [config.feature_encoder.bins]}
    return {"total": [width], "products": [width, width]}


def _frontend(model: SpeechModel) -> FrontendTile:
    norm, encoder = None, model.feature_encoder
    # Features that are resampled are normed after that.
    if isinstance(model, Wav2Vec2Model) and model.config.resampling is None:
        norm = model.feature_norm
    if isinstance(encoder, ConvFeatureEncoder):
        return FRONTEND_TILES[type(encoder)](encoder, norm, model.config.normalise)
    if isinstance(encoder, LogMelFeatureEncoder):
        return LogMelFrontendTile(encoder, norm)
    raise ExportError(f"no inference twin for {type(encoder).__name__}")


def _statistics_parts(model: SpeechModel, lengths: torch.Tensor) -> list[Part]:
    """Return the parts that compute the whole-utterance statistics of the front end."""
    encoder, made = model.feature_encoder, []
    layer = encoder.config.layers[0]
    tile = {"tile": torch.zeros(2, 400 * layer.stride), "start": torch.tensor(3)}
    tile["lengths"] = lengths
    dynamic = {"tile": TILE, "lengths": BATCH}
    sums: dict[str, torch.Tensor] = {}
    twin: nn.Module = UtteranceStatistics(None)
    if model.config.normalise is not None:
        made.append(Part("samples", SampleMoments(), tile, dynamic, PART_OUTPUTS["samples"]))
        sums |= {name: torch.zeros(2, 1, dtype=torch.float64) for name in ("sums", "squares")}
        sums["samples"] = torch.ones(2, dtype=torch.int64)
    moments: nn.Module | None = None
    if isinstance(encoder, GroupNormFeatureEncoder):
        moments, twin = WindowMoments(layer), UtteranceStatistics(encoder.convolutions[0])
    elif isinstance(encoder, LogMelFeatureEncoder):
        moments, twin = MelMoments(encoder.config.bins), MelStatistics()
    if moments is not None:
        multiples = {"samples": (layer.stride, 0)}
        outputs = PART_OUTPUTS["moments"]
        made.append(Part("moments", moments, tile, dynamic, outputs, multiples))
        for name, shape in moment_shapes(model.config).items():
            sums[name] = torch.zeros(2, *shape, dtype=torch.float64)
        sums["windows"] = torch.ones(2, dtype=torch.int64)
    if sums:
        made.append(
            Part("statistics", twin, sums, dict.fromkeys(sums, BATCH), PART_OUTPUTS["statistics"])
        )
    return made


def trace_parts(
    model: SpeechModel,
    target: Target,
    stages: Stages | None = None,
    cache: Path | None = None,
) -> dict[str, ir.Model]:
    """Trace every part of `model`, with a step of `stages` for each; see `trace_cached`."""
    stages, made, traced = stages or Stages(), parts(model), {}
    for i, (name, part) in enumerate(made.items()):
        stages.step(name, i, len(made))
        traced[name] = trace_cached(part, target, cache)
    return traced


def lower_parts(
    traced: Mapping[str, ir.Model],
    target: Target,
    plan: Plan,
    half: HalfPrecision | None = None,
    recorder: PassRecorder | None = None,
) -> dict[str, ir.Model]:
    """Run all passes on copies of traced parts; see `lower_part`."""
    return {name: lower_part(name, traced, target, plan, half, recorder) for name in traced}


def lower_part(
    name: str,
    traced: Mapping[str, ir.Model],
    target: Target,
    plan: Plan,
    half: HalfPrecision | None = None,
    recorder: PassRecorder | None = None,
) -> ir.Model:
    """Run all passes on a copy of one traced part.

    Args:
        name: of the part.
        traced: the result of `trace_parts`.
        target: profile of the runtime that the graphs are for.
        plan: the layers whose weights are quantized.
        half: pass that turns the other products into fp16.
        recorder: records the size of each part after each pass.
    """
    extra: dict[str, Callable[[ir.Model, str], None]] = {}
    if plan:
        extra["quantize-weights"] = partial(quantize_graph, plan=plan)
    if half:
        extra["half-precision"] = half
    lowered = traced[name].clone()
    run_passes(lowered, name, target, extra, recorder)
    return lowered
