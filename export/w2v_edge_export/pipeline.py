"""The order of an export's stages: load, trace, quantize, lower, write, compare, publish."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from w2v_edge.bundle import (
    GOLDEN,
    Bundle,
    FixedShape,
    GraphInfo,
    SourceInfo,
    is_bundle_file,
)
from w2v_edge.checkpoints import Source
from w2v_edge.checkpoints.key_table import TRAINING_ONLY, Coverage
from w2v_edge.errors import ConfigError, ParityError
from w2v_edge.files import check_absent, check_overwritable, replacing_folder
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.providers.bfloat16 import BF16
from w2v_edge.runtime.model import load
from w2v_edge_export import ExportResult
from w2v_edge_export.bundle_writer import (
    describe,
    longest_context,
    measure_files,
    write_graphs,
    write_manifest,
    write_vocabulary,
)
from w2v_edge_export.fixed_shapes import fixed_shapes
from w2v_edge_export.golden import write_golden
from w2v_edge_export.graph_passes import PassRecorder
from w2v_edge_export.graphs import GraphAssembler
from w2v_edge_export.language_model import check_language_model, write_language_model
from w2v_edge_export.measuring import measuring_execution, measuring_provider
from w2v_edge_export.ort_format import (
    check_ort_size,
    is_ort_file,
    ort_folder,
    write_ort_format,
)
from w2v_edge_export.parity import TOLERANCES, bf16_tolerances, run_parity_gate
from w2v_edge_export.parity_report import ParityReport
from w2v_edge_export.parts import lower_parts, trace_parts
from w2v_edge_export.selection import EVERYTHING, Selection, read_source, select, with_layers
from w2v_edge_export.stages import Stages
from w2v_edge_export.targets import Target, load_target, target_names
from w2v_edge_export.trace_cache import trace_folder
from w2v_edge_export.weight_quantization.search import (
    QuantizationOptions,
    QuantizationResult,
    quantize,
)

STAGES = {
    "load": 1,
    "trace": 10,
    "quantize": 60,
    "write graphs": 2,
    "golden vectors": 3,
    "compare": 25,
    "ORT format": 5,
}
"""Stages of an export with their rough share of its time."""


class GateError(ParityError):
    """A bundle that the parity gate rejected; `report` says where it differs."""

    def __init__(self, report: ParityReport) -> None:
        """Summarise the report in one line."""
        super().__init__(f"{report.summary}; no bundle was written")
        self.report = report


def export_bundle(
    checkpoint: str | Path,
    output: str | Path,
    *,
    precision: str = "fp32",
    target: str = "cpu",
    samples: Sequence[int] = (),
    batch: int | None = None,
    selection: Selection = EVERYTHING,
    processor: str | Path | None = None,
    base: str | Path | None = None,
    with_lm: bool = False,
    quantization: QuantizationOptions | None = None,
    force: bool = False,
    thorough: bool = False,
    accept_ill_conditioned: bool = False,
    use_cache: bool = True,
    stages: Stages | None = None,
    recorder: PassRecorder | None = None,
) -> ExportResult:
    """Export a checkpoint; see `w2v_edge_export.export` for the options and the errors.

    Args:
        checkpoint: anything that `w2v_edge.checkpoints.load_source` reads.
        output: folder of the bundle.
        precision: precision of the weights.
        target: name of a target profile.
        samples: of each fixed shape; empty for open axes.
        batch: utterances in a batch of fixed shape.
        selection: language, labels, layers, units and outputs.
        processor: folder of the preprocessor's and the tokenizer's files.
        base: the model that a LoRA is merged into.
        with_lm: put the language model of a transformers folder into the bundle.
        quantization: calibration audio and budgets, for precisions other than fp32.
        force: replace an existing output.
        thorough: compare the thorough set of cases.
        accept_ill_conditioned: publish a bundle on which float32 allows no verdict.
        use_cache: keep traces in this user's cache.
        stages: records the stages.
        recorder: records the sizes of all parts after each graph pass.
    """
    stages, output = stages or Stages(), Path(output)
    options = quantization or QuantizationOptions()
    profile = _profile(target, precision, samples, batch)
    measuring_execution(precision)
    open_bundle = partial(load, provider=measuring_provider(precision))
    names = [x for x in STAGES if x != "quantize" or precision != "fp32"]
    stages.weights = {x: STAGES[x] for x in names if x != "ORT format" or profile.ort_format}
    with _publishing(output, profile, force=force) as (folder, beside):
        with stages.stage("load"):
            source = read_source(checkpoint, selection, processor, base, language_model=with_lm)
            selection = with_layers(selection, source.model.config)
            model = select(source.model, selection)
            options.budgets.check(model.config)
            if profile.ort_format:
                check_ort_size(_weights(model), precision)
            longest = longest_context(model.config, profile)
            shapes = fixed_shapes(model.config, samples, batch or 1, longest)
        graphs, quantized = _make_graphs(
            model,
            profile,
            shapes,
            precision,
            options,
            folder,
            stages,
            trace_folder() if use_cache else None,
            recorder,
        )
        # Nodes and values of a graph refer to each other: only the collector frees their weights.
        gc.collect()
        write_vocabulary(model.config, folder)
        lm = source.language_model
        if lm is not None:
            write_language_model(lm, folder)
        described = partial(
            describe,
            model.config,
            profile,
            precision,
            graphs,
            weight_quantization=None if quantized is None else quantized.to_dict(),
            selection=selection,
            language_model=None if lm is None else lm.info,
            shapes=shapes,
        )
        info = _source_info(source)
        with stages.stage("golden vectors"):
            write_manifest(described(files=measure_files(folder), source=info), folder)
            with open_bundle(folder) as bundle:
                most = bundle.manifest.most_samples
                own = None if precision in {"fp32", BF16} else bundle
                tolerances = dict(TOLERANCES)
                if precision == BF16:
                    tolerances[BF16] = bf16_tolerances(options.budgets)
                write_golden(model, folder / GOLDEN, own, most, tolerances)
                if lm is not None:
                    remarks = (*info.remarks, *check_language_model(bundle, lm))
                    info = replace(info, remarks=remarks)
            manifest = described(files=measure_files(folder), source=info)
            write_manifest(manifest, folder)
        with stages.stage("compare"), open_bundle(folder) as bundle:
            report = run_parity_gate(
                model,
                bundle,
                stages,
                thorough=thorough,
                accept_ill_conditioned=accept_ill_conditioned,
            )
            if not report.passed:
                raise GateError(report)
            write_manifest(replace(manifest, parity=report.to_dict()), folder)
        if beside is not None:
            with stages.stage("ORT format"):
                write_ort_format(Bundle.open(folder), beside)
    return ExportResult(output, report, None if beside is None else ort_folder(output))


def _make_graphs(
    model: SpeechModel,
    target: Target,
    shapes: tuple[FixedShape, ...],
    precision: str,
    options: QuantizationOptions,
    folder: Path,
    stages: Stages,
    cache: Path | None,
    recorder: PassRecorder | None,
) -> tuple[dict[str, GraphInfo], QuantizationResult | None]:
    """Trace, quantize, lower and write; the copies of the weights are released at the end."""
    with stages.stage("trace"):
        traced = trace_parts(model, target, stages, cache)
    quantized = None
    if precision != "fp32":
        with stages.stage("quantize"):
            quantized = quantize(model, target, traced, precision, options, stages)
    with stages.stage("write graphs"):
        plan, half = ({}, None) if quantized is None else (quantized.plan, quantized.half)
        lowered = lower_parts(traced, target, plan, half, recorder)
        assemblers = [
            GraphAssembler(model.config, target, lowered, shape) for shape in shapes or (None,)
        ]
        return write_graphs(assemblers, folder), quantized


def _profile(target: str, precision: str, samples: Sequence[int], batch: int | None) -> Target:
    """Return the profile of a target that has a precision, of fixed shapes if there are any."""
    profile = load_target(target)
    if precision not in profile.precisions:
        choices = ", ".join(profile.precisions)
        others = [x for x in target_names() if precision in load_target(x).precisions]
        have = f", or a target that has it: {', '.join(others)}" if others else ""
        raise ConfigError(
            f"target {target!r} has no precision {precision!r}; choose: {choices}{have}"
        )
    fixed = profile.fixed()
    if samples and precision not in fixed.precisions:
        why = "it takes operators beyond the standard's"
        if precision == BF16:
            why = "OpenVINO's bfloat16 is less exact there than the budgets allow"
        raise ConfigError(
            f"target {target!r} has no precision {precision!r} with --samples, since {why}; "
            f"choose: {', '.join(fixed.precisions)}, or leave --samples out"
        )
    if profile.shapes == "fixed" and not samples:
        raise ConfigError(
            f"target {target!r} takes graphs of fixed shapes; give the samples of each, such as "
            "--samples 16000,160000"
        )
    largest = profile.largest_batch
    if batch is not None and largest is not None and batch > largest:
        raise ConfigError(f"--batch: target {target!r} takes at most {largest}, found {batch}")
    if batch is not None and not samples:
        raise ConfigError("--batch: a batch has a fixed size with fixed --samples only")
    return fixed if samples else profile


@contextmanager
def _publishing(
    output: Path, profile: Target, *, force: bool
) -> Iterator[tuple[Path, Path | None]]:
    """Yield temporary folders for the bundle and the ORT format, both published or neither.

    The folder in ORT format is None for targets without one.

    Raises:
        OutputExistsError: an output exists and may not be replaced.
    """
    check_absent(output, force=force)
    check_overwritable(output, is_bundle_file, "a bundle")
    if not profile.ort_format:
        with replacing_folder(output, force=force) as folder:
            yield folder, None
        return
    beside = ort_folder(output)
    check_absent(beside, force=force)
    check_overwritable(beside, is_ort_file, "graphs in ORT format")
    token = secrets.token_hex(4)
    new, old = (beside.with_name(f".{beside.name}.{token}{x}") for x in (".part", ".old"))
    moved = published = False
    try:
        with replacing_folder(output, force=force) as folder:
            new.mkdir()
            yield folder, new
            if os.path.lexists(beside):
                beside.rename(old)
                moved = True
            new.rename(beside)
            published = True
    except BaseException:
        if published:
            shutil.rmtree(beside, ignore_errors=True)
        if moved:
            old.rename(beside)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if not moved or os.path.lexists(beside):
            shutil.rmtree(old, ignore_errors=True)


def _weights(model: SpeechModel) -> int:
    return sum(
        x.numel() for name, x in model.named_parameters() if not name.startswith(TRAINING_ONLY)
    )


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
