"""fairseq2's `.pt` files of wav2vec 2.0, among them Omnilingual ASR: pre-trained or with CTC.

They hold tensors alone, under `model` or at the top. Sizes follow from the tensors' shapes; heads
are those of fairseq2's architecture of this size (`fairseq2/models/wav2vec2/config.py`).
`NAME.json` beside `NAME.pt` states what differs, by the names of fairseq2's configs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard

from torch import Tensor

from w2v_edge.checkpoints.converted import Converted
from w2v_edge.checkpoints.key_table import KeyMapping, convert, existing, weight_and_bias
from w2v_edge.checkpoints.sentencepiece import find_pieces
from w2v_edge.checkpoints.shapes import (
    Shapes,
    beside,
    convolutions,
    count,
    shape_of,
    wrong_key,
)
from w2v_edge.checkpoints.tensors import is_tensors, modern_names, read_json
from w2v_edge.errors import CheckpointError, ConfigError
from w2v_edge.model.checkpoint import assemble_empty, fill
from w2v_edge.model.config import (
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
from w2v_edge.model.head_config import CtcHeadConfig

FRONTEND = "encoder_frontend"
FIRST = f"{FRONTEND}.post_extract_layer_norm.weight"
WRAPPED = "module."
"""Prefix of names in a file saved from a data-parallel model."""

POSITION = f"{FRONTEND}.pos_encoder.conv"
NORMED = "parametrizations.weight"
NORMALISATION_EPS = 1e-5
"""fairseq2 normalises the waveform with a layer norm."""

HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16, 2304: 32, 2560: 32}
"""Attention heads by width, in every architecture of fairseq2 but those 2048 wide."""

HEADS_2048 = {16: 32, 60: 16, 64: 32, 96: 16, 128: 16}
"""The same by number of layers, of those 2048 wide."""

KEYS = ("num_encoder_attn_heads", "feature_extractor_layer_descs", "normalize_audio")
"""Keys of the JSON file beside a checkpoint."""

OTHERS = {
    r"llama_decoder\..*": (
        "a decoder that is a language model, as in Omnilingual's LLM models",
        "export the CTC model of the same size, such as omniASR-CTC-300M",
    ),
    r"encoder\.(inner\.)?layers\.\d+\.(conv|ffn1)\..*": (
        "Conformer blocks",
        "export the transformers folder of the same model",
    ),
    rf"{FRONTEND}\.pos_encoder\.layers\..*": (
        "a stack of positional convolutions",
        "export a model of another architecture",
    ),
}
"""What is not read: name and way out, by a pattern of its tensors."""

IGNORED = {r"quantizer\.num_updates": "a counter of pre-training"}


def recognises(payload: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a file's content is a fairseq2 checkpoint of wav2vec 2.0."""
    tensors = payload.get("model", payload) if isinstance(payload, Mapping) else None
    return is_tensors(tensors) and (FIRST in tensors or WRAPPED + FIRST in tensors)


