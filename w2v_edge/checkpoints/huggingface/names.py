"""Key table of transformers: the names of our tensors in all its families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from w2v_edge.checkpoints.huggingface.conformer_names import conformer_names
from w2v_edge.checkpoints.huggingface.pooled_heads import ONLY
from w2v_edge.checkpoints.key_table import KeyMapping, existing, weight_and_bias
from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import (
    ModelConfig,
    QuerySoftmaxContextConfig,
    TransformerContextConfig,
)
from w2v_edge.model.conformer_config import AnyConformerConfig, ConvAdapterConfig
from w2v_edge.model.head_config import PooledHeadConfig, XVectorHeadConfig
from w2v_edge.model.sew_config import DisentangledContextConfig, SewContextConfig

NORMED = "parametrizations.weight"


def key_table(config: ModelConfig, expected: Mapping[str, Tensor], prefix: str) -> list[KeyMapping]:
    """Return the key table of a model.

    Args:
        config: the model's config.
        expected: our tensors by name.
        prefix: beginning of the names of the body's tensors.
    """
    return existing([*_body(config, prefix), *_head(config)], expected)


def _body(config: ModelConfig, prefix: str) -> Iterator[KeyMapping]:
    context = config.context
    if isinstance(context, QuerySoftmaxContextConfig):
        raise CheckpointError("architecture 'tutorial' has no class in transformers")
    for i in range(len(config.feature_encoder.layers)):
        ours, theirs = f"feature_encoder.blocks.{i}", f"{prefix}feature_extractor.conv_layers.{i}"
        yield from weight_and_bias(f"{ours}.conv", f"{theirs}.conv")
        yield from weight_and_bias(f"{ours}.norm", f"{theirs}.layer_norm")
    if isinstance(context, SewContextConfig):
        yield from _sew(context, prefix)
    else:
        yield from _wav2vec2(context, prefix)
    yield KeyMapping("masker.vector", (f"{prefix}masked_spec_embed",))


def _sew(context: SewContextConfig, prefix: str) -> Iterator[KeyMapping]:
    yield from weight_and_bias("feature_norm", f"{prefix}layer_norm")
    yield from weight_and_bias("feature_projection", f"{prefix}feature_projection")
    yield from _position(1, f"{prefix}encoder.pos_conv_embed")
    yield from weight_and_bias("context_network.norm", f"{prefix}encoder.layer_norm")
    yield from weight_and_bias("context_network.upsample", f"{prefix}encoder.upsample.projection")
    inner, distances = f"{prefix}encoder.encoder", "context_network.distances"
    yield KeyMapping(f"{distances}.weight", (f"{inner}.rel_embeddings.weight",))
    yield from weight_and_bias(f"{distances}.norm", f"{inner}.LayerNorm")
    for i in range(context.layers):
        ours = f"context_network.blocks.{i}"
        if isinstance(context, DisentangledContextConfig):
            yield from _disentangled_block(ours, f"{inner}.layer.{i}")
        else:
            yield from _block(ours, f"{prefix}encoder.layers.{i}")


def _disentangled_block(ours: str, theirs: str) -> Iterator[KeyMapping]:
    attention = f"{theirs}.attention.self"
    yield from weight_and_bias(
        f"{ours}.attention.qkv", *(f"{attention}.{x}_proj" for x in ("query", "key", "value"))
    )
    yield from weight_and_bias(f"{ours}.attention.position_key", f"{attention}.pos_key_proj")
    yield from weight_and_bias(f"{ours}.attention.position_query", f"{attention}.pos_query_proj")
    yield from weight_and_bias(f"{ours}.attention.output", f"{theirs}.attention.output.dense")
    yield from weight_and_bias(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm")
    yield from weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.intermediate.dense")
    yield from weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.output.dense")
    yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.output.LayerNorm")


def _wav2vec2(
    context: TransformerContextConfig | AnyConformerConfig, prefix: str
) -> Iterator[KeyMapping]:
    projection = f"{prefix}feature_projection"
    yield from weight_and_bias("feature_norm", f"{projection}.layer_norm")
    yield from weight_and_bias("feature_projection", f"{projection}.projection")
    if isinstance(context, TransformerContextConfig):
        yield from _transformer(context, prefix)
    else:
        yield from conformer_names(context, prefix)
    yield from weight_and_bias("adapter.projection", f"{prefix}adapter.proj")
    yield from weight_and_bias("adapter.norm", f"{prefix}adapter.proj_layer_norm")
    if isinstance(context.adapter, ConvAdapterConfig):
        for i in range(context.adapter.layers):
            yield from weight_and_bias(f"adapter.layers.{i}", f"{prefix}adapter.layers.{i}.conv")


def _transformer(context: TransformerContextConfig, prefix: str) -> Iterator[KeyMapping]:
    yield from _position(context.position_layers, f"{prefix}encoder.pos_conv_embed")
    yield from weight_and_bias("context_network.norm", f"{prefix}encoder.layer_norm")
    yield KeyMapping(
        "context_network.relative_position.weight",
        (f"{prefix}encoder.layers.0.attention.rel_attn_embed.weight",),
    )
    for i in range(context.layers):
        yield from _block(f"context_network.blocks.{i}", f"{prefix}encoder.layers.{i}")


def _position(layers: int, theirs: str) -> Iterator[KeyMapping]:
    ours = "context_network.position"
    yield from weight_and_bias(f"{ours}.conv", f"{theirs}.conv")
    for part in ("original0", "original1"):
        yield KeyMapping(f"{ours}.conv.{NORMED}.{part}", (f"{theirs}.conv.{NORMED}.{part}",))
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield KeyMapping(f"{ours}.norm.{name}", (f"{theirs}.batch_norm.{name}",))
    for i in range(layers):
        yield from weight_and_bias(f"{ours}.layers.{i}", f"{theirs}.layers.{i}.conv")


def _block(ours: str, theirs: str) -> Iterator[KeyMapping]:
    attention = f"{theirs}.attention"
    yield from weight_and_bias(
        f"{ours}.attention.qkv", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    )
    yield from weight_and_bias(f"{ours}.attention.output", f"{attention}.out_proj")
    yield from weight_and_bias(f"{ours}.attention.gate.linear", f"{attention}.gru_rel_pos_linear")
    yield KeyMapping(f"{ours}.attention.gate.scale", (f"{attention}.gru_rel_pos_const",))
    yield from weight_and_bias(f"{ours}.attention_norm", f"{theirs}.layer_norm")
    feed_forward = f"{theirs}.feed_forward"
    yield from weight_and_bias(f"{ours}.feed_forward.expand", f"{feed_forward}.intermediate_dense")
    yield from weight_and_bias(f"{ours}.feed_forward.contract", f"{feed_forward}.output_dense")
    yield from weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
    adapter = f"{theirs}.adapter_layer"
    yield from weight_and_bias(f"{ours}.language_adapter.norm", f"{adapter}.norm")
    yield from weight_and_bias(f"{ours}.language_adapter.contract", f"{adapter}.linear_1")
    yield from weight_and_bias(f"{ours}.language_adapter.expand", f"{adapter}.linear_2")


def _head(config: ModelConfig) -> Iterator[KeyMapping]:
    quantizer = config.quantizer
    yield from weight_and_bias("quantizer.scorer", "quantizer.weight_proj")
    if quantizer is not None:
        rows = quantizer.groups * quantizer.entries
        shape = (1, rows, quantizer.vector_dim // quantizer.groups)
        yield KeyMapping("quantizer.codebook.weight", ("quantizer.codevectors",), shape)
    yield from weight_and_bias("target_projection", "project_q")
    yield from weight_and_bias("prediction_projection", "project_hid")
    ctc = config.head is not None and config.head.kind == "ctc"
    yield from weight_and_bias("head.classifier", "lm_head" if ctc else "classifier")
    yield from weight_and_bias("head.projection", "projector")
    if isinstance(config.head, PooledHeadConfig):
        for i, branch in enumerate(config.head.branches):
            ours, theirs = f"head.branches.{i}", branch.name or ONLY
            yield from weight_and_bias(f"{ours}.dense", f"{theirs}.dense")
            yield from weight_and_bias(f"{ours}.projection", f"{theirs}.out_proj")
    if isinstance(config.head, XVectorHeadConfig):
        for i in range(len(config.head.layers)):
            yield from weight_and_bias(f"head.layers.{i}.linear", f"tdnn.{i}.kernel")
        yield from weight_and_bias("head.embedding", "feature_extractor")
    yield KeyMapping("head.layer_weights", ("layer_weights",))
    yield from weight_and_bias("final_projection", "final_proj")
