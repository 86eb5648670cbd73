"""The model families of transformers: a class per family, which states its differences.

A family to add is a subclass of `Family` in `FAMILIES`, plus mappings in `names` for tensors that
no other family has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from w2v_edge.checkpoints.huggingface.conformer_families import Wav2Vec2Bert, Wav2Vec2Conformer
from w2v_edge.checkpoints.huggingface.doubts import one_kind
from w2v_edge.checkpoints.huggingface.family import Family
from w2v_edge.checkpoints.huggingface.pooled_heads import pooled_heads
from w2v_edge.checkpoints.settings import SourceSettings
from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import Architecture, RelativePositionConfig, TransformerContextConfig
from w2v_edge.model.sew_config import (
    DisentangledContextConfig,
    SewContextConfig,
    SqueezedContextConfig,
)

CLASSES = {
    "Model": "body",
    "ModelWithFinalProj": "body",
    "ForPreTraining": "pretraining",
    "ForCTC": "ctc",
    "ForSequenceClassification": "utterance",
    "ForAudioFrameClassification": "frame",
    "ForXVector": "xvector",
}
"""Kind of model by the ending of its class's name."""

POOLED = "pooled"
"""Kind of a model with heads that no class of transformers has, by their tensors."""

KINDS = (*dict.fromkeys(CLASSES.values()), POOLED)

PRETRAINING = r"(quantizer|project_q|project_hid|ctc_proj|speaker_proj|layer_norm_for_extract)\..*"
OTHER_TARGETS = r"(final_proj\..*|label_embs_concat|label_embeddings_concat|output_layer\..*)"
XVECTOR = r"(tdnn\..*|objective|feature_extractor)\.(weight|bias)"
HEADS = rf"(lm_head|projector|classifier)\..*|layer_weights|{XVECTOR}"

UNUSED: dict[str, dict[str, str]] = {
    "body": {
        PRETRAINING: "of pre-training",
        OTHER_TARGETS: "predicts the targets of pre-training",
        HEADS: "a head, and the model is read without one",
    },
    "ctc": {
        PRETRAINING: "of pre-training",
        OTHER_TARGETS: "predicts the targets of pre-training",
        rf"projector\..*|classifier\..*|layer_weights|{XVECTOR}": "another head",
    },
    "utterance": {
        PRETRAINING: "of pre-training",
        OTHER_TARGETS: "predicts the targets of pre-training",
        r"lm_head\..*": "another head",
    },
    "frame": {
        PRETRAINING: "of pre-training",
        OTHER_TARGETS: "predicts the targets of pre-training",
        r"lm_head\..*|projector\..*": "another head",
    },
    "xvector": {
        PRETRAINING: "of pre-training",
        OTHER_TARGETS: "predicts the targets of pre-training",
        r"(classifier|objective)\..*": "tells the speakers of training apart",
        r"lm_head\..*": "another head",
    },
    "pretraining": {r"(dropout_features|lm_head)\..*": "not of pre-training"},
    POOLED: {PRETRAINING: "of pre-training", OTHER_TARGETS: "predicts the targets of pre-training"},
}
"""Tensors that inference does not read, by kind of model: reason by pattern."""

NEVER_READ = {
    r"(.*\.)?mask_time_emb_vector": "an early name of the mask vector",
    r"(.*\.)?mask_feature_emb_vector": "an early mask vector",
    r"(.*\.)?masked_spec_embed": "the mask vector",
    r"(.*\.)?position_ids": "indices",
    r"(.*\.)?embed_positions\.(inv_freq|pe)": "follows from the config",
}
"""The same for every kind."""

HEAD_TENSORS = {
    "lm_head.weight": "ctc",
    "quantizer.codevectors": "pretraining",
    "tdnn.0.kernel.weight": "xvector",
    "projector.weight": "utterance",
    "classifier.weight": "frame",
}
"""Kind of model by a tensor that only this kind has."""


class Wav2Vec2(Family):
    """wav2vec 2.0, XLS-R and MMS."""

    model_type, architecture = "wav2vec2", "wav2vec2"
    class_prefix, tensor_prefix = "Wav2Vec2", "wav2vec2"
    pretraining = "objective"

    def context(self, settings: SourceSettings) -> TransformerContextConfig:
        """Return the transformer, with MMS's language adapters if configured."""
        context = self.transformer(settings)
        if context.kind == "post_norm":
            # transformers ignores the setting here: only its pre-norm blocks have these adapters.
            return context
        return replace(context, language_adapter=settings.integer("adapter_attn_dim"))


