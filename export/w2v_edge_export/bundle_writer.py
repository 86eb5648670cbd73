"""Writes a bundle: weights, graphs, vocabulary and manifest."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import onnx_ir as ir

from w2v_edge.bundle import (
    FORMAT_VERSION,
    MANIFEST,
    OPEN_VERSION,
    TIMESTAMPS,
    VOCABULARY,
    CodebookInfo,
    CtcInfo,
    FileInfo,
    FixedShape,
    GraphInfo,
    HeadInfo,
    Manifest,
    SourceInfo,
    StatisticsInfo,
    file_info,
    file_stem,
)
from w2v_edge.bundle.language_model import LanguageModelInfo
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.conformer_config import DistancePositionConfig, SinusoidPositionConfig
from w2v_edge.model.head_config import LOGITS, PooledHeadConfig
from w2v_edge_export.graph_builder import ExportError, known
from w2v_edge_export.graphs import GraphAssembler
from w2v_edge_export.selection import Selection
from w2v_edge_export.targets import CONTRIB, Target

TOOLS = ("w2v-edge", "torch", "onnx", "onnx-ir", "onnxscript", "numpy")

NEWEST_OPSET, NEWEST_IR = 21, 10
"""The newest versions that onnxruntime 1.20 reads."""

ATTENTION_BYTES = 4e9
"""Most memory for the attention weights of the longest full-attention length."""

ATTENTION_SHARE = 4
"""Most time of fused attention at that length, over the time of a block's other products."""

MIN_BYTES = 256
"""Smaller tensors stay in the graphs, where shape inference reads them."""

PAGE = 4096
"""Large tensors are aligned to pages, so that a runtime can map them."""

FILES = {
    "moments": "frontend.bin",
    "statistics": "frontend.bin",
    "frontend": "frontend.bin",
    "quantizer": "quantizer.bin",
    "context": "context.bin",
}
"""Data file by the prefix of an initializer's name."""


STORED = (
    *(ir.DataType.DOUBLE, ir.DataType.FLOAT, ir.DataType.FLOAT16),
    *(ir.DataType.INT8, ir.DataType.UINT8),
)
"""Element types of weights; int64 is left to shapes."""


