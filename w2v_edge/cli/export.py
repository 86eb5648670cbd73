"""`w2v-edge export`: export a checkpoint to a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import click
from click.core import ParameterSource

from w2v_edge import strict
from w2v_edge.bundle import Bundle, read_manifest
from w2v_edge.cli.export_output import (
    print_folders,
    print_language_model,
    print_quantization,
    print_recorder,
    print_report,
    print_source,
)
from w2v_edge.cli.layer_types import LayerNumber, Mix
from w2v_edge.cli.options import (
    FiniteRange,
    Milliseconds,
    force_option,
    head_option,
    json_option,
    list_option,
    reading_options,
    verb,
)
from w2v_edge.cli.output import (
    print_json,
    print_line,
    require,
    stages,
)
from w2v_edge.names import Pooling, Precision, TargetName


@verb("export", short_help="Export a checkpoint to a verified bundle.")
@click.argument("checkpoint")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    show_default="CHECKPOINT-PRECISION beside the checkpoint; for Hub models, here",
    help="Folder of the bundle.",
)
@reading_options
@head_option
@click.option(
    "--no-labels", is_flag=True, help="Leave labels out: a CTC model then gives logits alone."
)
@click.option(
    "--with-lm",
    is_flag=True,
    help="Put the language model of a transformers folder, language_model/, into the bundle, for "
    "w2v-edge transcribe --lm bundle.",
)
@click.option(
    "--layer",
    type=click.IntRange(min=1),
    help="Use the output of this transformer layer as the context, and drop the layers above it.",
)
@list_option(
    "--layers",
    of=LayerNumber(),
    unique=False,
    help="Also export the outputs of these layers, such as 6,9,12; 0 is the first layer's input.",
)
@click.option(
    "--projection",
    is_flag=True,
    help="Also export the checkpoint's final projection of the context, as ContentVec's.",
)
@click.option(
    "--kmeans",
    type=click.Path(path_type=Path),
    help="Centroids (entries, width), .npy, .npz, .safetensors or a flat faiss index: a code is "
    "the centroid nearest to the context vector.",
)
@click.option(
    "--normalise-units",
    is_flag=True,
    help="With --kmeans: give context vectors unit length before the nearest centroid.",
)
@click.option(
    "--mix",
    type=Mix(),
    help="Also export the mean of these layers' outputs, such as mean:11,14,16 or mean:all.",
)
@click.option(
    "--standardise",
    type=click.Path(path_type=Path),
    help="Statistics of each channel, .npz, .safetensors or .pt with mean and std, or mean and "
    "var: the output of --mix, or without it of --layer, minus the mean, over the std.",
)
@click.option(
    "--pool",
    type=click.Choice(get_args(Pooling)),
    help="Also export an embedding per utterance: the mean over frames, or mean and standard "
    "deviation, of the output of --mix, or without it of the context.",
)
@click.option(
    "--frame-rate",
    type=FiniteRange(1, 1000),
    help="Resample the convolutions' output to so many frames per second, as a video has, linearly "
    "over each recording, before its norm and projection. Only whole recordings can then be run.",
)
@click.option(
    "--speaker-threshold",
    type=FiniteRange(-1, 1),
    metavar="COSINE",
    show_default="no verdict",
    help="Cosine of two embeddings from which compare-speakers says that they are of one speaker; "
    "choose it on recordings like yours.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="fp32",
    help="Precision of the weights; in bf16, of OpenVINO's products.",
)
@click.option(
    "--frontend-precision",
    type=click.Choice(("fp32", "int8")),
    show_default="as --precision",
    help="Precision of the convolutions, with --precision int8.",
)
@click.option(
    "--target",
    type=click.Choice(get_args(TargetName)),
    default="cpu",
    help="Runtime that the graphs are made for.",
)
@list_option(
    "--samples",
    of=click.IntRange(min=1),
    show_default="any length",
    help="Fixed lengths of the waveform in samples, such as 16000,160000, for devices that take no "
    "other: graphs without open axes, loops and branches, and weights in one set of files.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    show_default="1",
    help="Utterances in a batch, with --samples.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    show_default="the built-in clips",
    help="Folder of speech for calibration.",
)
@click.option(
    "--min-cosine",
    type=FiniteRange(-1, 1),
    show_default="0.998; 0.999 for bf16, 0.98 for int4",
    help="Minimum cosine between context vectors and those of PyTorch, at the worst decile.",
)
@click.option(
    "--max-code-drift",
    type=FiniteRange(0, 1),
    show_default="0.05; 0.04 for bf16",
    help="Maximum fraction of codes that change; not in fp32.",
)
@click.option(
    "--max-label-change",
    type=FiniteRange(0, 1),
    show_default="any",
    help="Maximum fraction of a CTC model's best labels that change; not in fp32.",
)
@click.option(
    "--max-shift",
    type=Milliseconds(),
    show_default="any",
    help="Maximum time by which its labels move, at the 99th percentile, such as 20ms: word times "
    "suffer before the text does; not in fp32.",
)
@click.option(
    "--require-speedup",
    type=FiniteRange(0),
    default=1.2,
    help="Minimum speed-up of the int8 or bf16 encoder over float32, measured on this machine.",
)
@click.option(
    "--thorough",
    is_flag=True,
    help="Compare more lengths, each as speech, as noise and in a padded batch, and 40 000 codes; "
    "takes several times as long.",
)
@click.option(
    "--accept-ill-conditioned",
    is_flag=True,
    help="Publish the bundle although PyTorch's own float32 is off by over a tenth of an output's "
    "standard deviation, so that a comparison shows little.",
)
@click.option(
    "--no-cache",
    is_flag=True,
    help="Trace anew. Traced graphs, without weights, are kept in this user's cache folder.",
)
@click.option("--explain", is_flag=True, help="Show nodes and size after each graph pass.")
@click.option(
    "--details", is_flag=True, help="Show precision and noise of each layer, not in fp32."
)
@force_option
@json_option
def command(
    checkpoint: str,
    output: Path | None,
    read_with: dict[str, Any],
    heads: tuple[str, ...],
    no_labels: bool,
    with_lm: bool,
    layer: int | None,
    layers: tuple[int | Literal["all"], ...],
    projection: bool,
    kmeans: Path | None,
    normalise_units: bool,
    mix: tuple[int | Literal["all"], ...] | None,
    standardise: Path | None,
    pool: Pooling | None,
    frame_rate: float | None,
    speaker_threshold: float | None,
    precision: Precision,
    frontend_precision: Literal["fp32", "int8"] | None,
    target: TargetName,
    samples: tuple[int, ...],
    batch: int | None,
    calibration: Path | None,
    min_cosine: float | None,
    max_code_drift: float | None,
    max_label_change: float | None,
    max_shift: float | None,
    require_speedup: float,
    thorough: bool,
    accept_ill_conditioned: bool,
    no_cache: bool,
    explain: bool,
    details: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Export CHECKPOINT to a bundle of ONNX graphs, verified against PyTorch.

    CHECKPOINT is a .pt file of w2v-edge, fairseq, fairseq2 (Omnilingual ASR) or torchaudio; a
    folder of Hugging Face transformers (wav2vec 2.0, XLS-R, MMS, HuBERT, WavLM, data2vec,
    UniSpeech, SEW, SEW-D, wav2vec2-Conformer, w2v-BERT 2.0); or a name on the Hub, such as
    facebook/wav2vec2-base-960h. transformers is not needed.

    Every graph is compared with the PyTorch model in float64, on recorded speech and noise, from
    one receptive field to 20 s, alone and in padded batches. If any output exceeds its tolerance,
    nothing is written and the exit code is 3. Where a checkpoint amplifies rounding, PyTorch's own
    float32 is measured too and sets the tolerance.

    --precision int8 computes matrix products in 8 bits. Layers are ranked by their quantization
    noise on calibration audio; the most sensitive ones stay in float until the budgets hold on
    other audio. If they do not hold, a table shows why and the exit code is 3. fp16, for --target
    cuda, is refused if a value overflows. int4 reduces size: linear layers of the context network
    take a sixth of the space, at the speed of fp32. bf16, for --target openvino, leaves the graphs
    in float32: OpenVINO computes them in bfloat16 on processors with instructions for it
    (avx512_bf16 or amx_bf16), which the export needs too, since it measures the result there. int8
    for --target qnn has inputs of 16 bits, for NPUs; its speed is not measured.
    """
    _check_options_used(precision, target)
    require("exporting", "export", "cpu")
    from w2v_edge_export import export
    from w2v_edge_export.graph_passes import PassRecorder
    from w2v_edge_export.pipeline import GateError
    from w2v_edge_export.weight_quantization.search import AccuracyBudgetError

    output = output or default_output(checkpoint, precision)
    recorder = PassRecorder()
    try:
        with stages("export") as shown:
            done = export(
                checkpoint,
                output,
                precision=precision,
                target=target,
                samples=samples,
                batch=batch,
                heads=heads,
                labels=not no_labels,
                with_lm=with_lm,
                layer=layer,
                layers=_layer_numbers(layers),
                mix=_layer_numbers(mix or ()),
                standardise=standardise,
                projection=projection,
                pool=pool,
                kmeans=kmeans,
                normalise_units=normalise_units,
                frame_rate=frame_rate,
                speaker_threshold=speaker_threshold,
                frontend_precision=frontend_precision or "int8",
                calibration=calibration,
                min_cosine=min_cosine,
                max_code_drift=max_code_drift,
                max_label_change=max_label_change,
                max_shift=max_shift,
                require_speedup=require_speedup,
                force=force,
                thorough=thorough,
                accept_ill_conditioned=accept_ill_conditioned,
                use_cache=not no_cache,
                stages=shown,
                recorder=recorder if explain else None,
                read_as=read_with.pop("kind", None),
                **read_with,
            )
    except GateError as error:
        if as_json:
            print_json({"bundle": None, "parity": error.report.to_dict()})
        else:
            print_report(error.report)
        raise
    except AccuracyBudgetError as error:
        if as_json:
            print_json({"bundle": None, "weight_quantization": error.outcome.to_dict()})
        else:
            print_quantization(error.outcome.to_dict())
        raise
    manifest = read_manifest(output)
    report, beside = done.parity, done.ort_format
    quantization = manifest.weight_quantization
    seconds = {stage.name: round(stage.seconds or 0.0, 2) for stage in shown.stages}
    if as_json:
        result = {"bundle": str(output), "parity": report.to_dict(), "seconds": seconds}
        result |= {"decisions": manifest.decisions, "source": strict.to_plain(manifest.source)}
        result |= {"weight_quantization": quantization} if quantization else {}
        result |= {"ort_format": str(beside)} if beside else {}
        result |= {"language_model": strict.to_plain(manifest.language_model)}
        print_json(result | ({"passes": recorder.rows} if explain else {}))
        return
    if explain:
        print_recorder(recorder)
    if quantization:
        print_quantization(
            quantization, details=details, float_frontend=frontend_precision == "fp32"
        )
    print_report(report)
    print_line(manifest.decisions)
    print_source(manifest.source)
    print_language_model(manifest)
    print_folders(Bundle(output, manifest), beside)
    parts = ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items())
    print_line(f"took {sum(seconds.values()):.1f} s: {parts}")


