"""The order of an export's stages: load, trace, assemble, write, compare, publish."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from w2v_edge.bundle import (
    FILE_NAMES,
    FORMAT_VERSION,
    GOLDEN,
    MANIFEST,
    TIMESTAMPS,
    VOCABULARY,
    Bundle,
    CodebookInfo,
    CtcInfo,
    FileInfo,
    GraphInfo,
    Manifest,
    SourceInfo,
    StatisticsInfo,
    TensorInfo,
    file_info,
)
from w2v_edge.checkpoints import Source, load_source
from w2v_edge.checkpoints.key_table import Coverage
from w2v_edge.errors import ConfigError, ParityError
from w2v_edge.files import refuse_existing, refuse_foreign, replacing_folder
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.model import load
from w2v_edge_export.data_files import DataWriter
from w2v_edge_export.gate import run_gate_of
from w2v_edge_export.golden import write_golden
from w2v_edge_export.graphs import GraphAssembler
from w2v_edge_export.ort_format import FILE_NAMES as ORT_FILE_NAMES
from w2v_edge_export.ort_format import ort_folder, write_ort_format
from w2v_edge_export.parity import Report
from w2v_edge_export.parts import PartObserver, ignore, lower_parts, trace_parts
from w2v_edge_export.progress import Progress
from w2v_edge_export.selection import EVERYTHING, Selection, select
from w2v_edge_export.targets import CONTRIB, Target, load_target, target_names
from w2v_edge_export.weight_quantization.quantize import QuantizationOptions, quantize
from w2v_edge_export.weight_quantization.search import Outcome

TOOLS = ("w2v-edge", "torch", "onnx", "onnx-ir", "onnxscript", "numpy")

ATTENTION_BYTES = 4e9
"""Memory that attention's weights may take for the longest audio recommended."""

ATTENTION_SHARE = 4
"""How many times the cost of a block's other products attention may come to, likewise."""


def export_bundle(
    checkpoint: str | Path,
    output: str | Path,
    *,
    precision: str = "fp32",
    target: str = "cpu",
    language: str | None = None,
    selection: Selection = EVERYTHING,
    quantization: QuantizationOptions | None = None,
    force: bool = False,
    progress: Progress = lambda *_: None,
    observer: PartObserver = ignore,
) -> Report:
    """Export a checkpoint to a bundle that is proven equal to PyTorch.

    Args:
        checkpoint: whatever `w2v_edge.checkpoints.load_source` reads.
        output: the bundle's folder; it appears whole or not at all, and so does the one beside it
            that some targets have.
        precision: of the weights.
        target: name of a target profile.
        language: whose adapter and vocabulary are taken, in a model with several.
        selection: which layers, which quantizer, what beside the context.
        quantization: audio and budgets for precisions other than fp32.
        force: replace an output that is already there.
        progress: hears what is being done.
        observer: hears of every part after every graph pass.

    Returns:
        The parity report, which also is in the manifest.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: an unknown target, or a precision it does not have.
        OutputExistsError: the output is there and `force` is false.
        ParityError: the bundle differs from PyTorch; nothing was written. Its `report` says where.
        AccuracyError: quantized weights break a budget; nothing was written.
        InputError: calibration audio that cannot be used.
    """
    output = Path(output)
    profile = load_target(target)
    if precision not in profile.precisions:
        choices = ", ".join(profile.precisions)
        others = [x for x in target_names() if precision in load_target(x).precisions]
        have = f", or a target that has it: {', '.join(others)}" if others else ""
        raise ConfigError(
            f"target {target!r} has no precision {precision!r}; choose: {choices}{have}"
        )
    refuse_existing(output, force=force)
    refuse_foreign(output, FILE_NAMES | {MANIFEST}, "a bundle")
    if profile.ort_format:
        refuse_existing(ort_folder(output), force=force)
        refuse_foreign(ort_folder(output), ORT_FILE_NAMES, "graphs in ORT format")
    progress("loading the checkpoint", 0.0)
    found = load_source(checkpoint, language)
    selection = replace(selection, language=language)
    model = select(found.model, selection)
    source = _source_info(found)
    options = quantization or QuantizationOptions()
    with replacing_folder(output, force=force) as folder:
        traced = _trace(model, profile, progress)
        outcome: Outcome | None = None
        if precision != "fp32":
            outcome = quantize(model, profile, traced, precision, options, progress)
        plan, half = ({}, None) if outcome is None else (outcome.plan, outcome.half)
        assembler = GraphAssembler(
            model.config, profile, lower_parts(traced, profile, plan, half, observer)
        )
        graphs = _write_graphs(assembler, folder, progress)
        described = partial(
            describe,
            model.config,
            profile,
            precision,
            graphs,
            source=source,
            weight_quantization=None if outcome is None else outcome.to_dict(),
            selection=selection,
        )
        _write_vocabulary(model.config, folder)
        _write_manifest(described(files=_files(folder)), folder)
        progress("writing: golden vectors", 0.33)
        write_golden(model, folder / GOLDEN, None if outcome is None else load(folder))
        manifest = described(files=_files(folder))
        _write_manifest(manifest, folder)
        report = run_gate_of(
            model,
            load(folder),
            lambda what, done: progress(f"comparing: {what}", 0.35 + 0.65 * done),
        )
        if not report.passed:
            raise GateError(report)
        _write_manifest(replace(manifest, parity=report.to_dict()), folder)
        if profile.ort_format:
            progress("converting to ORT format", 1.0)
            with replacing_folder(ort_folder(output), force=force) as beside:
                write_ort_format(Bundle.open(folder), beside)
    return report


