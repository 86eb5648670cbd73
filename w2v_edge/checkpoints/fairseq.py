"""fairseq's `.pt` files: wav2vec 2.0 and HuBERT, pre-trained or fine-tuned with CTC.

WavLM's own files have the same layout, and s3prl's have it under other keys.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from torch import Tensor

from w2v_edge.checkpoints.converted import Converted
from w2v_edge.checkpoints.dictionary import Dictionary, find_dictionary
from w2v_edge.checkpoints.key_table import (
    KeyMapping,
    convert,
    existing,
    weight_and_bias,
    with_projection,
)
from w2v_edge.checkpoints.restricted_pickle import plain
from w2v_edge.checkpoints.settings import SourceSettings
from w2v_edge.checkpoints.tensors import is_tensors, modern_names
from w2v_edge.errors import CheckpointError, ConfigError
from w2v_edge.model.checkpoint import assemble_empty, fill
from w2v_edge.model.config import (
    ConvLayer,
    CtcHeadConfig,
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

S3PRL = {"task_cfg", "model_cfg", "model_weight"}
"""Keys of a checkpoint that s3prl converted."""

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
}
"""Defaults of fairseq for settings that a checkpoint omits."""

NORMALISATION_EPS = 1e-5
"""fairseq normalises with a layer norm."""

MAX_LAYERS = 64

IGNORED = {
    r"label_embs_concat": "HuBERT's target embeddings",
    r"final_proj\.(weight|bias)": "HuBERT's target prediction",
}
"""Tensors of the pre-training objective that are dropped: reason by pattern, without prefix."""


def recognises(payload: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a file's content is a fairseq checkpoint."""
    if not isinstance(payload, Mapping):
        return False
    s3prl = payload.keys() >= S3PRL
    settings = s3prl or {"args", "cfg"} & payload.keys() != set()
    return settings and is_tensors(payload["model_weight"] if s3prl else payload.get("model"))


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
    if payload.keys() >= S3PRL:
        both = {"model": payload["model_cfg"], "task": payload["task_cfg"]}
        payload = {"cfg": both, "model": payload["model_weight"]}
    tensors = modern_names(payload["model"])
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
    settings.model.require("activation_fn", "gelu")
    if settings.model["extractor_mode"] not in {"default", "layer_norm"}:
        raise settings.model.error("extractor_mode", "'default' or 'layer_norm'")
    layer_normed = settings.model["extractor_mode"] == "layer_norm"
    kind: Literal["group_norm", "layer_norm"] = "layer_norm" if layer_normed else "group_norm"
    wavlm = settings.model["relative_position_embedding"]
    convolutions = _parse_convolutions(path, settings.model["conv_feature_layers"])
    trained = "quantizer.vars" in body
    hubert = "label_embs_concat" in body or "hubert" in str(
        settings.model.values.get("_name", settings.model.values.get("arch", ""))
    )
    return ModelConfig(
        architecture="wavlm" if wavlm else "hubert" if hubert else "wav2vec2",
        sample_rate=_sample_rate(settings),
        feature_encoder=FeatureEncoderConfig(kind, convolutions, bias=settings.model["conv_bias"]),
        quantizer=_quantizer(settings) if trained else None,
        masking=_masking(settings) if "mask_emb" in body else None,
        context=_context(settings),
        objective=_objective(settings) if trained else None,
        normalise=NormalisationConfig(NORMALISATION_EPS) if _normalised(settings) else None,
        head=_head(path, body, dictionary) if ctc else None,
    )


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
    return TransformerContextConfig(
        "pre_norm" if settings.model["layer_norm_first"] else "post_norm",
        dim=settings.model["encoder_embed_dim"],
        layers=settings.model["encoder_layers"],
        heads=settings.model["encoder_attention_heads"],
        feed_forward=settings.model["encoder_ffn_embed_dim"],
        position_kernel=settings.model["conv_pos"],
        position_groups=settings.model["conv_pos_groups"],
        dropout=float(settings.model["dropout"]),
        layer_drop=float(settings.model["encoder_layerdrop"]),
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


def _parse_convolutions(path: Path, text: str) -> tuple[ConvLayer, ...]:
    """Parse layers written as a Python expression: lists of tuples, added and multiplied."""
    try:
        layers = _list(ast.parse(text.strip(), mode="eval").body)
        return tuple(ConvLayer(*layer) for layer in layers)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path}: conv_feature_layers: expected a list of (channels, kernel, stride), found "
            f"{text!r:.80}"
        ) from error


def _list(node: ast.expr) -> list[tuple[int, int, int]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        layers = _list(node.left) + _list(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if type(times) is not int or not 0 <= times <= MAX_LAYERS:
            raise ValueError
        layers = _list(node.left) * times
    else:
        layers = [_layer(x) for x in ast.literal_eval(node)]
    if len(layers) > MAX_LAYERS:
        raise ValueError
    return layers


def _layer(values: Any) -> tuple[int, int, int]:
    channels, kernel, stride = values
    if not all(type(x) is int for x in values):
        raise TypeError
    return channels, kernel, stride


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
