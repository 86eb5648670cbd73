"""Export of a checkpoint to a verified bundle of ONNX graphs.

    from w2v_edge_export import export

    export("ckpt.pt", "bundle/", precision="int8")

PyTorch and the ONNX tools are imported by the call, not with this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from w2v_edge.names import Kind, Pooling, Precision
from w2v_edge_export.stages import Stages

if TYPE_CHECKING:
    from w2v_edge_export.graph_passes import PassRecorder
    from w2v_edge_export.parity_report import ParityReport

__all__ = ["ExportResult", "Stages", "export"]


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        bundle: folder of the bundle.
        parity: report of the parity gate, which the manifest holds too.
        ort_format: folder with the graphs in ORT format; None for targets without one.
    """

    bundle: Path
    parity: ParityReport
    ort_format: Path | None = None


def export(
    checkpoint: str | Path,
    bundle: str | Path,
    *,
    precision: Precision = "fp32",
    target: str = "cpu",
    samples: Sequence[int] = (),
    batch: int | None = None,
    language: str | None = None,
    read_as: Kind | None = None,
    processor: str | Path | None = None,
    base: str | Path | None = None,
    heads: Sequence[str] = (),
    blank: str | None = None,
    labels: bool = True,
    with_lm: bool = False,
    layer: int | None = None,
    layers: Sequence[int] | Literal["all"] = (),
    projection: bool = False,
    mix: Sequence[int] | Literal["all"] = (),
    standardise: str | Path | None = None,
    pool: Pooling | None = None,
    kmeans: str | Path | None = None,
    normalise_units: bool = False,
    frame_rate: float | None = None,
    speaker_threshold: float | None = None,
    frontend_precision: Literal["fp32", "int8"] = "int8",
    calibration: str | Path | None = None,
    min_cosine: float | None = None,
    max_code_drift: float | None = None,
    require_speedup: float = 1.2,
    max_label_change: float | None = None,
    max_shift: float | None = None,
    force: bool = False,
    thorough: bool = False,
    accept_ill_conditioned: bool = False,
    use_cache: bool = True,
    stages: Stages | None = None,
    recorder: PassRecorder | None = None,
) -> ExportResult:
    """Export a checkpoint to a bundle that agrees with PyTorch, or write nothing.

    Args:
        checkpoint: a `.pt` file of this project, a folder or Hub name of a Hugging Face model, or
            a file of fairseq or torchaudio.
        bundle: folder to write, atomically, together with the folder `BUNDLE-ort` that the target
            `mobile` adds.
        precision: precision of the weights; `bf16` for float32 weights whose products OpenVINO
            computes in bfloat16, which is measured here.
        target: name of a target profile: `cpu`, `coreml`, `cuda`, `directml`, `mobile`, `openvino`,
            `qnn` or `web`.
        samples: fixed lengths of the waveform, padding included: each graph is written once for
            each, with no open axis, loop or branch. Empty for graphs of any batch and length.
        batch: fixed number of utterances in a batch, with `samples`; None for 1.
        language: language of the adapter and the vocabulary, for a model with several.
        read_as: what to read a Hugging Face folder as, whatever its class; tensors of anything else
            are left out.
        processor: folder with the files of the preprocessor and the tokenizer, if it is another.
        base: the model that a LoRA folder is merged into; None goes by its config.
        heads: heads of a class that is in no library, each `[NAME=]TENSORS[:WORD...]`: the
            beginning of the names of its tensors (`TENSORS.dense`, `TENSORS.out_proj`), and `mean`,
            `sum` or `max` over frames, and `values`, `softmax` or `sigmoid`.
        blank: the CTC blank, a label or its index, where the files do not say it or are wrong.
        labels: whether to read labels; without them a CTC model gives logits alone.
        with_lm: whether to put the language model of a transformers folder, `language_model/`, into
            the bundle.
        layer: transformer layer whose output becomes the context, from 1; the layers above it are
            dropped. None for all layers.
        layers: further layers, whose outputs the encoder gives; 0 is the first layer's input, `all`
            stands for every one.
        projection: whether the checkpoint's final projection of the context, as ContentVec and
            HuBERT have it, is a further output.
        mix: layers whose outputs' mean is a further output, `mixed`; numbered as `layers`.
        standardise: `.npz`, `.safetensors` or torch file with `mean` and `std`, or `mean` and
            `var`, of each channel: `mixed`, or without `mix` the output of `layer`, minus the mean,
            over the standard deviation. Codes and the embedding are computed from the result, the
            projection is not.
        pool: pooling to one embedding for each utterance, of `mixed` if there is one and of the
            context otherwise: the mean over frames, or with the standard deviation beside it (the
            unbiased one; 0 for a single frame). None for no embedding.
        kmeans: file of centroids (entries, dim), `.npy`, `.npz`, `.safetensors` or a flat faiss
            index; codes are the nearest centroid of each context frame.
        normalise_units: whether context vectors have unit length before the nearest centroid, for
            centroids of such features; the centroids stay as they are.
        frame_rate: Hz that the convolutions' output is resampled to, linearly over each recording
            and before its norm and projection, as for talking heads; codes of features are left
            out. n frames become ceil(n * frame_rate / 50), with the usual hop of 20 ms.
        speaker_threshold: cosine of two embeddings, from -1 to 1, from which `compare-speakers`
            says that they are of one speaker; None for no verdict.
        frontend_precision: precision of the front end's convolutions with `precision="int8"`.
        calibration: folder of speech to calibrate quantized weights on; None for the recordings in
            the package.
        min_cosine: minimum cosine of a context frame with PyTorch's, at the worst decile, from -1
            to 1; None for 0.998, 0.999 with bf16, or 0.98 with int4. Not used in fp32.
        max_code_drift: maximum fraction of codes that differ from PyTorch's, from 0 to 1; None for
            0.05, or 0.04 with bf16. Not used in fp32.
        require_speedup: minimum speed of the int8 or bf16 encoder over float32, as a ratio, here;
            not measured for `qnn`.
        max_label_change: maximum fraction of a CTC model's best labels that change; None for any.
            Not used in fp32.
        max_shift: maximum time in milliseconds by which its labels move, at the 99th percentile;
            None for any. Not used in fp32.
        force: replace an existing bundle.
        thorough: compare more lengths, each as speech, as noise and in a ragged batch, and 40 000
            codes in place of 20 000; takes several times as long.
        accept_ill_conditioned: publish a bundle although the checkpoint amplifies float32 rounding
            so much that PyTorch itself is off by over a tenth of an output's standard deviation.
        use_cache: keep traced graphs in this user's cache folder: another checkpoint of the same
            config is exported faster. They hold no weights.
        stages: records the stages and their seconds, for a progress bar or a log.
        recorder: records the sizes of the graphs after each graph pass.

    Returns:
        The folder of the bundle and the parity report.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: an unknown target, a precision that the target does not have, fixed shapes that
            are missing or too small or large, or a layer, a language, centroids or statistics that
            do not fit the model.
        OutputExistsError: the output exists and `force` is false, or it is not a bundle.
        ParityError: the bundle differs from PyTorch; its `report` says where.
        AccuracyError: quantized weights exceed a budget.
        InputError: centroids, statistics or calibration audio that cannot be used.
        ProviderError: bf16 cannot be computed here, for want of OpenVINO or of instructions.
        MissingExtraError: onnxruntime is not installed.
    """
    from w2v_edge_export.centroids import read_centroids
    from w2v_edge_export.pipeline import export_bundle
    from w2v_edge_export.selection import Selection
    from w2v_edge_export.standardisation import read_channel_statistics
    from w2v_edge_export.weight_quantization.search import (
        DEFAULT_COSINES,
        DEFAULT_DRIFTS,
        Budgets,
        QuantizationOptions,
    )

    if min_cosine is None:
        min_cosine = DEFAULT_COSINES.get(precision, DEFAULT_COSINES["int8"])
    if max_code_drift is None:
        max_code_drift = DEFAULT_DRIFTS.get(precision, DEFAULT_DRIFTS["int8"])
    return export_bundle(
        checkpoint,
        bundle,
        precision=precision,
        target=target,
        samples=tuple(map(int, samples)),
        batch=batch,
        selection=Selection(
            layer=layer,
            layers="all" if layers == "all" else tuple(map(int, layers)),
            mix="all" if mix == "all" else tuple(map(int, mix)),
            statistics=None if standardise is None else read_channel_statistics(Path(standardise)),
            pool=pool,
            centroids=None if kmeans is None else read_centroids(Path(kmeans)),
            unit_length=normalise_units,
            language=language,
            kind=read_as,
            blank=blank,
            no_labels=not labels,
            projection=projection,
            heads=tuple(heads),
            frame_rate=frame_rate,
            speaker_threshold=None if speaker_threshold is None else float(speaker_threshold),
        ),
        processor=processor,
        base=base,
        with_lm=with_lm,
        quantization=QuantizationOptions(
            calibration=None if calibration is None else Path(calibration),
            frontend_precision=frontend_precision,
            budgets=Budgets(
                min_cosine, max_code_drift, require_speedup, max_label_change, max_shift
            ),
        ),
        force=force,
        thorough=thorough,
        accept_ill_conditioned=accept_ill_conditioned,
        use_cache=use_cache,
        stages=stages,
        recorder=recorder,
    )