class Hubert(Family):
    """HuBERT."""

    model_type, architecture = "hubert", "hubert"
    class_prefix, tensor_prefix = "Hubert", "hubert"

    def feature_norm(self, settings: SourceSettings) -> bool:
        """Return whether the features are layer-normed, which is optional here."""
        normed: bool = settings["feat_proj_layer_norm"]
        return normed

    def context(self, settings: SourceSettings) -> TransformerContextConfig:
        """Return the transformer, with a batch norm before positions or adapters if configured."""
        context = replace(self.transformer(settings), adapter=None)
        if context.kind == "pre_norm":
            width = settings.integer("adapter_attn_dim")
            context = replace(context, language_adapter=width)
        normed = settings["conv_pos_batch_norm"]
        return replace(context, position="batch_norm") if normed else context


class WavLM(Family):
    """WavLM."""

    model_type, architecture = "wavlm", "wavlm"
    class_prefix, tensor_prefix = "WavLM", "wavlm"

    def context(self, settings: SourceSettings) -> TransformerContextConfig:
        """Return the transformer, with a relative position bias."""
        relative = RelativePositionConfig(settings["num_buckets"], settings["max_bucket_distance"])
        return replace(self.transformer(settings), relative_position=relative)


class Data2Vec(Family):
    """data2vec (audio)."""

    model_type, architecture = "data2vec-audio", "data2vec"
    class_prefix, tensor_prefix = "Data2VecAudio", "data2vec_audio"

    def encoder_norm(self, settings: SourceSettings) -> str:  # noqa: ARG002 - not configurable
        """Return 'layer'."""
        return "layer"

    def context(self, settings: SourceSettings) -> TransformerContextConfig:
        """Return the transformer, post-norm, with a stack of positional convolutions."""
        return replace(
            self.transformer(settings),
            kind="post_norm",
            position="output_norm",
            position_kernel=settings["conv_pos_kernel_size"],
            position_layers=settings.integer("num_conv_pos_embeddings") or 5,
        )


class UniSpeech(Family):
    """UniSpeech: wav2vec 2.0 under other names, without an adapter at its end."""

    model_type = "unispeech"
    architecture: Architecture = "unispeech"
    class_prefix, tensor_prefix = "UniSpeech", "unispeech"
    pretraining: Literal["", "quantizer", "objective"] = "quantizer"
    unused: ClassVar = {r"(project_q|project_hid|ctc_proj)\..*": "of pre-training"}

    def context(self, settings: SourceSettings) -> TransformerContextConfig:
        """Return the transformer; as in wav2vec 2.0, pre-norm blocks may have adapters."""
        context = replace(self.transformer(settings), adapter=None)
        if context.kind == "post_norm":
            return context
        return replace(context, language_adapter=settings.integer("adapter_attn_dim"))


class UniSpeechSat(UniSpeech):
    """UniSpeech-SAT: the same under another name."""

    model_type, architecture = "unispeech-sat", "unispeech_sat"
    class_prefix, tensor_prefix = "UniSpeechSat", "unispeech_sat"
    # Its class has a quantizer that transformers never runs.
    pretraining = ""