def read_fairseq2(path: Path, payload: Mapping[str, Any], *, labels: bool = True) -> Converted:
    """Return the model of a checkpoint.

    Args:
        path: the file; `NAME.json`, and `tokens.txt` or a SentencePiece model, may lie beside it.
        payload: its content.
        labels: whether to read the labels of a CTC head.

    Raises:
        CheckpointError: the model is of a kind that is not supported, a size is unknown, or files
            are damaged or inconsistent.
    """
    found = payload.get("model", payload)
    tensors = modern_names({name.removeprefix(WRAPPED): x for name, x in found.items()})
    _refuse_others(path, tensors)
    given = _read_given(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = _config(path, shapes, given, labels=labels)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    empty = assemble_empty(path, config)
    expected = empty.state_dict()
    converted, coverage = convert(
        path, existing(_rows(config), expected), expected, tensors, IGNORED
    )
    return Converted(fill(path, empty, converted), coverage, tuple(_remarks(path, config, given)))


def _refuse_others(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for pattern, (what, way_out) in OTHERS.items():
        if any(re.fullmatch(pattern, name) for name in tensors):
            raise CheckpointError(f"{path}: found {what}, which is not supported; {way_out}")
    if f"{FRONTEND}.feature_extractor.layers.0.conv.weight" not in tensors:
        raise CheckpointError(
            f"{path}: found a model of log-mel filterbanks, expected one of the waveform; export "
            "a model of another architecture"
        )
    shards = sorted(path.parent.glob("sdp_*.pt")) if path.name.startswith("sdp_") else []
    if len(shards) > 1:
        raise CheckpointError(
            f"{path}: found one of {len(shards)} shards; load the model in fairseq2 and save "
            '{"model": model.state_dict()}'
        )


def _read_given(path: Path) -> dict[str, Any]:
    """Read the JSON file beside a checkpoint, if any."""
    if not beside(path).is_file():
        return {}
    given = read_json(beside(path))
    unknown = sorted(given.keys() - set(KEYS))
    if unknown:
        raise CheckpointError(
            f"{beside(path)}: unknown key {unknown[0]!r:.60}; the keys are: {', '.join(KEYS)}"
        )
    if not isinstance(given.get("normalize_audio", False), bool):
        raise wrong_key(path, "normalize_audio", "true or false", given["normalize_audio"])
    return given


def _config(path: Path, shapes: Shapes, given: Mapping[str, Any], *, labels: bool) -> ModelConfig:
    layers = f"{FRONTEND}.feature_extractor.layers."
    grouped = f"{layers}0.group_norm.weight" in shapes
    kind: Literal["group_norm", "layer_norm"] = "group_norm" if grouped else "layer_norm"
    trained = "quantizer.entries" in shapes
    head = shapes.get("final_proj.weight")
    # As in fairseq, published models normalise the waveform if they norm each convolution.
    normalise = given.get("normalize_audio", not grouped)
    return ModelConfig(
        architecture="wav2vec2",
        sample_rate=16_000,
        feature_encoder=FeatureEncoderConfig(
            kind,
            convolutions(path, shapes, layers, given, "feature_extractor_layer_descs"),
            bias=f"{layers}0.conv.bias" in shapes,
        ),
        quantizer=_quantizer(path, shapes, grouped=grouped) if trained else None,
        masking=ProbableSpansConfig(0.069, 10) if "masker.temporal_mask_embed" in shapes else None,
        context=_context(path, shapes, given),
        objective=_objective(path, shapes, grouped=grouped) if trained else None,
        normalise=NormalisationConfig(NORMALISATION_EPS) if normalise else None,
        head=None if trained or head is None else _head(path, head[0], labels=labels),
    )


def _context(path: Path, shapes: Shapes, given: Mapping[str, Any]) -> TransformerContextConfig:
    dim = shape_of(path, shapes, f"{FRONTEND}.model_dim_proj.weight")[0]
    layers = count(shapes, "encoder.layers.")
    known = HEADS_2048.get(layers) if dim == 2048 else HEADS.get(dim)  # noqa: PLR2004 - a width
    heads = given.get("num_encoder_attn_heads", known)
    if heads is None:
        raise CheckpointError(
            f"{path}: found {layers} layers {dim} wide, which no architecture of fairseq2 has, so "
            'the number of heads is unknown; write {"num_encoder_attn_heads": ...} into '
            f"{beside(path).name} beside it"
        )
    if type(heads) is not int:
        raise wrong_key(path, "num_encoder_attn_heads", "an integer", heads)
    weight = shape_of(path, shapes, f"{POSITION}.{NORMED}.original1")
    return TransformerContextConfig(
        "post_norm" if f"{FRONTEND}.layer_norm.weight" in shapes else "pre_norm",
        dim=dim,
        layers=layers,
        heads=heads,
        feed_forward=shape_of(path, shapes, "encoder.layers.0.ffn.inner_proj.weight")[0],
        position_kernel=weight[2],
        position_groups=max(1, dim // max(1, weight[1])),
    )


def _quantizer(path: Path, shapes: Shapes, *, grouped: bool) -> GumbelQuantizerConfig:
    _, rows, width = shapes["quantizer.entries"]
    vector_dim = shape_of(path, shapes, "final_target_proj.weight")[1]
    groups = max(1, vector_dim // max(1, width))
    return GumbelQuantizerConfig(
        groups=groups,
        entries=rows // groups,
        vector_dim=vector_dim,
        temperature=TemperatureSchedule(2.0, 0.5 if grouped else 0.1, 0.999995),
        hard=True,
    )


def _objective(path: Path, shapes: Shapes, *, grouped: bool) -> ObjectiveConfig:
    return ObjectiveConfig(
        distractors=SampledDistractorsConfig(100),
        projection_dim=shape_of(path, shapes, "final_proj.weight")[0],
        logit_temperature=0.1,
        diversity_weight=0.1,
        penalty_weight=10.0 if grouped else 0.0,
        feature_gradient_scale=0.1 if grouped else 1.0,
    )


def _head(path: Path, size: int, *, labels: bool) -> CtcHeadConfig:
    """Return the head; the blank has index 0, as in `Wav2Vec2AsrModel.generate_hypotheses`."""
    pieces = find_pieces(path.parent) if labels else None
    if pieces is None:
        return CtcHeadConfig(size, (), 0, None, ())
    if len(pieces.labels) != size:
        raise CheckpointError(
            f"{path.parent / pieces.file}: expected {size} pieces, as the model has outputs, found "
            f"{len(pieces.labels)}; put the right file there, or export without labels: --no-labels"
        )
    marked = any(label.startswith("▁") for label in pieces.labels)
    delimiters = [x for x in (" ", "|") if x in pieces.labels and not marked]
    special = dict.fromkeys([pieces.labels[0], *pieces.special])
    return CtcHeadConfig(size, pieces.labels, 0, next(iter(delimiters), None), tuple(special))


def _remarks(path: Path, config: ModelConfig, given: Mapping[str, Any]) -> Iterator[str]:
    if "num_encoder_attn_heads" not in given:
        yield (
            f"a fairseq2 file does not specify attention heads: {config.context.heads}, as in "
            f"fairseq2's architecture of width {config.context.dim}"
        )
    if "normalize_audio" not in given:
        what = "normalised" if config.normalise else "not normalised"
        other = "false" if config.normalise else "true"
        yield (
            f"a fairseq2 file does not specify waveform normalisation: the waveform is {what}, as "
            f"in published models with such convolutions; if it was trained otherwise, write "
            f'{{"normalize_audio": {other}}} into {beside(path).name} next to it'
        )


def _rows(config: ModelConfig) -> Iterator[KeyMapping]:
    for i in range(len(config.feature_encoder.layers)):
        ours, theirs = f"feature_encoder.blocks.{i}", f"{FRONTEND}.feature_extractor.layers.{i}"
        norm = "group_norm" if config.feature_encoder.kind == "group_norm" else "layer_norm"
        yield from weight_and_bias(f"{ours}.conv", f"{theirs}.conv")
        yield from weight_and_bias(f"{ours}.norm", f"{theirs}.{norm}")
    yield from weight_and_bias("feature_norm", f"{FRONTEND}.post_extract_layer_norm")
    yield from weight_and_bias("feature_projection", f"{FRONTEND}.model_dim_proj")
    yield KeyMapping("masker.vector", ("masker.temporal_mask_embed",))
    yield KeyMapping("context_network.position.conv.bias", (f"{POSITION}.bias",))
    for part in (f"{NORMED}.original0", f"{NORMED}.original1"):
        yield KeyMapping(f"context_network.position.conv.{part}", (f"{POSITION}.{part}",))
    post_norm = config.context.kind == "post_norm"
    yield from weight_and_bias(
        "context_network.norm", f"{FRONTEND}.layer_norm" if post_norm else "encoder.layer_norm"
    )
    for i in range(config.context.layers):
        yield from _block_rows(f"context_network.blocks.{i}", f"encoder.layers.{i}")
    yield from weight_and_bias("head.classifier", "final_proj")
    yield from _quantizer_rows(config)


def _block_rows(ours: str, theirs: str) -> Iterator[KeyMapping]:
    attention = f"{theirs}.self_attn"
    yield from weight_and_bias(
        f"{ours}.attention.qkv", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    )
    yield from weight_and_bias(f"{ours}.attention.output", f"{attention}.output_proj")
    yield from weight_and_bias(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm")
    yield from weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.ffn.inner_proj")
    yield from weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.ffn.output_proj")
    yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.ffn_layer_norm")


def _quantizer_rows(config: ModelConfig) -> Iterator[KeyMapping]:
    quantizer = config.quantizer
    if quantizer is None:
        return
    rows, width = quantizer.groups * quantizer.entries, quantizer.vector_dim // quantizer.groups
    yield from weight_and_bias("quantizer.scorer", "quantizer.entry_proj")
    yield KeyMapping("quantizer.codebook.weight", ("quantizer.entries",), (1, rows, width))
    yield from weight_and_bias("target_projection", "final_target_proj")
    yield from weight_and_bias("prediction_projection", "final_proj")
