"""Writes models as transformers folders.

A model converted from such a folder keeps the JSON files of its origin if they still describe it;
other models get new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_edge.checkpoints.huggingface.classes import PROBLEMS
from w2v_edge.checkpoints.huggingface.conformer_settings import (
    NAMES,
    adapter_values,
    conformer_values,
)
from w2v_edge.checkpoints.huggingface.families import CLASSES, family_for
from w2v_edge.checkpoints.huggingface.folder import FORMAT, JSON_FILES
from w2v_edge.checkpoints.huggingface.names import key_table
from w2v_edge.checkpoints.huggingface.rotary import rotary_tensors, with_rounding
from w2v_edge.checkpoints.huggingface.settings import (
    CONFIG,
    MEL_DEFAULTS,
    PREPROCESSOR,
    model_config,
)
from w2v_edge.checkpoints.huggingface.vocabulary import (
    PHONEMES,
    SPECIAL_KEYS,
    TOKENIZER,
    VOCABULARY,
)
from w2v_edge.checkpoints.key_table import revert
from w2v_edge.checkpoints.tensors import SAFETENSORS
from w2v_edge.errors import CheckpointError, MissingExtraError
from w2v_edge.files import check_overwritable, replacing_folder
from w2v_edge.model.config import (
    LogMelConfig,
    ModelConfig,
    QuerySoftmaxContextConfig,
    SampledDistractorsConfig,
    TransformerContextConfig,
)
from w2v_edge.model.head_config import (
    CtcHeadConfig,
    Meaning,
    PooledHeadConfig,
    UtteranceHeadConfig,
    XVectorHeadConfig,
)
from w2v_edge.model.sew_config import DisentangledContextConfig, SewContextConfig
from w2v_edge.model.speech_model import SpeechModel

NO_CLASS = "ForSpeechClassification"
"""Ending of the name of a class that transformers lacks, as recipes with pooled heads call it."""

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}

NORMED_MIX_VERSION = "4.57.0"
"""A version whose mix of layers applies the final norm to the last hidden state."""


def write_folder(model: SpeechModel, folder: Path, *, force: bool = False) -> None:
    """Write `model` to a new folder atomically.

    Raises:
        CheckpointError: transformers has no class for this model.
        OutputExistsError: the folder exists and `force` is false, or it has unrelated files.
    """
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtraError("writing safetensors", "safetensors", "export") from error
    check_overwritable(folder, {*JSON_FILES, SAFETENSORS}.__contains__, "a transformers folder")
    kind = _class_kind(model.config)
    state = model.state_dict()
    prefix = "" if kind == "body" else f"{family_for(model.config.architecture).tensor_prefix}."
    tensors = revert(key_table(model.config, state, prefix), state)
    tensors |= rotary_tensors(model.config, prefix)
    files = _original(model, tensors, prefix) or _describe(model.config, kind)
    with replacing_folder(folder, force=force) as temporary:
        for name, content in files.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (temporary / name).write_text(text, encoding="utf-8")
        original = _restore_types(model.origin or {}, tensors)
        save_file(original, temporary / SAFETENSORS, metadata={"format": "pt"})


def _original(
    model: SpeechModel, tensors: Mapping[str, Tensor], prefix: str
) -> dict[str, Any] | None:
    """Return the JSON files of a model's origin if they still describe it."""
    origin = model.origin or {}
    if origin.get("format") != FORMAT or not isinstance(origin.get("files"), Mapping):
        return None
    language = origin.get("language")
    files = dict(origin["files"])
    if language is not None and TOKENIZER in files:
        files[TOKENIZER] = {**files[TOKENIZER], "target_lang": language}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = model_config("origin", files, shapes, language)
        same = with_rounding("origin", config, tensors, prefix) == model.config
    except (CheckpointError, KeyError, TypeError, AttributeError):
        return None
    return files if same else None


