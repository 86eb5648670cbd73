"""torchaudio's state dicts of `Wav2Vec2Model`, which contain no settings.

Sizes follow from the tensors' shapes; other settings are those of the published model of this size,
or are read from a JSON file next to the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeGuard

from torch import Tensor

from w2v_edge.checkpoints.converted import Converted
from w2v_edge.checkpoints.key_table import (
    KeyMapping,
    convert,
    existing,
    weight_and_bias,
)
from w2v_edge.checkpoints.shapes import beside, convolutions, count, shape_of, wrong_key
from w2v_edge.checkpoints.tensors import is_tensors, modern_names, read_json
from w2v_edge.errors import CheckpointError, ConfigError
from w2v_edge.model.checkpoint import assemble_empty, fill
from w2v_edge.model.config import (
    FeatureEncoderConfig,
    ModelConfig,
    NormalisationConfig,
    RelativePositionConfig,
    TransformerContextConfig,
)
from w2v_edge.model.head_config import LOGITS, CtcHeadConfig

TRANSFORMER = "encoder.transformer"
WRAPPED = "model."
"""Prefix of all names in a model of torchaudio's pipelines that normalises the waveform."""

NORMALISATION_EPS = 1e-5
"""torchaudio normalises with a layer norm."""

POSITION = f"{TRANSFORMER}.pos_conv_embed.conv"
NORMED = "parametrizations.weight"

HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}
"""Attention heads by width, in every published model."""

PUBLISHED = {
    (768, "group_norm"),
    (1024, "group_norm"),
    (1024, "layer_norm"),
    (1280, "layer_norm"),
    (1920, "layer_norm"),
}
"""Widths and norms of feature encoders of published models; the second tells where norms are."""

MAX_DISTANCE = 800
"""WavLM's largest relative distance, in frames."""


AUX = ("aux.weight", "aux.bias")
STAR = "*"

FAIRSEQ_ROWS = (1, 2, 3)
"""Outputs of `<pad>`, `</s>` and `<unk>`, which downloaded files have and pipelines cut off."""

ANOTHER_ROW = {28: 31, 32: 35, 35: 35}
"""One more that is cut off, by the number of labels left: VoxPopuli in English, German, Spanish."""

ARGUMENTS = frozenset(
    "extractor_mode extractor_conv_layer_config extractor_conv_bias encoder_embed_dim "
    "encoder_projection_dropout encoder_pos_conv_kernel encoder_pos_conv_groups "
    "encoder_num_layers encoder_num_heads encoder_num_buckets encoder_max_distance "
    "encoder_attention_dropout encoder_ff_interm_features encoder_ff_interm_dropout "
    "encoder_dropout encoder_layer_norm_first encoder_layer_drop aux_num_out".split()
)
"""Arguments of torchaudio's factories."""


def recognises(payload: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Return whether a file's content is such a state dict."""
    return is_tensors(payload) and any(
        f"{prefix}{TRANSFORMER}.layer_norm.weight" in payload for prefix in ("", WRAPPED)
    )


def read_torchaudio(path: Path, payload: Mapping[str, Tensor], *, labels: bool = True) -> Converted:
    """Return the model of a state dict.

    `NAME.json` next to `NAME.pt` may hold the arguments of torchaudio's factory function, and
    `labels` as its pipelines list them.

    Args:
        path: the file, for errors.
        payload: its content.
        labels: whether to read the labels.

    Raises:
        CheckpointError: the tensors are of an unknown model or inconsistent.
    """
    wrapped = all(name.startswith(WRAPPED) for name in payload)
    tensors = modern_names({name.removeprefix(WRAPPED): x for name, x in payload.items()})
    flat = next((name for name, x in tensors.items() if not x.ndim), None)
    if flat is not None and not flat.endswith("num_batches_tracked"):
        raise CheckpointError(f"{path}: tensor {flat!r} is a scalar, expected at least one axis")
    sidecar = beside(path)
    given = {"normalize_waveform": wrapped, **(read_json(sidecar) if sidecar.is_file() else {})}
    _check_given(sidecar, given)
    if not labels:
        given.pop("labels", None)
    tensors, given, cut = _without_unused_rows(tensors, given)
    try:
        config = _config(path, tensors, given)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_agreement(sidecar, config, given)
    empty = assemble_empty(path, config)
    expected = empty.state_dict()
    converted, coverage = convert(path, existing(_rows(config), expected), expected, tensors, {})
    coverage = replace(coverage, ignored={**coverage.ignored, **cut})
    return Converted(fill(path, empty, converted), coverage, tuple(_remarks(config, given)))


def _remarks(config: ModelConfig, given: Mapping[str, Any]) -> Iterator[str]:
    if config.normalise is None:
        yield (
            "a state dict does not specify waveform normalisation: none is applied; if the model "
            'was trained with it, write {"normalize_waveform": true} into NAME.json next to it'
        )
    size = (config.context.dim, config.feature_encoder.kind)
    if "encoder_layer_norm_first" not in given and size not in PUBLISHED:
        first = config.context.kind == "pre_norm"
        yield (
            f"norms are taken to be {'before' if first else 'after'} each layer, which no "
            "published model of this size confirms; if they are not, write "
            f'{{"encoder_layer_norm_first": {str(not first).lower()}}} into NAME.json next to it'
        )


def _without_unused_rows(
    tensors: Mapping[str, Tensor], given: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, str]]:
    """Cut what torchaudio's pipelines cut off a downloaded file: labels of fairseq's dictionary.

    Returns:
        The tensors, the arguments, and the reason by name of what was cut.
    """
    labels, rows = given.get("labels"), len(tensors.get("aux.weight", ()))
    if not isinstance(labels, list) or not rows:
        return dict(tensors), dict(given), {}
    cut: dict[str, str] = {}
    if labels[-1:] == [STAR] and len(labels) != rows:
        labels = labels[:-1]
        cut[f"label {STAR!r}"] = "torchaudio's wildcard, which the model has no output for"
    spare: tuple[int, ...] = FAIRSEQ_ROWS
    if rows - len(labels) == len(FAIRSEQ_ROWS) + 1 and len(labels) in ANOTHER_ROW:
        spare = (*FAIRSEQ_ROWS, ANOTHER_ROW[len(labels)])
    kept = [i for i in range(rows) if i not in spare]
    if len(kept) != len(labels):
        return dict(tensors), {**given, "labels": labels}, cut
    cut[f"outputs {', '.join(map(str, spare))}"] = "labels that torchaudio's pipelines cut off too"
    fewer = {name: x[kept] if name in AUX and len(x) == rows else x for name, x in tensors.items()}
    return fewer, {**given, "labels": labels}, cut


