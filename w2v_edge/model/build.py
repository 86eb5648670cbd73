"""Builds an initialised model from a configuration."""

from __future__ import annotations

import torch
from torch import nn

from w2v_edge.model.adapters import ConvAdapter
from w2v_edge.model.attention_adapter import AttentionAdapter
from w2v_edge.model.config import (
    FeatureEncoderConfig,
    LogMelConfig,
    ModelConfig,
    QuerySoftmaxContextConfig,
    TransformerContextConfig,
)
from w2v_edge.model.conformer import CausalConformerContextNetwork, ConformerContextNetwork
from w2v_edge.model.conformer_config import (
    AnyConformerConfig,
    CausalConformerContextConfig,
    ConformerContextConfig,
)
from w2v_edge.model.feature_encoder import FEATURE_ENCODERS, FeatureEncoder
from w2v_edge.model.heads import build_head
from w2v_edge.model.initialisation import initialise
from w2v_edge.model.masking import MASKERS
from w2v_edge.model.mel import LogMelFeatureEncoder
from w2v_edge.model.quantizer import QUANTIZERS
from w2v_edge.model.sew import DisentangledContextNetwork, SqueezedContextNetwork
from w2v_edge.model.sew_config import DisentangledContextConfig, SewContextConfig
from w2v_edge.model.speech_model import SpeechModel, TutorialModel, Wav2Vec2Model
from w2v_edge.model.standardisation import Standardisation
from w2v_edge.model.transformer import (
    CONTEXT_NETWORKS,
    ContextNetwork,
    QuerySoftmaxContextNetwork,
)


def build_model(config: ModelConfig, *, seed: int | None = 0) -> SpeechModel:
    """Build the model of `config` with weights drawn from `seed`.

    torch's global generator is not used. With `seed=None` the weights are uninitialised memory, for
    a checkpoint to fill.
    """
    # On the meta device torch skips its own initialisation, which would take seconds.
    with torch.device("meta"):
        model = assemble(config)
    model = model.to_empty(device="cpu")
    if seed is not None:
        initialise(model, torch.Generator().manual_seed(seed))
    return model


def assemble(config: ModelConfig) -> SpeechModel:
    """Compose the parts of `config`, registered in the order of the data flow."""
    if isinstance(config.context, QuerySoftmaxContextConfig):
        return _tutorial(config, config.context)
    return _wav2vec2(config, config.context)


def _tutorial(config: ModelConfig, context: QuerySoftmaxContextConfig) -> TutorialModel:
    assert config.quantizer is not None
    assert config.masking is not None
    assert config.objective is not None
    channels = config.feature_encoder.channels
    return TutorialModel(
        config,
        feature_encoder=_feature_encoder(config.feature_encoder),
        quantizer=QUANTIZERS[config.quantizer.kind](channels, config.quantizer),
        masker=MASKERS[config.masking.kind](channels, config.masking),
        context_network=QuerySoftmaxContextNetwork(channels, context),
        projection=nn.Linear(context.dim, config.objective.projection_dim),
    )


def _wav2vec2(
    config: ModelConfig,
    context: TransformerContextConfig | SewContextConfig | AnyConformerConfig,
) -> Wav2Vec2Model:
    channels = config.feature_encoder.channels
    quantizer, objective = config.quantizer, config.objective
    inputs = context.output_dim if config.quantizer_input == "context" else channels
    masking = config.masking
    # SEW projects features only to another width.
    projected = not isinstance(context, SewContextConfig) or channels != context.dim
    norm_eps = getattr(context, "feature_norm_eps", context.norm_eps)
    return Wav2Vec2Model(
        config,
        feature_encoder=_feature_encoder(config.feature_encoder),
        feature_norm=nn.LayerNorm(channels, eps=norm_eps) if config.feature_norm else None,
        quantizer=None if quantizer is None else QUANTIZERS[quantizer.kind](inputs, quantizer),
        target_projection=(
            nn.Linear(quantizer.vector_dim, objective.projection_dim)
            if objective is not None and quantizer is not None
            else None
        ),
        feature_projection=nn.Linear(channels, context.dim) if projected else None,
        masker=None if masking is None else MASKERS[masking.kind](context.dim, masking),
        context_network=_context_network(context),
        adapter=_adapter(context),
        prediction_projection=(
            None if objective is None else nn.Linear(context.dim, objective.projection_dim)
        ),
        head=(
            None
            if config.head is None
            else build_head(_head_width(config), context.layers, config.head)
        ),
        final_projection=(
            None
            if config.outputs.projected is None
            else nn.Linear(context.output_dim, config.outputs.projected)
        ),
        standardisation=(
            None if config.outputs.standardised is None else Standardisation(context.dim)
        ),
        dropout=nn.Dropout(context.dropout),
    )


def _head_width(config: ModelConfig) -> int:
    """Return the channels that the head reads: a mix of hidden states precedes an adapter."""
    mixed = getattr(config.head, "weighted_layers", False)
    return config.context.dim if mixed else config.context.output_dim


def _feature_encoder(config: FeatureEncoderConfig | LogMelConfig) -> FeatureEncoder:
    if isinstance(config, LogMelConfig):
        return LogMelFeatureEncoder(config)
    return FEATURE_ENCODERS[config.kind](config)


def _context_network(
    context: TransformerContextConfig | SewContextConfig | AnyConformerConfig,
) -> ContextNetwork:
    if isinstance(context, DisentangledContextConfig):
        return DisentangledContextNetwork(context)
    if isinstance(context, SewContextConfig):
        return SqueezedContextNetwork(context)
    if isinstance(context, ConformerContextConfig):
        return ConformerContextNetwork(context)
    if isinstance(context, CausalConformerContextConfig):
        return CausalConformerContextNetwork(context)
    return CONTEXT_NETWORKS[context.kind](context)


def _adapter(
    context: TransformerContextConfig | SewContextConfig | AnyConformerConfig,
) -> ConvAdapter | AttentionAdapter | None:
    if isinstance(context, SewContextConfig) or context.adapter is None:
        return None
    if isinstance(context, CausalConformerContextConfig):
        return AttentionAdapter(context, context.adapter)
    return ConvAdapter(context.dim, context.adapter)