def _source_info(found: Source) -> SourceInfo:
    coverage = found.coverage or Coverage(0)
    return SourceInfo(
        found.name,
        found.sha256,
        found.format,
        coverage.training,
        dict(coverage.ignored),
        found.remarks,
    )


def _write_vocabulary(config: ModelConfig, folder: Path) -> None:
    if config.head is None or config.head.kind != "ctc" or not config.head.labels:
        return
    labels = {label: i for i, label in enumerate(config.head.labels)}
    text = json.dumps(labels, indent=1, ensure_ascii=False) + "\n"
    (folder / VOCABULARY).write_text(text, encoding="utf-8", errors="surrogatepass")


class GateError(ParityError):
    """An export that the gate refused; `report` says where the bundle differs."""

    def __init__(self, report: Report) -> None:
        """Summarise the report in one line."""
        super().__init__(f"{report.summary}; no bundle was written")
        self.report = report


def _trace(model: SpeechModel, target: Target, progress: Progress) -> dict[str, ir.Model]:
    count = itertools.count(1)
    return trace_parts(model, target, lambda x: progress(f"tracing: {x}", 0.03 * next(count)))


def _write_graphs(
    assembler: GraphAssembler, folder: Path, progress: Progress
) -> dict[str, GraphInfo]:
    writer = DataWriter(folder)
    graphs = {}
    for name in assembler.names:
        progress(f"writing: {name}", 0.3)
        graph = assembler.build(name)
        graphs[name] = _write_graph(graph, folder, writer, assembler.target, assembler.config)
    return graphs


def _files(folder: Path) -> dict[str, FileInfo]:
    return {x.name: file_info(x) for x in sorted(folder.iterdir()) if x.name != MANIFEST}


def _write_graph(
    graph: ir.Model, folder: Path, writer: DataWriter, target: Target, config: ModelConfig
) -> GraphInfo:
    """Write one graph, its weights apart, and describe it."""
    name = str(graph.graph.name)
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
    path = folder / f"{name}.onnx"
    ir.save(graph, path)
    _assert_within(path, target)
    operators = Counter(_operator(node) for node in graph.graph.all_nodes())
    return GraphInfo(
        inputs=tuple(_tensor(x) for x in graph.graph.inputs),
        outputs=tuple(_tensor(x) for x in graph.graph.outputs),
        data=data,
        operators=dict(sorted(operators.items())),
    )


def _assert_within(path: Path, target: Target) -> None:
    """Check a written graph against the standard and against what the target takes."""
    onnx.checker.check_model(str(path))
    proto = onnx.load(str(path), load_external_data=False)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    assert versions[""] <= 21, versions  # noqa: PLR2004 - what onnxruntime 1.20 reads
    assert proto.ir_version <= 10, proto.ir_version  # noqa: PLR2004 - likewise
    assert set(versions) <= set(target.domains), versions


def describe(
    config: ModelConfig,
    target: Target,
    precision: str,
    graphs: dict[str, GraphInfo],
    files: dict[str, FileInfo],
    source: SourceInfo,
    weight_quantization: dict[str, Any] | None,
    selection: Selection,
) -> Manifest:
    """Write down everything that a program needs to know, but the parity."""
    geometry, quantizer = config.geometry, config.quantizer
    return Manifest(
        format_version=FORMAT_VERSION,
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
        longest_context_seconds=_longest_context(config, target),
        graphs=graphs,
        files=files,
        source=source,
        tools={name: metadata.version(name) for name in TOOLS},
        parity=None,
        weight_quantization=weight_quantization,
        logits_meaning=getattr(config.head, "meaning", None),
        ctc=_ctc(config),
        selection=selection.to_dict(),
        statistics=_statistics(config),
    )


def _logits_axes(config: ModelConfig) -> tuple[str, ...]:
    if config.head is None:
        return ()
    return ("batch", "labels") if config.head.kind == "utterance" else ("batch", "frames", "labels")


def _statistics(config: ModelConfig) -> StatisticsInfo | None:
    encoder = config.feature_encoder
    layer = encoder.layers[0]
    channels = layer.channels if encoder.kind == "group_norm" else 0
    normalised = config.normalise is not None
    if not channels and not normalised:
        return None
    return StatisticsInfo(normalised, channels, layer.kernel, layer.stride)


def _ctc(config: ModelConfig) -> CtcInfo | None:
    head = config.head
    if head is None or head.kind != "ctc":
        return None
    return CtcInfo(
        head.blank, head.word_delimiter, head.special, head.language, head.separator, head.lowercase
    )


def _write_manifest(manifest: Manifest, folder: Path) -> None:
    (folder / MANIFEST).write_text(manifest.sealed().text(), encoding="utf-8")


def _longest_context(config: ModelConfig, target: Target) -> float:
    """Return seconds beyond which attention takes too much memory, or, fused, too much time."""
    shape = config.context
    # 3 * heads * frames ** 2 * 4 bytes = ATTENTION_BYTES
    frames = math.sqrt(ATTENTION_BYTES / (12 * shape.heads))
    fused = CONTRIB in target.domains and getattr(shape, "relative_position", None) is None
    if fused and config.architecture != "tutorial":
        # 2 * frames * dim multiplications against 4 * dim ** 2 + 2 * dim * feed_forward.
        frames = max(frames, ATTENTION_SHARE * (2 * shape.dim + shape.feed_forward))
    seconds = frames * config.geometry.hop / config.sample_rate
    return float(math.floor(seconds)) if seconds > 10 else round(seconds, 3)  # noqa: PLR2004


def _operator(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _tensor(value: ir.Value) -> TensorInfo:
    assert value.shape is not None
    assert value.dtype is not None
    axes = tuple(x if isinstance(x, int) else str(x.value) for x in value.shape)
    return TensorInfo(str(value.name), value.dtype.name.lower(), axes)