class DataWriter:
    """Moves the weights of graphs to data files in a folder; equal tensors are written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[tuple[str, bytes], tuple[int, int]] = {}

    def externalise(self, model: ir.Model) -> tuple[str, ...]:
        """Move the weights of `model` to data files, and return the names of its data files."""
        files = set()
        for value in model.graph.initializers.values():
            tensor = known(value.const_value)
            if tensor.nbytes < MIN_BYTES or tensor.dtype not in STORED:
                continue
            name = FILES[str(value.name).partition(".")[0]]
            value.const_value = self._place(name, str(value.name), tensor)
            files.add(name)
        return tuple(sorted(files))

    def _place(self, file: str, name: str, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        data = tensor.tobytes()
        key = (file, hashlib.sha256(data).digest())
        if key not in self._places:
            with (self.folder / file).open("ab") as stream:
                self._places[key] = (_write(stream, data), len(data))
        offset, length = self._places[key]
        return ir.ExternalTensor(
            file,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir=self.folder,
        )


def _write(stream: BinaryIO, data: bytes) -> int:
    """Append `data`, aligned, and return its offset."""
    alignment = PAGE if len(data) >= PAGE else 64
    stream.write(bytes(-stream.tell() % alignment))
    offset = stream.tell()
    stream.write(data)
    return offset


def write_graphs(assemblers: Sequence[GraphAssembler], folder: Path) -> dict[str, GraphInfo]:
    """Write every graph of a model to `folder`, and return their descriptions by name.

    Args:
        assemblers: one, or one for each fixed shape.
        folder: of the bundle; weights are written once for all shapes.

    Raises:
        ExportError: a graph does not fit its target.
    """
    writer = DataWriter(folder)
    written: dict[str, GraphInfo] = {}
    for assembler in assemblers:
        written |= {name: _write_graph(assembler, name, writer) for name in assembler.names}
    return written


def _write_graph(assembler: GraphAssembler, name: str, writer: DataWriter) -> GraphInfo:
    """Write one graph without its weights, and return its description."""
    graph, config = assembler.build(name), assembler.config
    data = writer.externalise(graph)
    graph.producer_name = "w2v-edge"
    graph.producer_version = metadata.version("w2v-edge")
    graph.metadata_props.update(
        {
            "sample_rate": str(config.sample_rate),
            "hop": str(config.geometry.hop),
            "receptive_field": str(config.geometry.receptive_field),
            "architecture": config.architecture,
            "manifest": MANIFEST,
            "license": "the weights' licence is that of the checkpoint",
        }
    )
    path = writer.folder / f"{file_stem(name, assembler.shape)}.onnx"
    ir.save(graph, path)
    _check_graph(path, assembler.target)
    operators = Counter(_operator(node) for node in graph.graph.all_nodes())
    return GraphInfo(
        inputs=tuple(map(assembler.describe, graph.graph.inputs)),
        outputs=tuple(map(assembler.describe, graph.graph.outputs)),
        data=data,
        operators=dict(sorted(operators.items())),
    )


def _check_graph(path: Path, target: Target) -> None:
    """Check a written graph against the ONNX standard and its target.

    Raises:
        ExportError: the target does not support a version or an operator domain.
    """
    onnx.checker.check_model(str(path))
    proto = onnx.load(str(path), load_external_data=False)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    foreign = sorted(set(versions) - set(target.domains))
    if versions[""] > NEWEST_OPSET or proto.ir_version > NEWEST_IR or foreign:
        raise ExportError(
            f"{path.name}: found opset {versions['']}, IR {proto.ir_version} and the domains "
            f"{sorted(versions)}, expected at most opset {NEWEST_OPSET}, IR {NEWEST_IR} and the "
            f"domains of target {target.name!r}, {sorted(target.domains)}"
        )


def write_vocabulary(config: ModelConfig, folder: Path) -> None:
    """Write the labels of a CTC model to `vocab.json`; other models have none."""
    if config.head is None or config.head.kind != "ctc" or not config.head.labels:
        return
    labels = {label: i for i, label in enumerate(config.head.labels)}
    text = json.dumps(labels, indent=1, ensure_ascii=False) + "\n"
    (folder / VOCABULARY).write_text(text, encoding="utf-8", errors="surrogatepass")


def measure_files(folder: Path) -> dict[str, FileInfo]:
    """Return size and hash of every file of a bundle except the manifest."""
    return {x.name: file_info(x) for x in sorted(folder.iterdir()) if x.name != MANIFEST}


def describe(
    config: ModelConfig,
    target: Target,
    precision: str,
    graphs: dict[str, GraphInfo],
    files: dict[str, FileInfo],
    source: SourceInfo,
    weight_quantization: dict[str, Any] | None,
    selection: Selection,
    language_model: LanguageModelInfo | None,
    shapes: tuple[FixedShape, ...] = (),
) -> Manifest:
    """Return the manifest of a bundle, without the parity report.

    Args:
        config: of the model.
        target: profile that the graphs were made for.
        precision: of the weights.
        graphs: description of each graph, by name.
        files: size and hash of each file, by name.
        source: the checkpoint.
        weight_quantization: result of the weight quantization; None in float32.
        selection: layers, units and outputs that were chosen.
        language_model: in the bundle, if there is one.
        shapes: lengths of all axes; empty for open ones.
    """
    geometry, quantizer = config.geometry, config.quantizer
    longest = longest_context(config, target)
    if shapes:
        longest = shapes[-1].samples / config.sample_rate
    return Manifest(
        format_version=FORMAT_VERSION if shapes else OPEN_VERSION,
        config=config.to_dict(),
        precision=precision,
        target=target.name,
        opset=target.opset,
        ir_version=target.ir_version,
        sample_rate=config.sample_rate,
        hop=geometry.hop,
        receptive_field=geometry.receptive_field,
        left_padding=geometry.left_padding,
        right_padding=geometry.right_padding,
        min_samples=geometry.min_samples,
        output_length=geometry.formula,
        timestamps=TIMESTAMPS,
        features_dim=config.feature_encoder.channels,
        context_dim=config.context.output_dim,
        codebook=(
            None
            if quantizer is None
            else CodebookInfo(quantizer.groups, quantizer.entries, quantizer.vector_dim)
        ),
        quantizer_input=config.quantizer_input,
        logits_axes=_logits_axes(config),
        labels=() if config.head is None else config.head.labels,
        longest_context_seconds=longest,
        graphs=graphs,
        files=files,
        source=source,
        tools={name: metadata.version(name) for name in TOOLS},
        parity=None,
        weight_quantization=weight_quantization,
        logits_meaning=getattr(config.head, "meaning", None),
        heads=_heads(config),
        embedding_min_frames=config.embedding_min_frames,
        ctc=_ctc(config),
        selection=selection.to_dict(),
        statistics=_statistics(config),
        language_model=language_model,
        shapes=shapes,
    )


def _logits_axes(config: ModelConfig) -> tuple[str, ...]:
    head = config.head
    if head is None or LOGITS not in head.outputs:
        return ()
    return ("batch", "frames", "labels") if head.by_frame else ("batch", "labels")


def _heads(config: ModelConfig) -> dict[str, HeadInfo]:
    """Return the heads whose outputs have names."""
    head = config.head
    if not isinstance(head, PooledHeadConfig):
        return {}
    return {x.name: HeadInfo(x.labels, x.meaning) for x in head.branches if x.name}


def _statistics(config: ModelConfig) -> StatisticsInfo | None:
    encoder = config.feature_encoder
    layer, channels = encoder.layers[0], encoder.measured_channels
    normalised = config.normalise is not None
    if not channels and not normalised:
        return None
    unbiased = encoder.kind == "log_mel"
    return StatisticsInfo(normalised, channels, layer.kernel, layer.stride, unbiased)


def _ctc(config: ModelConfig) -> CtcInfo | None:
    head = config.head
    if head is None or head.kind != "ctc":
        return None
    return CtcInfo(
        head.blank, head.word_delimiter, head.special, head.language, head.separator, head.lowercase
    )


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json`, sealed with its own hash."""
    (folder / MANIFEST).write_text(manifest.sealed().text(), encoding="utf-8")


