"""Assembly of a bundle's graphs from parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from w2v_edge.bundle import GRAPH_INPUTS, GRAPH_OUTPUTS, FixedShape, TensorInfo, graph_inputs
from w2v_edge.model.config import ConvLayer, ModelConfig
from w2v_edge_export.deployable.context import context_outputs
from w2v_edge_export.deployable.frontend import overlap
from w2v_edge_export.fixed_shapes import fold_shapes
from w2v_edge_export.graph_builder import (
    GraphBuilder,
    TilePlan,
    at_least,
    ceil_div,
    known,
    over_tiles,
    size,
    walk,
)
from w2v_edge_export.parts import PART_OUTPUTS, moment_shapes, statistics_width
from w2v_edge_export.targets import Target

TAKE_EMPTY_BATCHES = ("quantizer",)
"""Graphs whose operators all run on an empty batch."""


class GraphAssembler:
    """Assembles the graphs of a bundle from parts.

    No operator of a part runs on an empty batch: several kernels of onnxruntime reject one, and
    some divide by zero. A row of zeros is appended to an empty batch, and cut off the outputs.
    """

    def __init__(
        self,
        config: ModelConfig,
        target: Target,
        parts: Mapping[str, ir.Model],
        shape: FixedShape | None = None,
    ) -> None:
        """Prepare the assembly.

        Args:
            config: of the model.
            target: profile of the runtime that the graphs are for.
            parts: the lowered parts, by name.
            shape: lengths of all axes; None for open ones.
        """
        self.config = config
        self.target = target
        self.parts = parts
        self.shape = shape

    @property
    def names(self) -> list[str]:
        """Names of the graphs of this model."""
        lacking = {"statistics"} - self.parts.keys()
        lacking |= {"quantizer", "tokenizer"} if "quantizer" not in self.parts else set()
        return [name for name in GRAPH_INPUTS if name not in lacking]

    def build(self, name: str) -> ir.Model:
        """Assemble the graph called `name`."""
        g = GraphBuilder()
        names = graph_inputs(name, self.config.quantizer_input)
        inputs = {x: self._input(x) for x in names}
        if name == "frontend" and "statistics" in self.parts:
            inputs["statistics"] = self._input("statistics")
        if name in TAKE_EMPTY_BATCHES or self.shape is not None:
            g.missing_rows = g.constant([0])
            values, batch = getattr(self, f"_{name}")(g, **inputs), None
        else:
            filled, batch = _without_empty_batch(g, inputs)
            values = getattr(self, f"_{name}")(g, **filled)
        outputs = [self._output(g, x, values[x], batch) for x in self._outputs(name)]
        graph = ir.Graph(
            list(inputs.values()),
            outputs,
            nodes=g.nodes,
            initializers=list(g.initializers.values()),
            opset_imports=_opsets(g, self.target),
            name=name,
        )
        model = ir.Model(graph, ir_version=self.target.ir_version)
        # Outputs of a part that another graph uses, such as a head's logits.
        RemoveUnusedNodesPass()(model)
        if self.shape is not None:
            fold_shapes(model)
        return model

    def describe(self, value: ir.Value) -> TensorInfo:
        """Return the description of an input or output, with the names of its axes."""
        name = str(value.name)
        kind, axes = self._signature(name)
        return TensorInfo(name, kind.name.lower(), tuple(axes))

    def _outputs(self, name: str) -> tuple[str, ...]:
        """Return the names of a graph's outputs, those of some models only last."""
        common = GRAPH_OUTPUTS[name]
        if "context" not in common:
            return common
        return (*common, *(x for x in context_outputs(self.config) if x not in common))

    def _encoder(
        self, g: GraphBuilder, waveform: ir.Value, lengths: ir.Value
    ) -> dict[str, ir.Value]:
        front = self._whole_frontend(g, waveform, lengths)
        return {**front, **self._context(g, front["features"], front["frame_lengths"])}

    def _tokenizer(
        self, g: GraphBuilder, waveform: ir.Value, lengths: ir.Value
    ) -> dict[str, ir.Value]:
        if self.config.quantizer_input == "context":
            front = self._whole_frontend(g, waveform, lengths)
            made = self._context(g, front["features"], front["frame_lengths"])
            codes = self._quantizer(g, made["context"])["codes"]
            frame_lengths = made.get("context_lengths", front["frame_lengths"])
        else:
            # Codes are made within the tiles: of a long recording, no features are held.
            front = self._whole_frontend(
                g, waveform, lengths, lambda inner, x: self._quantizer(inner, x)["codes"]
            )
            codes, frame_lengths = front["features"], front["frame_lengths"]
        frames = g.op("Range", 0, size(g, codes, 1), 1)
        valid = g.op("Less", frames, g.op("Unsqueeze", frame_lengths, [1]))
        valid = g.op("Unsqueeze", valid, [2])
        return {"codes": g.op("Where", valid, codes, 0), "frame_lengths": frame_lengths}

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
            features = self._splice(inner, "frontend", given)["features"]
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
        given: dict[str, ir.Value] = {}
        if "samples" in self.parts:
            shapes = {"sums": [1], "squares": [1]}
            given |= self._sums(g, waveform, lengths, "samples", ConvLayer(1, 1, 1), shapes)
            given["samples"] = at_least(g, lengths, 1)
        if "moments" in self.parts:
            layer = self.config.feature_encoder.layers[0]
            shapes = moment_shapes(self.config)
            given |= self._sums(g, waveform, lengths, "moments", layer, shapes)
            windows = _count(g, lengths, hop=layer.stride, receptive_field=layer.kernel)
            given["windows"] = at_least(g, windows, 1)
        return self._splice(g, "statistics", given)

    def _sums(
        self,
        g: GraphBuilder,
        waveform: ir.Value,
        lengths: ir.Value,
        part: str,
        layer: ConvLayer,
        shapes: Mapping[str, list[int]],
    ) -> dict[str, ir.Value]:
        """Sum the outputs of `part` over all tiles."""
        batch = g.op("Shape", lengths)
        states = [_zeros(g, batch, shape) for shape in shapes.values()]

        def body(
            inner: GraphBuilder, tile: ir.Value, start: ir.Value, sums: Sequence[ir.Value]
        ) -> list[ir.Value]:
            given = {"tile": tile, "start": start, "lengths": lengths}
            made = self._splice(inner, part, given)
            return [
                inner.op("Add", total, made[name]) for total, name in zip(sums, shapes, strict=True)
            ]

        frames = self._tile_frames
        steps = None if frames is None else frames * self.config.geometry.hop // layer.stride
        plan = TilePlan(layer.stride, overlap([layer]), 0, steps)
        count = _count(g, size(g, waveform, 1), hop=layer.stride, receptive_field=layer.kernel)
        totals = over_tiles(g, waveform, count, plan, body, states=states)
        return dict(zip(shapes, totals, strict=True))

    def _context(
        self, g: GraphBuilder, features: ir.Value, frame_lengths: ir.Value
    ) -> dict[str, ir.Value]:
        frames, squeeze = size(g, features, 1), self.config.squeeze
        if squeeze > 1:
            surplus = g.op("Sub", g.op("Mul", ceil_div(g, frames, squeeze), squeeze), frames)
            pads = g.op("Concat", [0] * 4, g.op("Reshape", surplus, [1]), [0], axis=0)
            features = g.op("Pad", features, pads)
        given = {"features": features, "frame_lengths": frame_lengths}
        made = self._splice(g, "context", given)
        if squeeze == 1:
            return made
        end = g.op("Reshape", frames, [1])
        return {
            name: g.op("Slice", x, [0], end, [1]) if self._axes(name)[0] == "frames" else x
            for name, x in made.items()
        }

    def _quantizer(
        self, g: GraphBuilder, features: ir.Value | None = None, context: ir.Value | None = None
    ) -> dict[str, ir.Value]:
        frames = known(features if context is None else context)
        return self._splice(g, "quantizer", {"frames": frames})

    def _splice(
        self, g: GraphBuilder, part: str, inputs: Mapping[str, ir.Value]
    ) -> dict[str, ir.Value]:
        names = PART_OUTPUTS.get(part) or context_outputs(self.config)
        return g.splice(self.parts[part], part, inputs, names)

    @property
    def _tile_frames(self) -> int | None:
        """About `tile_seconds` of frames, or None for no tiling."""
        if self.target.tiling == "none":
            return None
        samples = self.target.tile_seconds * self.config.sample_rate
        return max(1, round(samples / self.config.geometry.hop))

    def _input(self, name: str) -> ir.Value:
        kind, axes = self._signature(name)
        return ir.val(name, kind, self._bound(axes))

    def _output(
        self, g: GraphBuilder, name: str, value: ir.Value, batch: ir.Value | None
    ) -> ir.Value:
        """Add an output of the graph, with the first `batch` [1] rows of a value; None for all."""
        kind, axes = self._signature(name)
        output = g.op("Identity", value) if batch is None else g.op("Slice", value, [0], batch, [0])
        output.name = name
        output.type = ir.TensorType(kind)
        output.shape = ir.Shape(self._bound(axes))
        return output

    def _bound(self, axes: list[int | str]) -> list[int | str]:
        """Return axes with their lengths in place of their names, if those are fixed."""
        lengths = {} if self.shape is None else self.shape.axes
        return [lengths.get(x, x) if isinstance(x, str) else x for x in axes]

    def _signature(self, name: str) -> tuple[ir.DataType, list[int | str]]:
        """Return the type and axes of an input or output."""
        if name in {"lengths", "frame_lengths", "context_lengths"}:
            return ir.DataType.INT64, ["batch"]
        kind = ir.DataType.INT64 if name == "codes" else ir.DataType.FLOAT
        return kind, ["batch", *self._axes(name)]

    def _axes(self, name: str) -> list[int | str]:
        """Return the axes of a tensor after the batch."""
        config, quantizer, head = self.config, self.config.quantizer, self.config.head
        context = "context_frames" if "context_lengths" in context_outputs(config) else "frames"
        if name == "mixed" or name.startswith("layer_"):
            return ["frames" if config.resampling is None else context, config.context.dim]
        if head is not None and name in head.outputs:
            return [*([context] if head.by_frame else []), head.outputs[name]]
        if name == "embedding":
            (_, width), stacked = self._axes(config.outputs.main), config.outputs.pooled
            return [2 * int(width) if stacked == "mean,std" else width]
        if name in {"codes", "vectors"} and quantizer is not None:
            frames = context if config.quantizer_input == "context" else "frames"
            return [frames, quantizer.groups if name == "codes" else quantizer.vector_dim]
        if name == "projected" and config.outputs.projected is not None:
            return [context, config.outputs.projected]
        axes: dict[str, list[int | str]] = {
            "waveform": ["samples"],
            "statistics": [statistics_width(config)],
            "features": ["frames", config.feature_encoder.channels],
            "context": [context, config.context.output_dim],
        }
        return axes[name]


def _without_empty_batch(
    g: GraphBuilder, inputs: Mapping[str, ir.Value]
) -> tuple[dict[str, ir.Value], ir.Value]:
    """Append a row of zeros to the inputs of an empty batch.

    The waveform gets its row in `over_tiles`, which pads it in any case.

    Returns:
        The inputs by name, and the number of rows [1] without the appended one.
    """
    batch = g.op("Shape", next(iter(inputs.values())), start=0, end=1)
    rows = at_least(g, batch, 1)
    g.missing_rows = g.op("Sub", rows, batch)
    filled = dict(inputs)
    for name, value in inputs.items():
        rank = len(known(value.shape))
        if value.dtype == ir.DataType.INT64:
            # CUDA has no Pad of integers.
            filled[name] = g.op("Slice", g.op("Concat", value, [0], axis=0), [0], rows, [0])
        elif name != "waveform":
            pads = g.op("Concat", [0] * rank, g.missing_rows, [0] * (rank - 1), axis=0)
            filled[name] = g.op("Pad", value, pads)
        filled[name].type, filled[name].shape = value.type, value.shape
    return filled, batch


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
