"""Settings of conformers and adapters in a transformers config, read and written."""

from __future__ import annotations

import math
from typing import Any

from w2v_edge.checkpoints.settings import SourceSettings, clip_share
from w2v_edge.model.conformer_config import (
    Activation,
    AnyConformerConfig,
    AttentionAdapterConfig,
    ConvAdapterConfig,
    DistancePositionConfig,
    PositionConfig,
    RotaryPositionConfig,
    SinusoidPositionConfig,
)

POSITION_GROUPS = 16
"""Default of transformers for the groups of its positional convolution."""


def conformer(settings: SourceSettings) -> dict[str, Any]:
    """Return the settings that both conformers have."""
    return {
        "dim": settings["hidden_size"],
        "layers": settings["num_hidden_layers"],
        "heads": settings["num_attention_heads"],
        "feed_forward": settings["intermediate_size"],
        "kernel": settings["conv_depthwise_kernel_size"],
        "activation": activation(settings, "hidden_act"),
        "dropout": clip_share(settings["hidden_dropout"]),
        "layer_drop": clip_share(settings["layerdrop"]),
        "norm_eps": float(settings["layer_norm_eps"]),
    }


ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
}


NAMES: dict[Activation, str] = {"gelu_tanh": "gelu_pytorch_tanh"}
"""Names of transformers, where they differ from ours."""


def activation(settings: SourceSettings, key: str) -> Activation:
    """Return an activation.

    Raises:
        CheckpointError: it is not supported.
    """
    if settings[key] not in ACTIVATIONS:
        raise settings.error(key, f"one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[settings[key]]


def position(settings: SourceSettings, supported: tuple[str, ...]) -> PositionConfig | None:
    """Return the encoding of positions; null stands for none, and a missing key for the default."""
    key = "position_embeddings_type"
    kind = settings.values.get(key, settings.defaults[key])
    if kind is None:
        return None
    if kind not in supported:
        raise settings.error(key, f"one of {', '.join(supported)}, or null")
    if kind == "rotary":
        return RotaryPositionConfig(float(settings["rotary_embedding_base"]))
    if kind == "relative":
        return SinusoidPositionConfig()
    left, right = (settings[f"{x}_max_position_embeddings"] for x in ("left", "right"))
    return DistancePositionConfig(left, right)


def attention_adapter(settings: SourceSettings) -> AttentionAdapterConfig | None:
    """Return the adapter of w2v-BERT, if any."""
    first = settings["use_intermediate_ffn_before_adapter"]
    if not settings["add_adapter"]:
        if first:
            raise settings.error("use_intermediate_ffn_before_adapter", "false without an adapter")
        return None
    kernel, stride = settings["adapter_kernel_size"], settings["adapter_stride"]
    if kernel // 2 < stride // 2:
        # transformers pads by half the stride, and counts frames as if by half the kernel: its
        # attention would miss frames that are there, if it is given a mask.
        raise settings.error("adapter_kernel_size", f"at least {stride // 2 * 2}, as of the stride")
    return AttentionAdapterConfig(
        dim=settings.integer("output_hidden_size") or settings["hidden_size"],
        layers=settings["num_adapter_layers"],
        kernel=kernel,
        stride=stride,
        padding=stride // 2,
        feed_forward=settings["intermediate_size"],
        activation=activation(settings, "adapter_act"),
        first_feed_forward=first,
    )


def conv_adapter(settings: SourceSettings) -> ConvAdapterConfig | None:
    """Return the adapter of wav2vec 2.0, if any."""
    if not settings["add_adapter"]:
        return None
    return ConvAdapterConfig(
        dim=settings.integer("output_hidden_size") or settings["hidden_size"],
        layers=settings["num_adapter_layers"],
        kernel=settings["adapter_kernel_size"],
        stride=settings["adapter_stride"],
    )


def conformer_values(context: AnyConformerConfig) -> dict[str, Any]:
    """Return the settings of a conformer that transformers has no others for."""
    position = context.position
    found: dict[str, Any] = {
        "hidden_act": NAMES.get(context.activation, context.activation),
        "conv_depthwise_kernel_size": context.kernel,
        "position_embeddings_type": None if position is None else position.kind,
        # Of a convolution that transformers builds, and never runs.
        "num_conv_pos_embedding_groups": math.gcd(POSITION_GROUPS, context.dim),
        **adapter_values(context.adapter),
    }
    if isinstance(position, RotaryPositionConfig):
        found["rotary_embedding_base"] = round(position.base)
    if isinstance(position, DistancePositionConfig):
        found["left_max_position_embeddings"] = position.left
        found["right_max_position_embeddings"] = position.right
    return found


def adapter_values(adapter: ConvAdapterConfig | AttentionAdapterConfig | None) -> dict[str, Any]:
    """Return the settings of an adapter, if any."""
    if adapter is None:
        return {}
    found: dict[str, Any] = {
        "add_adapter": True,
        "output_hidden_size": adapter.dim,
        "num_adapter_layers": adapter.layers,
        "adapter_kernel_size": adapter.kernel,
        "adapter_stride": adapter.stride,
    }
    if isinstance(adapter, AttentionAdapterConfig):
        found["adapter_act"] = NAMES.get(adapter.activation, adapter.activation)
        found["use_intermediate_ffn_before_adapter"] = adapter.first_feed_forward
    return found