def _check_given(path: Path, given: Mapping[str, Any]) -> None:
    """Check the names of arguments, and the types of booleans."""
    unknown = sorted(given.keys() - ARGUMENTS - {"labels", "normalize_waveform"})
    if unknown:
        raise CheckpointError(
            f"{path}: unknown key {unknown[0]!r:.60}; the keys are: labels, normalize_waveform and "
            "the arguments of torchaudio.models.wav2vec2_model or wavlm_model"
        )
    for key in ("normalize_waveform", "encoder_layer_norm_first"):
        if not isinstance(given.get(key, False), bool):
            raise CheckpointError(
                f"{path}: {key}: expected true or false, found {given[key]!r:.40}"
            )


def _check_agreement(path: Path, config: ModelConfig, given: Mapping[str, Any]) -> None:
    """Check that arguments agree with the tensors."""
    encoder, context = config.feature_encoder, config.context
    assert isinstance(encoder, FeatureEncoderConfig)
    assert isinstance(context, TransformerContextConfig)
    relative = context.relative_position
    facts = {
        "extractor_conv_layer_config": [[x.channels, x.kernel, x.stride] for x in encoder.layers],
        "extractor_conv_bias": encoder.bias,
        "extractor_mode": encoder.kind,
        "encoder_embed_dim": context.dim,
        "encoder_num_layers": context.layers,
        "encoder_pos_conv_kernel": context.position_kernel,
        "encoder_pos_conv_groups": context.position_groups,
        "encoder_ff_interm_features": context.feed_forward,
        "encoder_num_buckets": None if relative is None else relative.buckets,
        "aux_num_out": None if config.head is None else config.head.outputs[LOGITS],
    }
    for key, fact in facts.items():
        value = given.get(key, fact)
        if value != fact:
            raise CheckpointError(
                f"{path}: {key}: expected {fact!r:.60} by the tensors, found {value!r:.60}"
            )


def _config(path: Path, tensors: Mapping[str, Tensor], given: Mapping[str, Any]) -> ModelConfig:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    grouped = "feature_extractor.conv_layers.1.layer_norm.weight" not in shapes
    kind: Literal["group_norm", "layer_norm"] = "group_norm" if grouped else "layer_norm"
    relative = shapes.get(f"{TRANSFORMER}.layers.0.attention.rel_attn_embed.weight")
    aux = shapes.get("aux.weight")
    return ModelConfig(
        architecture="wav2vec2" if relative is None else "wavlm",
        sample_rate=16_000,
        feature_encoder=FeatureEncoderConfig(
            kind,
            convolutions(
                path,
                shapes,
                "feature_extractor.conv_layers.",
                given,
                "extractor_conv_layer_config",
            ),
            bias="feature_extractor.conv_layers.0.conv.bias" in shapes,
        ),
        quantizer=None,
        masking=None,
        context=_context(path, shapes, given, grouped=grouped),
        objective=None,
        normalise=NormalisationConfig(NORMALISATION_EPS) if given["normalize_waveform"] else None,
        head=None if aux is None else _head(path, aux[0], given.get("labels")),
    )


