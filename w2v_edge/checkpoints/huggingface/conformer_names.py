"""Key table of transformers' conformers: the names of the tensors of blocks and adapters."""

from __future__ import annotations

from collections.abc import Iterator

from w2v_edge.checkpoints.key_table import KeyMapping, weight_and_bias
from w2v_edge.model.conformer_config import AnyConformerConfig, AttentionAdapterConfig


def conformer_names(context: AnyConformerConfig, prefix: str) -> Iterator[KeyMapping]:
    """Yield the mappings of a conformer and an adapter with attention.

    Args:
        context: config of the conformer.
        prefix: beginning of the names of the body's tensors.
    """
    yield from weight_and_bias("context_network.norm", f"{prefix}encoder.layer_norm")
    for i in range(context.layers):
        ours, theirs = f"context_network.blocks.{i}", f"{prefix}encoder.layers.{i}"
        yield from _block(ours, theirs, context)
    if isinstance(context.adapter, AttentionAdapterConfig):
        yield from _feed_forward("adapter.first", f"{prefix}intermediate_ffn")
        for i in range(context.adapter.layers):
            yield from _adapter_layer(f"adapter.layers.{i}", f"{prefix}adapter.layers.{i}")


def _block(ours: str, theirs: str, context: AnyConformerConfig) -> Iterator[KeyMapping]:
    for name, number in (("first", 1), ("second", 2)):
        yield from weight_and_bias(f"{ours}.{name}_norm", f"{theirs}.ffn{number}_layer_norm")
        yield from _feed_forward(f"{ours}.{name}", f"{theirs}.ffn{number}")
    yield from weight_and_bias(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm")
    yield from _attention(f"{ours}.attention", f"{theirs}.self_attn")
    yield from _positions(f"{ours}.attention", f"{theirs}.self_attn")
    yield from _convolution(f"{ours}.convolution", f"{theirs}.conv_module", context)
    yield from weight_and_bias(f"{ours}.norm", f"{theirs}.final_layer_norm")


def _feed_forward(ours: str, theirs: str) -> Iterator[KeyMapping]:
    yield from weight_and_bias(f"{ours}.expand", f"{theirs}.intermediate_dense")
    yield from weight_and_bias(f"{ours}.contract", f"{theirs}.output_dense")


def _attention(ours: str, theirs: str) -> Iterator[KeyMapping]:
    parts = (f"{theirs}.linear_{part}" for part in ("q", "k", "v"))
    yield from weight_and_bias(f"{ours}.qkv", *parts)
    yield from weight_and_bias(f"{ours}.output", f"{theirs}.linear_out")


def _positions(ours: str, theirs: str) -> Iterator[KeyMapping]:
    yield KeyMapping(f"{ours}.distance.weight", (f"{theirs}.linear_pos.weight",))
    yield KeyMapping(f"{ours}.content_bias", (f"{theirs}.pos_bias_u",))
    yield KeyMapping(f"{ours}.distance_bias", (f"{theirs}.pos_bias_v",))
    yield KeyMapping(f"{ours}.table.weight", (f"{theirs}.distance_embedding.weight",))


def _convolution(ours: str, theirs: str, context: AnyConformerConfig) -> Iterator[KeyMapping]:
    yield from weight_and_bias(f"{ours}.norm", f"{theirs}.layer_norm")
    dim = context.dim
    gate, output = (f"{theirs}.pointwise_conv{number}.weight" for number in (1, 2))
    yield KeyMapping(f"{ours}.gate.weight", (gate,), (2 * dim, dim, 1))
    yield KeyMapping(f"{ours}.depthwise.weight", (f"{theirs}.depthwise_conv.weight",))
    norm = "batch_norm" if context.kind == "conformer" else "depthwise_layer_norm"
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield KeyMapping(f"{ours}.depthwise_norm.{name}", (f"{theirs}.{norm}.{name}",))
    yield KeyMapping(f"{ours}.output.weight", (output,), (dim, dim, 1))


def _adapter_layer(ours: str, theirs: str) -> Iterator[KeyMapping]:
    for name, other in (("residual", "residual"), ("attention", "self_attn")):
        yield from weight_and_bias(f"{ours}.{name}_norm", f"{theirs}.{other}_layer_norm")
        yield from weight_and_bias(f"{ours}.{name}_pool", f"{theirs}.{other}_conv")
    yield from _attention(f"{ours}.attention", f"{theirs}.self_attn")
    yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.ffn_layer_norm")
    yield from _feed_forward(f"{ours}.feed_forward", f"{theirs}.ffn")