def longest_context(config: ModelConfig, target: Target) -> float:
    """Return the longest full-attention length in seconds, by memory, or by time where fused."""
    shape = config.context
    # matrices * heads * frames ** 2 * 4 bytes = ATTENTION_BYTES
    matrices, biased = _attention_matrices(config)
    frames = math.sqrt(ATTENTION_BYTES / (4 * matrices * shape.heads))
    fused = CONTRIB in target.domains and not biased
    if fused and config.architecture != "tutorial":
        # 2 * frames * dim multiplications against 4 * dim ** 2 + 2 * dim * feed_forward.
        frames = max(frames, ATTENTION_SHARE * (2 * shape.dim + shape.feed_forward))
    rate = getattr(shape, "frame_rate", None) or config.sample_rate / config.geometry.hop
    seconds = frames * config.squeeze / rate
    return float(math.floor(seconds)) if seconds > 10 else round(seconds, 3)  # noqa: PLR2004


def _attention_matrices(config: ModelConfig) -> tuple[int, bool]:
    """Return how many (heads, frames, frames) are held at once, and whether a bias is added."""
    position = getattr(config.context, "position", None)
    if isinstance(position, SinusoidPositionConfig | DistancePositionConfig):
        # Scores of twice as many distances as frames, and copies of them.
        return 8, True
    if config.context.kind == "disentangled":
        # Scores of queries, of keys, and their sum.
        return 6, True
    return 3, getattr(config.context, "relative_position", None) is not None


def _operator(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type
