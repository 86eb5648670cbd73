"""What a model family of transformers states: the base of the classes in `families`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from w2v_edge.checkpoints.huggingface.conformer_settings import activation, conv_adapter
from w2v_edge.checkpoints.settings import SourceSettings, clip_share
from w2v_edge.model.config import Architecture, TransformerContextConfig
from w2v_edge.model.conformer_config import AnyConformerConfig
from w2v_edge.model.sew_config import (
    SewContextConfig,
)


class Family:
    """A model family; its methods read what families configure differently.

    Attributes:
        model_type: `model_type` in `config.json`.
        architecture: our architecture.
        class_prefix: beginning of the names of its classes.
        tensor_prefix: beginning of the names of the body's tensors, in a model with a head.
        pretraining: what is read of its pre-training class beside the body: quantizer and
            objective, or the quantizer alone, whose objective is another; nothing if empty.
        log_mel: whether the features are mel energies, and not strided convolutions.
        defaults: defaults of its settings, where they are not those of wav2vec 2.0.
        unused: reason by pattern of further tensors that no class reads.
    """

    model_type: str
    architecture: Architecture
    class_prefix: str
    tensor_prefix: str
    pretraining: Literal["", "quantizer", "objective"] = ""
    log_mel = False
    defaults: ClassVar[Mapping[str, Any]] = {}
    unused: ClassVar[Mapping[str, str]] = {}

    def encoder_norm(self, settings: SourceSettings) -> str:
        """Return the norm of the feature encoder, 'group' or 'layer'."""
        norm: str = settings["feat_extract_norm"]
        return norm

    def feature_norm(self, settings: SourceSettings) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether the features are layer-normed."""
        return True

    def final_norm(self, settings: SourceSettings) -> bool:
        """Return whether a norm follows the last block."""
        stable: bool = settings["do_stable_layer_norm"]
        return stable

    def context(
        self, settings: SourceSettings
    ) -> TransformerContextConfig | SewContextConfig | AnyConformerConfig:
        """Return the context network of a model."""
        return self.transformer(settings)

    def transformer(self, settings: SourceSettings) -> TransformerContextConfig:
        """Return the transformer of wav2vec 2.0 with the settings of a model."""
        kernel = settings.integer("num_conv_pos_embeddings")
        return TransformerContextConfig(
            "pre_norm" if settings["do_stable_layer_norm"] else "post_norm",
            dim=settings["hidden_size"],
            layers=settings["num_hidden_layers"],
            heads=settings["num_attention_heads"],
            feed_forward=settings["intermediate_size"],
            position_kernel=kernel or 128,
            position_groups=settings["num_conv_pos_embedding_groups"],
            dropout=clip_share(settings["hidden_dropout"]),
            layer_drop=clip_share(settings["layerdrop"]),
            norm_eps=float(settings["layer_norm_eps"]),
            adapter=conv_adapter(settings),
            activation=activation(settings, "hidden_act"),
        )
