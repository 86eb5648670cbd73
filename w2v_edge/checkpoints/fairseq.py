"""fairseq's `.pt` files: wav2vec 2.0 and HuBERT, pre-trained or fine-tuned with CTC."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from torch import Tensor

from w2v_edge.checkpoints.key_table import Coverage, Row, convert, present, with_sides
from w2v_edge.checkpoints.restricted_pickle import StandIn, plain
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
    SampledDistractorsConfig,
    TemperatureSchedule,
    TransformerContextConfig,
)
from w2v_edge.model.speech_model import SpeechModel

CTC_PREFIX = "w2v_encoder.w2v_model."
CONVOLUTIONS = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2"
NORMALISATION_EPS = 1e-5
"""fairseq normalises with a layer norm."""

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""The labels that a fairseq dictionary begins with; the first one is the blank."""

OVERWRITE = "#fairseq:overwrite"
"""May stand behind an entry of a dictionary."""

MAX_LAYERS = 64

IGNORED = {
    r"label_embs_concat": "HuBERT's targets",
    r"final_proj\.(weight|bias)": "HuBERT's prediction of its targets",
}
"""Patterns of what may be there beyond the model, once the prefix is off."""


def recognises(payload: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether a file's content is a checkpoint of fairseq."""
    return (
        isinstance(payload, Mapping)
        and {"args", "cfg"} & payload.keys() != set()
        and is_tensors(payload.get("model"))
    )


def read_fairseq(path: Path, payload: Mapping[str, Any]) -> tuple[SpeechModel, Coverage]:
    """Return the model of a checkpoint.

    Raises:
        CheckpointError: settings that are not supported, or do not fit the tensors.
    """
    tensors = modern_names(payload["model"])
    ctc = any(name.startswith(CTC_PREFIX) for name in tensors)
    body = {name.removeprefix(CTC_PREFIX): tensor for name, tensor in tensors.items()}
    settings = _settings(path, payload)
    try:
        config = _config(path, settings, body, _labels(path, payload) if ctc else None, ctc=ctc)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    empty = assemble_empty(path, config)
    expected = empty.state_dict()
    ignored = IGNORED if config.objective is None else {}
    rows = present(_rows(config), expected)
    converted, coverage = convert(path, rows, expected, body, ignored)
    return fill(path, empty, converted), coverage


@dataclass(frozen=True)
class _Settings:
    """What a checkpoint says of its model, and of the task it was trained on."""

    path: Path
    model: Mapping[str, Any]
    task: Mapping[str, Any]

    def __call__(self, key: str, default: Any) -> Any:
        value = self.model.get(key)
        if value is None:
            return default
        number = isinstance(default, float) and isinstance(value, int)
        if not number and type(value) is not type(default):
            expected = type(default).__name__
            raise CheckpointError(f"{self.path}: {key}: expected {expected}, found {value!r:.60}")
        return value


def _settings(path: Path, payload: Mapping[str, Any]) -> _Settings:
    """Find the settings of the model that was pre-trained, wherever this version keeps them."""
    top = plain(payload.get("cfg")) or plain(payload.get("args"))
    if not isinstance(top, dict):
        raise CheckpointError(f"{path}: expected settings in 'cfg' or 'args', found none")
    outer = _inner(top, "model") or top
    inner = _inner(outer, "w2v_args")
    model = _inner(inner, "model") or inner or outer
    return _Settings(path, model, {**outer, **_inner(top, "task")})


def _inner(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = settings.get(key)
    return found if isinstance(found, dict) else {}


def _config(
    path: Path,
    settings: _Settings,
    body: Mapping[str, Tensor],
    labels: tuple[str, ...] | None,
    *,
    ctc: bool,
) -> ModelConfig:
    if settings("activation_fn", "gelu") != "gelu":
        raise CheckpointError(f"{path}: activation_fn: expected 'gelu', the only one supported")
    layer_normed = settings("extractor_mode", "default") == "layer_norm"
    kind: Literal["group_norm", "layer_norm"] = "layer_norm" if layer_normed else "group_norm"
    convolutions = _parse_convolutions(path, settings("conv_feature_layers", CONVOLUTIONS))
    trained = "quantizer.vars" in body
    hubert = "label_embs_concat" in body or "hubert" in str(
        settings.model.get("_name", settings.model.get("arch", ""))
    )
    return ModelConfig(
        architecture="hubert" if hubert else "wav2vec2",
        sample_rate=_sample_rate(settings),
        feature_encoder=FeatureEncoderConfig(kind, convolutions, bias=settings("conv_bias", False)),
        quantizer=_quantizer(settings) if trained else None,
        masking=_masking(settings) if "mask_emb" in body else None,
        context=_context(settings),
        objective=_objective(settings) if trained else None,
        normalise=NormalisationConfig(NORMALISATION_EPS) if _normalised(settings) else None,
        head=_head(path, body, labels) if ctc else None,
    )


def _normalised(settings: _Settings) -> bool:
    said = settings.task.get("normalize")
    if not (said is None or said in (0, 1)):
        raise CheckpointError(
            f"{settings.path}: normalize: expected true or false, found {said!r:.40}"
        )
    return bool(said)


def _sample_rate(settings: _Settings) -> int:
    rate = settings.task.get("sample_rate") or 16_000
    if type(rate) is not int:
        raise CheckpointError(f"{settings.path}: sample_rate: expected Hz, found {rate!r:.40}")
    return rate


def _context(settings: _Settings) -> TransformerContextConfig:
    return TransformerContextConfig(
        "pre_norm" if settings("layer_norm_first", False) else "post_norm",
        dim=settings("encoder_embed_dim", 768),
        layers=settings("encoder_layers", 12),
        heads=settings("encoder_attention_heads", 12),
        feed_forward=settings("encoder_ffn_embed_dim", 3072),
        position_kernel=settings("conv_pos", 128),
        position_groups=settings("conv_pos_groups", 16),
        dropout=float(settings("dropout", 0.1)),
        layer_drop=float(settings("encoder_layerdrop", 0.0)),
    )


def _final_dim(settings: _Settings) -> int:
    return int(settings("final_dim", 0) or settings("encoder_embed_dim", 768))


def _quantizer(settings: _Settings) -> GumbelQuantizerConfig:
    start, end, decay = (2.0, 0.5, 0.999995)
    temperatures = settings.model.get("latent_temp")
    if isinstance(temperatures, list) and len(temperatures) == 3:  # noqa: PLR2004 - as above
        # Whole numbers among them are written as such.
        if not all(type(x) in {int, float} for x in temperatures):
            raise CheckpointError(f"{settings.path}: latent_temp: expected numbers")
        start, end, decay = map(float, temperatures)
    return GumbelQuantizerConfig(
        groups=settings("latent_groups", 2),
        entries=settings("latent_vars", 320),
        vector_dim=int(settings("latent_dim", 0) or _final_dim(settings)),
        temperature=TemperatureSchedule(start, end, decay),
        hard=True,
    )


def _masking(settings: _Settings) -> ProbableSpansConfig:
    length = settings("mask_length", 10)
    return ProbableSpansConfig(min(1.0, settings("mask_prob", 0.65) / max(1, length)), length)


def _objective(settings: _Settings) -> ObjectiveConfig:
    return ObjectiveConfig(
        distractors=SampledDistractorsConfig(max(1, settings("num_negatives", 100))),
        projection_dim=_final_dim(settings),
        logit_temperature=float(settings("logit_temp", 0.1)),
        diversity_weight=0.1,
        penalty_weight=10.0 if settings("extractor_mode", "default") == "default" else 0.0,
        feature_gradient_scale=float(settings("feature_grad_mult", 1.0)),
    )


def _head(path: Path, body: Mapping[str, Tensor], labels: tuple[str, ...] | None) -> CtcHeadConfig:
    weight = body.get("w2v_encoder.proj.weight")
    if weight is None or not weight.ndim:
        raise CheckpointError(f"{path}: missing tensor 'w2v_encoder.proj.weight'")
    if labels is not None and len(labels) != len(weight):
        raise CheckpointError(
            f"{path}: expected a dictionary of {len(weight)} labels, found {len(labels)}"
        )
    delimiter = "|" if labels and "|" in labels else None
    return CtcHeadConfig(len(weight), labels or (), 0, delimiter, SPECIAL if labels else ())


def _labels(path: Path, payload: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the labels, from the checkpoint or from a `dict.*.txt` beside it, if any."""
    state = payload.get("task_state")
    dictionary = state.get("target_dictionary") if isinstance(state, Mapping) else None
    if isinstance(dictionary, StandIn):
        symbols = plain(vars(dictionary).get("symbols"))
        if isinstance(symbols, list) and all(isinstance(x, str) for x in symbols):
            return tuple(symbols)
    beside = sorted(path.parent.glob("dict.*.txt"))
    if not beside:
        return None
    if len(beside) > 1:
        names = ", ".join(x.name for x in beside[:4])
        raise CheckpointError(f"{path}: expected one dictionary beside it, found {names}")
    try:
        lines = beside[0].read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{beside[0]}: expected text in UTF-8") from error
    kept = (line.removesuffix(OVERWRITE).rstrip() for line in lines if line.strip())
    return (*SPECIAL, *(line.rsplit(" ", maxsplit=1)[0] for line in kept))


def _parse_convolutions(path: Path, text: str) -> tuple[ConvLayer, ...]:
    """Read layers written as Python: lists of tuples, added and multiplied."""
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


def _rows(config: ModelConfig) -> Iterator[Row]:
    normed = config.feature_encoder.kind == "layer_norm"
    for i in range(len(config.feature_encoder.layers)):
        ours, theirs = f"feature_encoder.blocks.{i}", f"feature_extractor.conv_layers.{i}"
        yield from with_sides(f"{ours}.conv", f"{theirs}.0")
        yield from with_sides(f"{ours}.norm", f"{theirs}.2.1" if normed else f"{theirs}.2")
    yield from with_sides("feature_norm", "layer_norm")
    yield from with_sides("feature_projection", "post_extract_proj")
    yield Row("masker.vector", ("mask_emb",))
    yield from _quantizer_rows(config)
    position, normed_weight = "context_network.position.conv", "parametrizations.weight"
    yield Row(f"{position}.bias", ("encoder.pos_conv.0.bias",))
    for part in ("original0", "original1"):
        name = f"{normed_weight}.{part}"
        yield Row(f"{position}.{name}", (f"encoder.pos_conv.0.{name}",))
    yield from with_sides("context_network.norm", "encoder.layer_norm")
    for i in range(config.context.layers):
        yield from _block_rows(f"context_network.blocks.{i}", f"encoder.layers.{i}")
    yield from with_sides("head.classifier", "w2v_encoder.proj")


def _quantizer_rows(config: ModelConfig) -> Iterator[Row]:
    quantizer = config.quantizer
    if quantizer is None:
        return
    rows, width = quantizer.groups * quantizer.entries, quantizer.vector_dim // quantizer.groups
    yield from with_sides("quantizer.scorer", "quantizer.weight_proj")
    yield Row("quantizer.codebook.weight", ("quantizer.vars",), (1, rows, width))
    yield from with_sides("target_projection", "project_q")
    yield from with_sides("prediction_projection", "final_proj")


def _block_rows(ours: str, theirs: str) -> Iterator[Row]:
    attention = f"{theirs}.self_attn"
    yield from with_sides(
        f"{ours}.attention.qkv", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    )
    yield from with_sides(f"{ours}.attention.output", f"{attention}.out_proj")
    yield from with_sides(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm")
    yield from with_sides(f"{ours}.feed_forward.expand", f"{theirs}.fc1")
    yield from with_sides(f"{ours}.feed_forward.contract", f"{theirs}.fc2")
    yield from with_sides(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
