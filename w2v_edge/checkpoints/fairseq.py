"""fairseq's `.pt` files: wav2vec 2.0, HuBERT and data2vec, pre-trained or fine-tuned with CTC.

WavLM's own files have the same layout, and s3prl's have it under other keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from torch import Tensor

from w2v_edge.checkpoints.converted import Converted
from w2v_edge.checkpoints.convolutions import parse_convolutions
from w2v_edge.checkpoints.dictionary import Dictionary, find_dictionary
from w2v_edge.checkpoints.key_table import (
    KeyMapping,
    convert,
    existing,
    weight_and_bias,
    with_projection,
)
from w2v_edge.checkpoints.restricted_pickle import plain
from w2v_edge.checkpoints.s3prl import NAME as DISTILLER
from w2v_edge.checkpoints.s3prl import as_fairseq
from w2v_edge.checkpoints.settings import SourceSettings
from w2v_edge.checkpoints.tensors import is_tensors, modern_names
from w2v_edge.errors import CheckpointError, ConfigError
from w2v_edge.model.checkpoint import assemble_empty, fill
from w2v_edge.model.config import (
    FeatureEncoderConfig,
    GumbelQuantizerConfig,
    ModelConfig,
    NormalisationConfig,
    ObjectiveConfig,
    ProbableSpansConfig,
    RelativePositionConfig,
    SampledDistractorsConfig,
    TemperatureSchedule,
    TransformerContextConfig,
)
from w2v_edge.model.head_config import CtcHeadConfig

PLACES = {"model": {"cfg", "args"}, "model_weight": {"model_cfg"}, "Distiller": {"Config"}}
"""Where files have their settings, by where they have their tensors."""

TEACHER = "_ema"
OTHERS = {
    "data2vec_multi": "data2vec 2.0",
    "wav2vec": "wav2vec 1.0",
    "multires_hubert": "multi-resolution HuBERT",
}
"""Names of models that are not read."""

CTC_PREFIX = "w2v_encoder.w2v_model."
DEFAULTS: dict[str, Any] = {
    "activation_fn": "gelu",
    "extractor_mode": "default",
    "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2",
    "conv_bias": False,
    "layer_norm_first": False,
    "encoder_embed_dim": 768,
    "encoder_layers": 12,
    "encoder_attention_heads": 12,
    "encoder_ffn_embed_dim": 3072,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "pos_conv_depth": 1,
    "dropout": 0.1,
    "encoder_layerdrop": 0.0,
    "final_dim": 0,
    "latent_groups": 2,
    "latent_vars": 320,
    "latent_dim": 0,
    "mask_length": 10,
    "mask_prob": 0.65,
    "num_negatives": 100,
    "logit_temp": 0.1,
    "feature_grad_mult": 1.0,
    "relative_position_embedding": False,
    "num_buckets": 320,
    "max_distance": 1280,
    "gru_rel_pos": False,
    "layer_type": "transformer",
    "crop_seq_to_multiple": 1,
}
"""Defaults of fairseq for settings that a checkpoint omits."""

NORMALISATION_EPS = 1e-5
"""fairseq normalises with a layer norm."""

IGNORED = {
    r"label_embs_concat": "HuBERT's target embeddings",
    r"final_proj\.(weight|bias)": "predicts the targets of pre-training",
    r"output_layer\..*": "predicts the layers of a teacher",
}
"""Tensors of the pre-training objective that are dropped: reason by pattern, without prefix."""


def recognises(payload: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a file's content is a fairseq checkpoint."""
    if not isinstance(payload, Mapping):
        return False
    for tensors, settings in PLACES.items():
        if tensors in payload and settings & payload.keys():
            found = payload[tensors]
            return isinstance(found, Mapping) and is_tensors(_without_teacher(found))
    return False