def _layer_numbers(layers: tuple[int | Literal["all"], ...]) -> list[int] | Literal["all"]:
    return "all" if "all" in layers else [x for x in layers if x != "all"]


def default_output(checkpoint: str, precision: str) -> Path:
    """Return the default folder of the bundle for a checkpoint."""
    from w2v_edge.checkpoints.hub import is_hub_name

    path = Path(checkpoint)
    if path.is_dir():
        path = path.resolve()
        return path.parent / f"{path.name or 'model'}-{precision}"
    if path.name in {"model.safetensors", "pytorch_model.bin"}:
        return default_output(str(path.parent), precision)
    if is_hub_name(checkpoint):
        return Path(f"{checkpoint.partition('@')[0].partition('/')[2]}-{precision}")
    return path.with_name(f"{path.stem or 'model'}-{precision}")


IDLE_OPTIONS = {
    "fp32": (
        "frontend_precision",
        "calibration",
        "min_cosine",
        "max_code_drift",
        "max_label_change",
        "max_shift",
        "details",
    ),
    "fp16": ("frontend_precision",),
    "bf16": ("frontend_precision",),
    "int4": ("frontend_precision",),
    "int8": (),
}
"""Options without effect, by precision; --require-speedup has an effect with int8 and bf16."""


ACCELERATORS = {"qnn"}
"""Targets whose int8 products are computed in float32 here, so that no speed is measured."""


def _check_options_used(precision: str, target: str) -> None:
    """Raise a usage error for an option that has no effect with the precision and target."""
    context = click.get_current_context()
    timed, elsewhere = precision in {"int8", "bf16"}, target in ACCELERATORS
    idle = IDLE_OPTIONS[precision] + (() if timed and not elsewhere else ("require_speedup",))
    for name in idle:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            where = f" and --target {target}" if timed and elsewhere else ""
            raise click.UsageError(f"{option} has no effect with --precision {precision}{where}")
