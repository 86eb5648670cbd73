"""The families of transformers with a conformer."""

from __future__ import annotations

from typing import ClassVar

from w2v_edge.checkpoints.huggingface.conformer_settings import (
    attention_adapter,
    conformer,
    conv_adapter,
    position,
)
from w2v_edge.checkpoints.huggingface.family import Family
from w2v_edge.checkpoints.settings import SourceSettings
from w2v_edge.model.conformer_config import CausalConformerContextConfig, ConformerContextConfig


class Wav2Vec2Conformer(Family):
    """wav2vec2-Conformer."""

    model_type, architecture = "wav2vec2-conformer", "wav2vec2_conformer"
    class_prefix, tensor_prefix = "Wav2Vec2Conformer", "wav2vec2_conformer"
    pretraining = "objective"
    unused: ClassVar = {r"(.*\.)?encoder\.pos_conv_embed\..*": "no output depends on it"}

    def final_norm(self, settings: SourceSettings) -> bool:  # noqa: ARG002 - not configurable
        """Return True."""
        return True

    def context(self, settings: SourceSettings) -> ConformerContextConfig:
        """Return the conformer."""
        return ConformerContextConfig(
            **conformer(settings),
            position=position(settings, ("relative", "rotary")),
            adapter=conv_adapter(settings),
        )


class Wav2Vec2Bert(Family):
    """w2v-BERT 2.0."""

    model_type, architecture = "wav2vec2-bert", "wav2vec2_bert"
    class_prefix, tensor_prefix = "Wav2Vec2Bert", "wav2vec2_bert"
    log_mel = True
    defaults: ClassVar = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "hidden_act": "swish",
        "hidden_dropout": 0.0,
        "classifier_proj_size": 768,
        "num_adapter_layers": 1,
        "position_embeddings_type": "relative_key",
    }

    def final_norm(self, settings: SourceSettings) -> bool:  # noqa: ARG002 - not configurable
        """Return False."""
        return False

    def context(self, settings: SourceSettings) -> CausalConformerContextConfig:
        """Return the conformer, with an attention adapter if configured."""
        return CausalConformerContextConfig(
            **conformer(settings),
            position=position(settings, ("relative_key", "relative", "rotary")),
            adapter=attention_adapter(settings),
        )