def _without_teacher(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors without those of data2vec's teacher, which are a mapping among them."""
    return {name: x for name, x in tensors.items() if not str(name).endswith(TEACHER)}


def read_fairseq(
    path: Path, payload: Mapping[str, Any], *, labels: bool = True, projection: bool = False
) -> Converted:
    """Return the model of a checkpoint.

    Args:
        path: the file; `dict.*.txt` may lie beside it.
        payload: its content.
        labels: whether to read the labels of a CTC head.
        projection: read the final projection of the context.

    Raises:
        CheckpointError: settings are not supported or do not match the tensors.
    """
    try:
        payload = as_fairseq(payload)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    tensors = modern_names(_without_teacher(payload["model"]))
    ctc = any(name.startswith(CTC_PREFIX) for name in tensors)
    body = {name.removeprefix(CTC_PREFIX): tensor for name, tensor in tensors.items()}
    settings = _settings(path, payload)
    dictionary = find_dictionary(path, payload) if ctc and labels else None
    try:
        config = _config(path, settings, body, dictionary, ctc=ctc)
        if projection:
            shapes = {name: tuple(tensor.shape) for name, tensor in body.items()}
            config = with_projection(path, config, shapes)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    empty = assemble_empty(path, config)
    expected = empty.state_dict()
    ignored = IGNORED if config.objective is None else {}
    rows = existing(_rows(config), expected)
    converted, coverage = convert(path, rows, expected, body, ignored)
    remarks = () if dictionary is None else dictionary.remarks
    return Converted(fill(path, empty, converted), coverage, remarks)


@dataclass(frozen=True)
class _Fairseq:
    """Settings of a checkpoint: of the pre-trained model, and of its task."""

    model: SourceSettings
    task: Mapping[str, Any]


def _settings(path: Path, payload: Mapping[str, Any]) -> _Fairseq:
    """Find the settings of the pre-trained model; their place differs by fairseq version."""
    top = plain(payload.get("cfg")) or plain(payload.get("args"))
    if not isinstance(top, dict):
        raise CheckpointError(f"{path}: expected settings in 'cfg' or 'args', found none")
    outer = _inner(top, "model") or top
    inner = _inner(outer, "w2v_args")
    model = _inner(inner, "model") or inner or outer
    return _Fairseq(
        SourceSettings(path, model, DEFAULTS, null_is_default=True),
        {**outer, **_inner(top, "task")},
    )


def _inner(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = settings.get(key)
    return found if isinstance(found, dict) else {}


def _config(
    path: Path,
    settings: _Fairseq,
    body: Mapping[str, Tensor],
    dictionary: Dictionary | None,
    *,
    ctc: bool,
) -> ModelConfig:
    _check_supported(settings)
    if settings.model["extractor_mode"] not in {"default", "layer_norm"}:
        raise settings.model.error("extractor_mode", "'default' or 'layer_norm'")
    layer_normed = settings.model["extractor_mode"] == "layer_norm"
    kind: Literal["group_norm", "layer_norm"] = "layer_norm" if layer_normed else "group_norm"
    wavlm = settings.model["relative_position_embedding"]
    convolutions = parse_convolutions(path, settings.model["conv_feature_layers"])
    trained = "quantizer.vars" in body
    context, name = _context(settings), _name(settings.model)
    stacked = context.position == "output_norm"
    if stacked and (not layer_normed or context.kind == "pre_norm"):
        raise settings.model.error("pos_conv_depth", "1 unless the model is a data2vec")
    hubert = "label_embs_concat" in body or "hubert" in name or name == DISTILLER
    return ModelConfig(
        architecture=(
            "wavlm" if wavlm else "data2vec" if stacked else "hubert" if hubert else "wav2vec2"
        ),
        sample_rate=_sample_rate(settings),
        feature_encoder=FeatureEncoderConfig(kind, convolutions, bias=settings.model["conv_bias"]),
        quantizer=_quantizer(settings) if trained else None,
        masking=_masking(settings) if "mask_emb" in body else None,
        context=context,
        objective=_objective(settings) if trained else None,
        normalise=NormalisationConfig(NORMALISATION_EPS) if _normalised(settings) else None,
        feature_norm=name != DISTILLER,
        head=_head(path, body, dictionary) if ctc else None,
    )


def _name(model: SourceSettings) -> str:
    return str(model.values.get("_name", model.values.get("arch", "")))


def _check_supported(settings: _Fairseq) -> None:
    """Refuse models and settings with another arithmetic."""
    model, weight = settings.model, settings.task.get("blank_weight")
    if weight:
        raise CheckpointError(f"{model.path}: blank_weight: expected 0, found {weight!r:.40}")
    if _name(model) in OTHERS:
        raise CheckpointError(
            f"{model.path}: found a model of {OTHERS[_name(model)]}, which is not supported; "
            "export the transformers folder of a model of another family"
        )
    model.require("activation_fn", "gelu")
    model.require("layer_type", "transformer")
    model.require("crop_seq_to_multiple", 1)


def _normalised(settings: _Fairseq) -> bool:
    said = settings.task.get("normalize")
    if not (said is None or said in (0, 1)):
        raise CheckpointError(
            f"{settings.model.path}: normalize: expected true or false, found {said!r:.40}"
        )
    return bool(said)


def _sample_rate(settings: _Fairseq) -> int:
    rate = settings.task.get("sample_rate") or 16_000
    if type(rate) is not int:
        raise CheckpointError(
            f"{settings.model.path}: sample_rate: expected Hz, found {rate!r:.40}"
        )
    return rate


def _context(settings: _Fairseq) -> TransformerContextConfig:
    relative = None
    if settings.model["relative_position_embedding"]:
        if not settings.model["gru_rel_pos"]:
            raise settings.model.error("gru_rel_pos", "True, as in every published WavLM")
        relative = RelativePositionConfig(
            settings.model["num_buckets"], settings.model["max_distance"]
        )
    depth = settings.model["pos_conv_depth"]
    # The kernels of a stack add up to `conv_pos`.
    kernel = settings.model["conv_pos"]
    kernel = max(3, kernel // depth) if depth > 1 else kernel
    return TransformerContextConfig(
        "pre_norm" if settings.model["layer_norm_first"] else "post_norm",
        dim=settings.model["encoder_embed_dim"],
        layers=settings.model["encoder_layers"],
        heads=settings.model["encoder_attention_heads"],
        feed_forward=settings.model["encoder_ffn_embed_dim"],
        position_kernel=kernel,
        position_groups=settings.model["conv_pos_groups"],
        dropout=float(settings.model["dropout"]),
        layer_drop=float(settings.model["encoder_layerdrop"]),
        position="output_norm" if depth > 1 else "weight_norm",
        position_layers=max(1, depth),
        relative_position=relative,
    )


def _final_dim(settings: _Fairseq) -> int:
    return int(settings.model["final_dim"] or settings.model["encoder_embed_dim"])


def _quantizer(settings: _Fairseq) -> GumbelQuantizerConfig:
    start, end, decay = (2.0, 0.5, 0.999995)
    temperatures = settings.model.values.get("latent_temp")
    if isinstance(temperatures, list) and len(temperatures) == 3:  # noqa: PLR2004 - as above
        # Integral values are pickled as ints.
        if not all(type(x) in {int, float} for x in temperatures):
            raise CheckpointError(f"{settings.model.path}: latent_temp: expected numbers")
        start, end, decay = map(float, temperatures)
    return GumbelQuantizerConfig(
        groups=settings.model["latent_groups"],
        entries=settings.model["latent_vars"],
        vector_dim=int(settings.model["latent_dim"] or _final_dim(settings)),
        temperature=TemperatureSchedule(start, end, decay),
        hard=True,
    )


def _masking(settings: _Fairseq) -> ProbableSpansConfig:
    length = settings.model["mask_length"]
    return ProbableSpansConfig(min(1.0, settings.model["mask_prob"] / max(1, length)), length)


def _objective(settings: _Fairseq) -> ObjectiveConfig:
    return ObjectiveConfig(
        distractors=SampledDistractorsConfig(max(1, settings.model["num_negatives"])),
        projection_dim=_final_dim(settings),
        logit_temperature=float(settings.model["logit_temp"]),
        diversity_weight=0.1,
        penalty_weight=10.0 if settings.model["extractor_mode"] == "default" else 0.0,
        feature_gradient_scale=float(settings.model["feature_grad_mult"]),
    )


def _head(path: Path, body: Mapping[str, Tensor], dictionary: Dictionary | None) -> CtcHeadConfig:
    weight = body.get("w2v_encoder.proj.weight")
    if weight is None or not weight.ndim:
        raise CheckpointError(f"{path}: missing tensor 'w2v_encoder.proj.weight'")
    if dictionary is None:
        return CtcHeadConfig(len(weight), (), 0, None, ())
    labels = dictionary.labels
    if len(labels) != len(weight):
        raise CheckpointError(
            f"{path}: expected a dictionary of {len(weight)} labels, found {len(labels)} in "
            f"{dictionary.where}; put the right one there, or export without labels: --no-labels"
        )
    delimiter = "|" if "|" in labels else None
    return CtcHeadConfig(len(weight), labels, dictionary.blank, delimiter, dictionary.special)


def _rows(config: ModelConfig) -> Iterator[KeyMapping]:
    normed = config.feature_encoder.kind == "layer_norm"
    for i in range(len(config.feature_encoder.layers)):
        ours, theirs = f"feature_encoder.blocks.{i}", f"feature_extractor.conv_layers.{i}"
        yield from weight_and_bias(f"{ours}.conv", f"{theirs}.0")
        yield from weight_and_bias(f"{ours}.norm", f"{theirs}.2.1" if normed else f"{theirs}.2")
    yield from weight_and_bias("feature_norm", "layer_norm")
    yield from weight_and_bias("feature_projection", "post_extract_proj")
    yield KeyMapping("masker.vector", ("mask_emb",))
    yield from _quantizer_rows(config)
    position, normed_weight = "context_network.position.conv", "parametrizations.weight"
    yield KeyMapping(f"{position}.bias", ("encoder.pos_conv.0.bias",))
    for part in ("original0", "original1"):
        name = f"{normed_weight}.{part}"
        yield KeyMapping(f"{position}.{name}", (f"encoder.pos_conv.0.{name}",))
    for i in range(getattr(config.context, "position_layers", 1)):
        ours = f"context_network.position.layers.{i}"
        yield from weight_and_bias(ours, f"encoder.pos_conv.{i}.0")
    yield from weight_and_bias("context_network.norm", "encoder.layer_norm")
    yield KeyMapping(
        "context_network.relative_position.weight",
        ("encoder.layers.0.self_attn.relative_attention_bias.weight",),
    )
    for i in range(config.context.layers):
        yield from _block_rows(f"context_network.blocks.{i}", f"encoder.layers.{i}")
    yield from weight_and_bias("head.classifier", "w2v_encoder.proj")
    yield from weight_and_bias("final_projection", "final_proj")


def _quantizer_rows(config: ModelConfig) -> Iterator[KeyMapping]:
    quantizer = config.quantizer
    if quantizer is None:
        return
    rows, width = quantizer.groups * quantizer.entries, quantizer.vector_dim // quantizer.groups
    yield from weight_and_bias("quantizer.scorer", "quantizer.weight_proj")
    yield KeyMapping("quantizer.codebook.weight", ("quantizer.vars",), (1, rows, width))
    yield from weight_and_bias("target_projection", "project_q")
    yield from weight_and_bias("prediction_projection", "final_proj")


def _block_rows(ours: str, theirs: str) -> Iterator[KeyMapping]:
    attention = f"{theirs}.self_attn"
    yield from weight_and_bias(
        f"{ours}.attention.qkv", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    )
    yield from weight_and_bias(f"{ours}.attention.output", f"{attention}.out_proj")
    yield from weight_and_bias(f"{ours}.attention.gate.linear", f"{attention}.grep_linear")
    yield KeyMapping(f"{ours}.attention.gate.scale", (f"{attention}.grep_a",))
    yield from weight_and_bias(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm")
    yield from weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.fc1")
    yield from weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.fc2")
    yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
