"""From our config to the settings of transformers."""

from __future__ import annotations

from typing import Any

from w2v_edge.checkpoints.huggingface.classes import CLASS_NAMES, CLASSES, FAMILIES
from w2v_edge.checkpoints.huggingface.settings import CONFIG, PREPROCESSOR, PROBLEMS
from w2v_edge.checkpoints.huggingface.vocabulary import (
    PHONEMES,
    SPECIAL_KEYS,
    TOKENIZER,
    VOCABULARY,
)
from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import (
    CtcHeadConfig,
    FrameHeadConfig,
    ModelConfig,
    SampledDistractorsConfig,
    TransformerContextConfig,
    UtteranceHeadConfig,
)

BEFORE_5 = "4.57.0"
"""A version whose mix of layers has the final norm on the last one."""


def class_kind(config: ModelConfig) -> str:
    """Return what the class of transformers for a model has around its body.

    Raises:
        CheckpointError: there is none.
    """
    context = config.context
    if not isinstance(context, TransformerContextConfig) or config.architecture == "tutorial":
        raise CheckpointError("architecture 'tutorial' has no class in transformers")
    if config.quantizer_input == "context" or not context.final_norm:
        raise CheckpointError(
            "a model that was cut at a layer, or has units by centroids, has no class in "
            "transformers; write the whole model"
        )
    if config.head is not None:
        return config.head.kind
    if config.quantizer is None:
        return "body"
    if config.objective is None or config.architecture != "wav2vec2":
        raise CheckpointError("transformers has a quantizer in pre-training checkpoints only")
    return "pretraining"


def describe(config: ModelConfig, kind: str) -> dict[str, dict[str, Any]]:
    """Return the JSON files for a model, by name; `kind` is that of its class."""
    files = {CONFIG: _config(config, kind), PREPROCESSOR: _preprocessor(config)}
    if isinstance(config.head, CtcHeadConfig) and config.head.labels:
        files |= _tokenizer(config.head)
    return files


def _config(config: ModelConfig, kind: str) -> dict[str, Any]:
    context = config.context
    architecture = config.architecture
    assert isinstance(context, TransformerContextConfig)
    assert architecture != "tutorial"
    layers = config.feature_encoder.layers
    ending = next(ending for ending, x in CLASSES.items() if x == kind)
    settings: dict[str, Any] = {
        "architectures": [CLASS_NAMES[architecture] + ending],
        "model_type": next(x for x, name in FAMILIES.items() if name == architecture),
        "hidden_size": context.dim,
        "num_hidden_layers": context.layers,
        "num_attention_heads": context.heads,
        "intermediate_size": context.feed_forward,
        "hidden_act": "gelu",
        "hidden_dropout": context.dropout,
        "attention_dropout": context.dropout,
        "activation_dropout": context.dropout,
        "layerdrop": context.layer_drop,
        "layer_norm_eps": context.norm_eps,
        "feat_extract_activation": "gelu",
        "feat_extract_norm": config.feature_encoder.kind.removesuffix("_norm"),
        "conv_dim": [layer.channels for layer in layers],
        "conv_kernel": [layer.kernel for layer in layers],
        "conv_stride": [layer.stride for layer in layers],
        "conv_bias": config.feature_encoder.bias,
        "num_feat_extract_layers": len(layers),
        "do_stable_layer_norm": context.kind == "pre_norm",
        "num_conv_pos_embedding_groups": context.position_groups,
        "feat_proj_layer_norm": config.feature_norm,
        "conv_pos_batch_norm": context.position == "batch_norm",
    }
    return {
        **settings,
        **_position(context),
        **_extras(context),
        **_training(config),
        **_head(config),
    }


def _position(context: TransformerContextConfig) -> dict[str, Any]:
    if context.position == "output_norm":
        return {
            "conv_pos_kernel_size": context.position_kernel,
            "num_conv_pos_embeddings": context.position_layers,
        }
    return {"num_conv_pos_embeddings": context.position_kernel}


def _extras(context: TransformerContextConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"adapter_attn_dim": context.language_adapter}
    if context.relative_position is not None:
        found["num_buckets"] = context.relative_position.buckets
        found["max_bucket_distance"] = context.relative_position.max_distance
    if context.adapter is not None:
        found |= {
            "add_adapter": True,
            "output_hidden_size": context.adapter.dim,
            "num_adapter_layers": context.adapter.layers,
            "adapter_kernel_size": context.adapter.kernel,
            "adapter_stride": context.adapter.stride,
        }
    return found


def _training(config: ModelConfig) -> dict[str, Any]:
    """Return what belongs to pre-training; without masking, its vector must not be expected."""
    masking, quantizer, objective = config.masking, config.quantizer, config.objective
    found: dict[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    if masking is not None:
        found["mask_time_length"] = masking.span_frames
        if masking.kind == "probability":
            found["mask_time_prob"] = masking.probability * masking.span_frames
        # Without either, transformers has no place for the vector that masks.
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


def _head(config: ModelConfig) -> dict[str, Any]:
    head = config.head
    if head is None:
        return {}
    if isinstance(head, CtcHeadConfig):
        return {"vocab_size": head.size, "pad_token_id": head.blank}
    found: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(head.labels)},
        "label2id": {label: i for i, label in enumerate(head.labels)},
        "use_weighted_layer_sum": head.weighted_layers,
        "problem_type": next(x for x, meaning in PROBLEMS.items() if meaning == head.meaning),
    }
    if isinstance(head, UtteranceHeadConfig):
        found["classifier_proj_size"] = head.hidden
    assert isinstance(head, UtteranceHeadConfig | FrameHeadConfig)
    if head.normed_mix:
        found["transformers_version"] = BEFORE_5
    return found


def _preprocessor(config: ModelConfig) -> dict[str, Any]:
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
    tokens = {label: i for i, label in enumerate(head.labels)}
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