def _restore_types(origin: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors back to the types of their origin where this is lossless."""
    given = {}
    for name, tensor in tensors.items():
        dtype = DTYPES.get(origin.get("types", {}).get(name), tensor.dtype)
        smaller = tensor.to(dtype)
        given[name] = smaller if torch.equal(smaller.to(tensor.dtype), tensor) else tensor
    return given


def _class_kind(config: ModelConfig) -> str:
    """Return the kind of the transformers class for a model, a value of `CLASSES`.

    Raises:
        CheckpointError: there is no such class.
    """
    context = config.context
    if isinstance(context, QuerySoftmaxContextConfig):
        raise CheckpointError("architecture 'tutorial' has no class in transformers")
    if config.quantizer_input == "context" or not getattr(context, "final_norm", True):
        raise CheckpointError(
            "found a model that was cut at a layer or has k-means units, which has no class in "
            "transformers; write the whole model"
        )
    if config.head is not None:
        return config.head.kind
    if config.quantizer is None:
        return "body"
    if config.objective is None or family_for(config.architecture).pretraining != "objective":
        raise CheckpointError(
            "found a quantizer without the rest of pre-training, which no class has; write the "
            "body: --as body"
        )
    return "pretraining"


def _describe(config: ModelConfig, kind: str) -> dict[str, dict[str, Any]]:
    """Return new JSON files for a model of a kind, by name."""
    files = {CONFIG: _config(config, kind), PREPROCESSOR: _preprocessor(config)}
    if isinstance(config.head, CtcHeadConfig) and config.head.labels:
        files |= _tokenizer(config.head)
    return files


def _config(config: ModelConfig, kind: str) -> dict[str, Any]:
    context = config.context
    family = family_for(config.architecture)
    if isinstance(context, QuerySoftmaxContextConfig):
        raise CheckpointError("architecture 'tutorial' has no class in transformers")
    ending = next((ending for ending, x in CLASSES.items() if x == kind), NO_CLASS)
    settings: dict[str, Any] = {
        "architectures": [family.class_prefix + ending],
        "model_type": family.model_type,
        "hidden_size": context.dim,
        "num_hidden_layers": context.layers,
        "num_attention_heads": context.heads,
        "intermediate_size": context.feed_forward,
        "hidden_dropout": context.dropout,
        "attention_dropout": context.dropout,
        "activation_dropout": context.dropout,
        "layerdrop": context.layer_drop,
        "layer_norm_eps": context.norm_eps,
    }
    if isinstance(context, TransformerContextConfig):
        settings |= _transformer(context)
    elif isinstance(context, SewContextConfig):
        settings |= _sew(context)
    else:
        settings |= conformer_values(context)
    return {
        **settings,
        **_feature_encoder(config),
        **_training(config),
        **_head_settings(config),
    }


def _sew(context: SewContextConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "hidden_act": NAMES.get(context.activation, context.activation),
        "num_conv_pos_embeddings": context.position_kernel,
        "num_conv_pos_embedding_groups": context.position_groups,
        "squeeze_factor": context.squeeze,
    }
    if isinstance(context, DisentangledContextConfig):
        attends = (("c2p", context.position_keys), ("p2c", context.position_queries))
        found |= {
            "relative_attention": True,
            "max_relative_positions": context.max_distance,
            "max_position_embeddings": context.max_distance,
            "position_buckets": context.buckets or -1,
            "pos_att_type": [name for name, used in attends if used],
            "share_att_key": context.shared,
            "norm_rel_ebd": "layer_norm" if context.position_norm else "none",
            "feature_layer_norm_eps": context.feature_norm_eps,
        }
    return found


def _feature_encoder(config: ModelConfig) -> dict[str, Any]:
    encoder = config.feature_encoder
    if isinstance(encoder, LogMelConfig):
        return {"feature_projection_input_dim": encoder.channels}
    return {
        "feat_extract_activation": "gelu",
        "feat_extract_norm": encoder.kind.removesuffix("_norm"),
        "conv_dim": [layer.channels for layer in encoder.layers],
        "conv_kernel": [layer.kernel for layer in encoder.layers],
        "conv_stride": [layer.stride for layer in encoder.layers],
        "conv_bias": encoder.bias,
        "num_feat_extract_layers": len(encoder.layers),
        "feat_proj_layer_norm": config.feature_norm,
    }


def _transformer(context: TransformerContextConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "hidden_act": NAMES.get(context.activation, context.activation),
        "do_stable_layer_norm": context.kind == "pre_norm",
        "num_conv_pos_embedding_groups": context.position_groups,
        "conv_pos_batch_norm": context.position == "batch_norm",
        "num_conv_pos_embeddings": context.position_kernel,
        "adapter_attn_dim": context.language_adapter,
        **adapter_values(context.adapter),
    }
    if context.position == "output_norm":
        found["conv_pos_kernel_size"] = context.position_kernel
        found["num_conv_pos_embeddings"] = context.position_layers
    if context.relative_position is not None:
        found["num_buckets"] = context.relative_position.buckets
        found["max_bucket_distance"] = context.relative_position.max_distance
    return found


def _training(config: ModelConfig) -> dict[str, Any]:
    """Return the settings of pre-training; without masking there is no mask vector."""
    masking, quantizer, objective = config.masking, config.quantizer, config.objective
    found: dict[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    if masking is not None:
        found["mask_time_length"] = masking.span_frames
        if masking.kind == "probability":
            found["mask_time_prob"] = masking.probability * masking.span_frames
        # With both probabilities 0, transformers has no mask vector.
        found["mask_feature_prob"] = 0.0 if found["mask_time_prob"] else 0.05
    if quantizer is not None and objective is not None:
        found |= {
            "num_codevector_groups": quantizer.groups,
            "num_codevectors_per_group": quantizer.entries,
            "codevector_dim": quantizer.vector_dim,
            "proj_codevector_dim": objective.projection_dim,
            "contrastive_logits_temperature": objective.logit_temperature,
            "diversity_loss_weight": objective.diversity_weight,
        }
        if isinstance(objective.distractors, SampledDistractorsConfig):
            found["num_negatives"] = objective.distractors.count
    return found


def _head_settings(config: ModelConfig) -> dict[str, Any]:
    head = config.head
    if head is None:
        return {}
    if isinstance(head, CtcHeadConfig):
        return {"vocab_size": head.size, "pad_token_id": head.blank}
    if isinstance(head, PooledHeadConfig):
        return _pooled_settings(head)
    if isinstance(head, XVectorHeadConfig):
        return _xvector_settings(head)
    found: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(head.labels)},
        "label2id": {label: i for i, label in enumerate(head.labels)},
        "use_weighted_layer_sum": head.weighted_layers,
        "problem_type": _problem(head.meaning),
    }
    if isinstance(head, UtteranceHeadConfig):
        found["classifier_proj_size"] = head.hidden
    if head.normed_mix:
        found["transformers_version"] = NORMED_MIX_VERSION
    return found


def _pooled_settings(head: PooledHeadConfig) -> dict[str, Any]:
    labels = [label for branch in head.branches for label in branch.labels]
    found: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "pooling_mode": head.pooling,
    }
    if head.meaning is not None:
        found["problem_type"] = _problem(head.meaning)
    return found


def _xvector_settings(head: XVectorHeadConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tdnn_dim": [layer.channels for layer in head.layers],
        "tdnn_kernel": [layer.kernel for layer in head.layers],
        "tdnn_dilation": [layer.dilation for layer in head.layers],
        "xvector_output_dim": head.size,
        "use_weighted_layer_sum": head.weighted_layers,
    }
    return found | ({"transformers_version": NORMED_MIX_VERSION} if head.normed_mix else {})


def _problem(meaning: Meaning) -> str:
    return next(x for x, of in PROBLEMS.items() if of == meaning)


def _preprocessor(config: ModelConfig) -> dict[str, Any]:
    if isinstance(config.feature_encoder, LogMelConfig):
        bins = config.feature_encoder.bins
        return {
            **MEL_DEFAULTS,
            "num_mel_bins": bins,
            "feature_size": bins,
            "padding_value": 0.0,
            "return_attention_mask": True,
        }
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config.sample_rate,
        "do_normalize": config.normalise is not None,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": config.feature_encoder.kind == "layer_norm",
    }


def _tokenizer(head: CtcHeadConfig) -> dict[str, dict[str, Any]]:
    tokens = {label: i for i, label in enumerate(head.labels) if label}
    named = dict.fromkeys(SPECIAL_KEYS)
    named["pad_token"] = head.labels[head.blank]
    known = {"<s>": "bos_token", "</s>": "eos_token", "<unk>": "unk_token", "[UNK]": "unk_token"}
    for label in head.special:
        if label in known:
            named[known[label]] = label
    tokenizer = {
        "tokenizer_class": PHONEMES if head.separator else "Wav2Vec2CTCTokenizer",
        "word_delimiter_token": head.word_delimiter,
        "do_lower_case": head.lowercase,
        **named,
    }
    if head.language is not None:
        tokenizer["target_lang"] = head.language
    return {
        VOCABULARY: tokens if head.language is None else {head.language: tokens},
        TOKENIZER: tokenizer,
    }