class Sew(Family):
    """SEW: a transformer on means of frames."""

    model_type = "sew"
    architecture: Architecture = "sew"
    class_prefix, tensor_prefix = "SEW", "sew"
    defaults: ClassVar = {
        "conv_dim": [64, *[128] * 4, *[256] * 4, *[512] * 4],
        "conv_kernel": [10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1],
        "conv_stride": [5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
        "squeeze_factor": 2,
    }

    def final_norm(self, settings: SourceSettings) -> bool:  # noqa: ARG002 - not configurable
        """Return False."""
        return False

    def context(self, settings: SourceSettings) -> SewContextConfig:
        """Return the context network."""
        return SqueezedContextConfig(**self.squeezed(settings))

    def squeezed(self, settings: SourceSettings) -> dict[str, Any]:
        """Return what the networks of SEW and SEW-D have in common."""
        block = self.transformer(settings)
        return {
            "dim": block.dim,
            "layers": block.layers,
            "heads": block.heads,
            "feed_forward": block.feed_forward,
            "position_kernel": block.position_kernel,
            "position_groups": block.position_groups,
            "squeeze": settings["squeeze_factor"],
            "dropout": block.dropout,
            "layer_drop": block.layer_drop,
            "norm_eps": block.norm_eps,
            "activation": block.activation,
        }


class SewD(Sew):
    """SEW-D: SEW with disentangled attention."""

    model_type, architecture = "sew-d", "sew_d"
    class_prefix, tensor_prefix = "SEWD", "sew_d"
    defaults: ClassVar = {
        **Sew.defaults,
        "hidden_act": "gelu_python",
        "layerdrop": 0.0,
        "layer_norm_eps": 1e-7,
        "feature_layer_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "max_relative_positions": -1,
        "position_buckets": 256,
        "share_att_key": True,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 0,
    }

    def context(self, settings: SourceSettings) -> DisentangledContextConfig:
        """Return the context network."""
        settings.require("relative_attention", True)
        settings.require("conv_kernel_size", 0)
        norms = [x.strip() for x in settings["norm_rel_ebd"].lower().split("|")]
        furthest = settings["max_relative_positions"]
        # A list, or as in DeBERTa a text such as `c2p|p2c`.
        attends = settings.values.get("pos_att_type", self.defaults["pos_att_type"])
        return DisentangledContextConfig(
            **self.squeezed(settings),
            max_distance=furthest if furthest > 0 else settings["max_position_embeddings"],
            buckets=max(0, settings["position_buckets"]),
            position_keys="c2p" in (attends or ()),
            position_queries="p2c" in (attends or ()),
            shared=settings["share_att_key"],
            position_norm="layer_norm" in norms,
            feature_norm_eps=float(settings["feature_layer_norm_eps"]),
        )


FAMILIES: tuple[Family, ...] = (
    *(Wav2Vec2(), Hubert(), WavLM(), Data2Vec()),
    *(UniSpeech(), UniSpeechSat()),
    *(Sew(), SewD()),
    *(Wav2Vec2Conformer(), Wav2Vec2Bert()),
)


def family_of(path: Path | str, config: Mapping[str, Any]) -> Family:
    """Return the family of a folder by its `config.json`.

    Raises:
        CheckpointError: the family is not supported.
    """
    kind = config.get("model_type")
    for family in FAMILIES:
        if family.model_type == kind:
            return family
    raise CheckpointError(
        f"{path}: model_type {kind!r:.60} is not supported; supported: "
        f"{', '.join(family.model_type for family in FAMILIES)}"
    )


def family_for(architecture: str) -> Family:
    """Return the family of one of our architectures.

    Raises:
        CheckpointError: transformers has no such family.
    """
    for family in FAMILIES:
        if family.architecture == architecture:
            return family
    raise CheckpointError(f"architecture {architecture!r} has no class in transformers")


def model_kind(path: Path | str, config: Mapping[str, Any], names: Collection[str]) -> str:
    """Return the kind of a checkpoint's model, of `KINDS`.

    The kind follows from the class in its config if the tensors of its head are there, or else
    from the names of the tensors.

    Raises:
        CheckpointError: the class is not supported.
    """
    family, classes = family_of(path, config), config.get("architectures")
    shown = [kind for name, kind in HEAD_TENSORS.items() if name in names]
    if pooled_heads(names):
        shown.append(POOLED)
    if not classes:
        kind = shown[0] if shown else "body"
    elif isinstance(classes, list) and all(isinstance(x, str) for x in classes):
        kinds = {name: _kind_of_class(family, name) for name in classes}
        known = [x for x in kinds.values() if x is not None]
        if POOLED in shown and not set(known) & set(shown):
            # A class may have been written into a config without its head.
            kind = POOLED
        elif len(known) < len(kinds):
            raise _unknown_class(path, family, next(x for x in classes if kinds[x] is None))
        else:
            kind = one_kind(path, known, names, HEAD_TENSORS)
    else:
        raise CheckpointError(
            f"{path}: architectures: expected a list of class names, found {classes!r:.60}"
        )
    return "body" if kind == "pretraining" and not family.pretraining else kind


def _kind_of_class(family: Family, name: str) -> str | None:
    found = (kind for ending, kind in CLASSES.items() if name == family.class_prefix + ending)
    return next(found, None)


def _unknown_class(path: Path | str, family: Family, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: class {name!r:.60} is not supported; supported for this model_type: "
        f"{', '.join(family.class_prefix + ending for ending in CLASSES)}; export what is known of "
        f"it: --as {' or '.join(KINDS)}"
    )