def _head(path: Path, size: int, labels: object) -> CtcHeadConfig:
    """Return the head; the first of torchaudio's labels is the CTC blank."""
    if labels is None:
        return CtcHeadConfig(size, (), 0, None, ())
    texts = isinstance(labels, list) and all(isinstance(x, str) for x in labels)
    if not isinstance(labels, list) or not texts or len(labels) != size:
        raise CheckpointError(
            f"{path.with_suffix('.json')}: labels: expected {size} strings, found {labels!r:.60}"
        )
    delimiter = "|" if "|" in labels else None
    return CtcHeadConfig(size, tuple(labels), 0, delimiter, (labels[0],))


def _context(
    path: Path, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, Any], *, grouped: bool
) -> TransformerContextConfig:
    dim = shape_of(path, shapes, f"{TRANSFORMER}.layer_norm.weight")[0]
    layers = count(shapes, f"{TRANSFORMER}.layers.")
    heads = given.get("encoder_num_heads", HEADS.get(dim))
    if type(heads) is not int:
        raise CheckpointError(
            f"{path}: found width {dim}, which no published model has, so the number of heads "
            "is unknown; write "
            f'{{"encoder_num_heads": ...}} into {path.with_suffix(".json").name} beside it'
        )
    inputs = shape_of(path, shapes, f"{POSITION}.{NORMED}.original1")
    hidden = f"{TRANSFORMER}.layers.0.feed_forward.intermediate_dense.weight"
    relative = shapes.get(f"{TRANSFORMER}.layers.0.attention.rel_attn_embed.weight")
    distance = given.get("encoder_max_distance", MAX_DISTANCE)
    if type(distance) is not int:
        raise wrong_key(path, "encoder_max_distance", "an integer", distance)
    # In every published model with layer norms in its feature encoder, the blocks are pre-norm.
    first = given.get("encoder_layer_norm_first", not grouped)
    return TransformerContextConfig(
        "pre_norm" if first is True else "post_norm",
        dim=dim,
        layers=layers,
        heads=heads,
        feed_forward=shape_of(path, shapes, hidden)[0],
        position_kernel=inputs[2],
        position_groups=max(1, dim // max(1, inputs[1])),
        relative_position=(
            None if relative is None else RelativePositionConfig(relative[0], distance)
        ),
    )


def _rows(config: ModelConfig) -> Iterator[KeyMapping]:
    for i in range(len(config.feature_encoder.layers)):
        ours, theirs = f"feature_encoder.blocks.{i}", f"feature_extractor.conv_layers.{i}"
        yield from weight_and_bias(f"{ours}.conv", f"{theirs}.conv")
        yield from weight_and_bias(f"{ours}.norm", f"{theirs}.layer_norm")
    yield from weight_and_bias("feature_norm", "encoder.feature_projection.layer_norm")
    yield from weight_and_bias("feature_projection", "encoder.feature_projection.projection")
    position = "context_network.position.conv"
    yield KeyMapping(f"{position}.bias", (f"{POSITION}.bias",))
    for part in ("original0", "original1"):
        yield KeyMapping(f"{position}.{NORMED}.{part}", (f"{POSITION}.{NORMED}.{part}",))
    yield from weight_and_bias("context_network.norm", f"{TRANSFORMER}.layer_norm")
    yield KeyMapping(
        "context_network.relative_position.weight",
        (f"{TRANSFORMER}.layers.0.attention.rel_attn_embed.weight",),
    )
    for i in range(config.context.layers):
        yield from _block_rows(config, f"context_network.blocks.{i}", f"{TRANSFORMER}.layers.{i}")
    yield from weight_and_bias("head.classifier", "aux")


def _block_rows(config: ModelConfig, ours: str, theirs: str) -> Iterator[KeyMapping]:
    attention = f"{theirs}.attention"
    if config.architecture == "wavlm":
        yield KeyMapping(f"{ours}.attention.qkv.weight", (f"{attention}.attention.in_proj_weight",))
        yield KeyMapping(f"{ours}.attention.qkv.bias", (f"{attention}.attention.in_proj_bias",))
        yield from weight_and_bias(f"{ours}.attention.output", f"{attention}.attention.out_proj")
        yield from weight_and_bias(
            f"{ours}.attention.gate.linear", f"{attention}.gru_rel_pos_linear"
        )
        yield KeyMapping(f"{ours}.attention.gate.scale", (f"{attention}.gru_rel_pos_const",))
    else:
        yield from weight_and_bias(
            f"{ours}.attention.qkv", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
        )
        yield from weight_and_bias(f"{ours}.attention.output", f"{attention}.out_proj")
    yield from weight_and_bias(f"{ours}.attention_norm", f"{theirs}.layer_norm")
    feed_forward = f"{theirs}.feed_forward"
    yield from weight_and_bias(f"{ours}.feed_forward.expand", f"{feed_forward}.intermediate_dense")
    yield from weight_and_bias(f"{ours}.feed_forward.contract", f"{feed_forward}.output_dense")
    yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
