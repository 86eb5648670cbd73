"""From a model to the graphs of a bundle: the parts traced once, then put together by use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import onnx_ir as ir
import torch
from torch import nn

from w2v_edge.bundle import GRAPH_INPUTS, GRAPH_OUTPUTS
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.feature_encoder import GroupNormFeatureEncoder
from w2v_edge.model.speech_model import SpeechModel, Wav2Vec2Model
from w2v_edge_export.deployable.context import context_twin
from w2v_edge_export.deployable.frontend import FRONTEND_TILES, overlap
from w2v_edge_export.deployable.part import Part
from w2v_edge_export.deployable.quantizer import QuantizerTwin
from w2v_edge_export.deployable.statistics import ChannelStatistics, WindowMoments
from w2v_edge_export.graph_builder import GraphBuilder, TilePlan, at_least, over_tiles, size, walk
from w2v_edge_export.graph_passes import run_passes
from w2v_edge_export.targets import Target
from w2v_edge_export.trace import trace
from w2v_edge_export.weight_quantization.half import HalfPrecision
from w2v_edge_export.weight_quantization.lowering import quantize_graph
from w2v_edge_export.weight_quantization.plan import Plan

BATCH = {0: "batch"}

PartObserver = Callable[[str, str, ir.Model], None]
"""(part, pass, what it made of the part)."""


def ignore(_part: str, _pass: str, _model: ir.Model) -> None:
    """Observe nothing."""


def parts(model: SpeechModel) -> dict[str, Part]:
    """Return the twins of `model` with example inputs, by name, in the order of the data flow."""
    geometry, channels = model.config.geometry, model.config.feature_encoder.channels
    encoder = model.feature_encoder
    lengths = torch.tensor([9 * geometry.hop, 5 * geometry.hop])
    frontend_inputs = {
        "tile": torch.zeros(2, 6 * geometry.hop + overlap(model.config.feature_encoder.layers)),
        "start": torch.tensor(3),
        "lengths": lengths,
    }
    made: list[Part] = []
    if isinstance(encoder, GroupNormFeatureEncoder):
        layer = encoder.config.layers[0]
        made += _statistics_parts(encoder, lengths)
        frontend_inputs["statistics"] = torch.ones(2, 2 * layer.channels)
    frontend = FRONTEND_TILES[type(encoder)](encoder, _feature_norm(model))
    features = {"features": torch.zeros(2, 12, channels)}
    frames = {"features": {0: "batch", 1: "frames"}, "frame_lengths": BATCH}
    made += [
        Part(
            "frontend",
            frontend,
            frontend_inputs,
            {"tile": {0: "batch", 1: "samples"}, "lengths": BATCH, "statistics": BATCH},
            ("features",),
        ),
        Part("quantizer", QuantizerTwin(model.quantizer), features, frames, ("codes", "vectors")),
        Part(
            "context",
            context_twin(model),
            {**features, "frame_lengths": torch.tensor([12, 7])},
            frames,
            ("context",),
        ),
    ]
    return {part.name: part for part in made}


def _feature_norm(model: SpeechModel) -> nn.LayerNorm | None:
    return model.feature_norm if isinstance(model, Wav2Vec2Model) else None


def _statistics_parts(encoder: GroupNormFeatureEncoder, lengths: torch.Tensor) -> list[Part]:
    layer = encoder.config.layers[0]
    moments = {
        "tile": torch.zeros(2, 400 * layer.stride),
        "start": torch.tensor(3),
        "lengths": lengths,
    }
    sums = {
        "total": torch.zeros(2, layer.kernel, dtype=torch.float64),
        "products": torch.zeros(2, layer.kernel, layer.kernel, dtype=torch.float64),
        "windows": torch.ones(2, dtype=torch.int64),
    }
    return [
        Part(
            "moments",
            WindowMoments(layer),
            moments,
            {"tile": {0: "batch", 1: "samples"}, "lengths": BATCH},
            ("total", "products"),
        ),
        Part(
            "statistics",
            ChannelStatistics(encoder.convolutions[0]),
            sums,
            dict.fromkeys(sums, BATCH),
            ("statistics",),
        ),
    ]


def trace_parts(
    model: SpeechModel, target: Target, on_part: Callable[[str], None] = lambda _: None
) -> dict[str, ir.Model]:
    """Trace every part of `model`; `on_part` hears the name of each before it is traced."""
    traced = {}
    for name, part in parts(model).items():
        on_part(name)
        traced[name] = trace(part, target.opset)
    return traced


def lower_parts(
    traced: Mapping[str, ir.Model],
    target: Target,
    plan: Plan,
    half: HalfPrecision | None = None,
    observer: PartObserver = ignore,
) -> dict[str, ir.Model]:
    """Run all passes on copies of traced parts.

    Args:
        traced: what `trace_parts` gave.
        target: what the graphs are for.
        plan: the layers whose weights are quantized.
        half: turns the rest of the products into fp16.
        observer: hears of each part after each pass.
    """
    extra: dict[str, Callable[[ir.Model, str], None]] = {}
    if plan:
        extra["quantize-weights"] = partial(quantize_graph, plan=plan)
    if half:
        extra["half-precision"] = half
    lowered = {}
    for name, model in traced.items():
        lowered[name] = model.clone()
        observer(name, "trace", lowered[name])
        run_passes(lowered[name], name, target, extra, partial(observer, name))
    return lowered


class GraphAssembler:
    """Puts parts together into the graphs of a bundle."""

    def __init__(self, config: ModelConfig, target: Target, parts: Mapping[str, ir.Model]) -> None:
        self.config = config
        self.target = target
        self.parts = parts

    @property
    def names(self) -> list[str]:
        """The graphs that this model has."""
        needs_statistics = "statistics" in self.parts
        return [name for name in GRAPH_INPUTS if name != "statistics" or needs_statistics]

    def build(self, name: str) -> ir.Model:
        """Assemble the graph called `name`."""
        g = GraphBuilder()
        inputs = {x: self._input(x) for x in GRAPH_INPUTS[name]}
        if name == "frontend" and "statistics" in self.parts:
            inputs["statistics"] = self._input("statistics")
        values = getattr(self, f"_{name}")(g, **inputs)
        outputs = [self._output(g, x, values[x]) for x in GRAPH_OUTPUTS[name]]
        graph = ir.Graph(
            list(inputs.values()),
            outputs,
            nodes=g.nodes,
            initializers=list(g.initializers.values()),
            opset_imports=_opsets(g, self.target),
            name=name,
        )
        return ir.Model(graph, ir_version=self.target.ir_version)

    def _encoder(
        self, g: GraphBuilder, waveform: ir.Value, lengths: ir.Value
    ) -> dict[str, ir.Value]:
        front = self._whole_frontend(g, waveform, lengths)
        return {**front, **self._context(g, front["features"], front["frame_lengths"])}

    def _tokenizer(
        self, g: GraphBuilder, waveform: ir.Value, lengths: ir.Value
    ) -> dict[str, ir.Value]:
        # Codes are made within the tiles: of a long recording, no features are held.
        front = self._whole_frontend(
            g, waveform, lengths, lambda inner, x: self._quantizer(inner, x)["codes"]
        )
        codes = front["features"]
        frames = g.op("Range", 0, size(g, codes, 1), 1)
        valid = g.op("Less", frames, g.op("Unsqueeze", front["frame_lengths"], [1]))
        valid = g.op("Unsqueeze", valid, [2])
        return {"codes": g.op("Where", valid, codes, 0), "frame_lengths": front["frame_lengths"]}

    def _whole_frontend(
        self,
        g: GraphBuilder,
        waveform: ir.Value,
        lengths: ir.Value,
        finish: Callable[[GraphBuilder, ir.Value], ir.Value] = lambda _, features: features,
    ) -> dict[str, ir.Value]:
        if "statistics" not in self.parts:
            return self._frontend(g, waveform, lengths, finish=finish)
        statistics = self._statistics(g, waveform, lengths)["statistics"]
        return self._frontend(g, waveform, lengths, statistics, finish=finish)

    def _frontend(
        self,
        g: GraphBuilder,
        waveform: ir.Value,
        lengths: ir.Value,
        statistics: ir.Value | None = None,
        *,
        finish: Callable[[GraphBuilder, ir.Value], ir.Value] = lambda _, features: features,
    ) -> dict[str, ir.Value]:
        """Run the front end over all tiles, and `finish` on the features of each."""
        geometry = self.config.geometry
        padding = geometry.left_padding + geometry.right_padding
        count = partial(
            _count, g, hop=geometry.hop, receptive_field=geometry.receptive_field - padding
        )
        inputs = {"lengths": lengths}
        if statistics is not None:
            inputs["statistics"] = statistics

        def body(
            inner: GraphBuilder, tile: ir.Value, start: ir.Value, _: Sequence[ir.Value]
        ) -> list[ir.Value]:
            given = {**inputs, "tile": tile, "start": start}
            features = inner.splice(self.parts["frontend"], "frontend", given)["features"]
            return [finish(inner, features)]

        plan = TilePlan(
            geometry.hop,
            overlap(self.config.feature_encoder.layers),
            geometry.left_padding,
            self._tile_frames,
        )
        (features,) = over_tiles(g, waveform, count(size(g, waveform, 1)), plan, body)
        return {"features": features, "frame_lengths": count(lengths)}

    def _statistics(
        self, g: GraphBuilder, waveform: ir.Value, lengths: ir.Value
    ) -> dict[str, ir.Value]:
        layer = self.config.feature_encoder.layers[0]
        shape = [layer.kernel, layer.kernel]
        batch = g.op("Shape", lengths)
        states = [_zeros(g, batch, shape[:1]), _zeros(g, batch, shape)]

        def body(
            inner: GraphBuilder, tile: ir.Value, start: ir.Value, sums: Sequence[ir.Value]
        ) -> list[ir.Value]:
            given = {"tile": tile, "start": start, "lengths": lengths}
            moments = inner.splice(self.parts["moments"], "moments", given)
            return [
                inner.op("Add", total, moments[name])
                for total, name in zip(sums, ("total", "products"), strict=True)
            ]

        count = partial(_count, g, hop=layer.stride, receptive_field=layer.kernel)
        frames = self._tile_frames
        steps = None if frames is None else frames * self.config.geometry.hop // layer.stride
        plan = TilePlan(layer.stride, overlap([layer]), 0, steps)
        steps_in_all = count(size(g, waveform, 1))
        total, products = over_tiles(g, waveform, steps_in_all, plan, body, states=states)
        windows = at_least(g, count(lengths), 1)
        given = {"total": total, "products": products, "windows": windows}
        return g.splice(self.parts["statistics"], "statistics", given)

    def _context(
        self, g: GraphBuilder, features: ir.Value, frame_lengths: ir.Value
    ) -> dict[str, ir.Value]:
        given = {"features": features, "frame_lengths": frame_lengths}
        return g.splice(self.parts["context"], "context", given)

    def _quantizer(self, g: GraphBuilder, features: ir.Value) -> dict[str, ir.Value]:
        return g.splice(self.parts["quantizer"], "quantizer", {"features": features})

    @property
    def _tile_frames(self) -> int | None:
        """About `tile_seconds` of frames, or None for no tiling."""
        if self.target.tiling == "none":
            return None
        samples = self.target.tile_seconds * self.config.sample_rate
        return max(1, round(samples / self.config.geometry.hop))

    def _input(self, name: str) -> ir.Value:
        kind, axes = self._signature(name)
        return ir.val(name, kind, axes)

    def _output(self, g: GraphBuilder, name: str, value: ir.Value) -> ir.Value:
        """Name a graph's output; one that also is an input or output elsewhere keeps its own."""
        kind, axes = self._signature(name)
        output = g.op("Identity", value)
        output.name = name
        output.type = ir.TensorType(kind)
        output.shape = ir.Shape(axes)
        return output

    def _signature(self, name: str) -> tuple[ir.DataType, list[int | str]]:
        config, quantizer = self.config, self.config.quantizer
        channels = config.feature_encoder.channels
        signatures: dict[str, tuple[ir.DataType, list[int | str]]] = {
            "waveform": (ir.DataType.FLOAT, ["batch", "samples"]),
            "lengths": (ir.DataType.INT64, ["batch"]),
            "statistics": (
                ir.DataType.FLOAT,
                ["batch", 2 * config.feature_encoder.layers[0].channels],
            ),
            "features": (ir.DataType.FLOAT, ["batch", "frames", channels]),
            "frame_lengths": (ir.DataType.INT64, ["batch"]),
            "context": (ir.DataType.FLOAT, ["batch", "frames", config.context.dim]),
            "codes": (ir.DataType.INT64, ["batch", "frames", quantizer.groups]),
            "vectors": (ir.DataType.FLOAT, ["batch", "frames", quantizer.vector_dim]),
        }
        return signatures[name]


def _opsets(g: GraphBuilder, target: Target) -> dict[str, int]:
    """Return the domains that are used, with their versions."""
    used = {node.domain for node in walk(g.nodes)}
    return {"": target.opset} | dict.fromkeys(used - {""}, 1)


def _count(g: GraphBuilder, samples: ir.Value, *, hop: int, receptive_field: int) -> ir.Value:
    """Return how many steps fit, as `Geometry.frames` does, without dividing a negative number."""
    room = g.op("Add", samples, hop - receptive_field)
    return g.op("Div", at_least(g, room, 0), hop)


def _zeros(g: GraphBuilder, batch: ir.Value, shape: list[int]) -> ir.Value:
    """Return float64 zeros (b, *shape)."""
    zeros = g.op(
        "ConstantOfShape",
        g.op("Concat", batch, shape, axis=0),
        value=ir.tensor([0.0], dtype=ir.DataType.DOUBLE),
    )
    zeros.type = ir.TensorType(ir.DataType.DOUBLE)
    zeros.shape = ir.Shape(["batch", *shape])
    return zeros
