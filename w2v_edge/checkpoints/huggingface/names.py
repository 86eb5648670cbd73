"""The names that transformers gives to the tensors of our models, in all four families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from w2v_edge.checkpoints.key_table import Row, present, with_sides
from w2v_edge.model.config import ModelConfig, TransformerContextConfig

PREFIXES = {
    "wav2vec2": "wav2vec2",
    "hubert": "hubert",
    "wavlm": "wavlm",
    "data2vec": "data2vec_audio",
}
"""What the names of the body begin with, by architecture, where there is something around it."""

NORMED = "parametrizations.weight"


def table(config: ModelConfig, expected: Mapping[str, Tensor], *, bare: bool) -> list[Row]:
    """Return a row for each of `expected`, the tensors of a model of `config`.

    Args:
        config: of the model.
        expected: our tensors by name.
        bare: whether the body is the whole checkpoint, so that its names have no prefix.
    """
    prefix = "" if bare else f"{PREFIXES[config.architecture]}."
    return present([*_body(config, prefix), *_around(config)], expected)


def _body(config: ModelConfig, prefix: str) -> Iterator[Row]:
    context = config.context
    assert isinstance(context, TransformerContextConfig)
    for i in range(len(config.feature_encoder.layers)):
        ours, theirs = f"feature_encoder.blocks.{i}", f"{prefix}feature_extractor.conv_layers.{i}"
        yield from with_sides(f"{ours}.conv", f"{theirs}.conv")
        yield from with_sides(f"{ours}.norm", f"{theirs}.layer_norm")
    projection = f"{prefix}feature_projection"
    yield from with_sides("feature_norm", f"{projection}.layer_norm")
    yield from with_sides("feature_projection", f"{projection}.projection")
    yield Row("masker.vector", (f"{prefix}masked_spec_embed",))
    yield from _position(context, f"{prefix}encoder.pos_conv_embed")
    yield from with_sides("context_network.norm", f"{prefix}encoder.layer_norm")
    yield Row(
        "context_network.relative_position.weight",
        (f"{prefix}encoder.layers.0.attention.rel_attn_embed.weight",),
    )
    for i in range(context.layers):
        yield from _block(f"context_network.blocks.{i}", f"{prefix}encoder.layers.{i}")
    yield from with_sides("adapter.projection", f"{prefix}adapter.proj")
    yield from with_sides("adapter.norm", f"{prefix}adapter.proj_layer_norm")
    for i in range(context.adapter.layers if context.adapter else 0):
        yield from with_sides(f"adapter.layers.{i}", f"{prefix}adapter.layers.{i}.conv")


def _position(context: TransformerContextConfig, theirs: str) -> Iterator[Row]:
    ours = "context_network.position"
    yield from with_sides(f"{ours}.conv", f"{theirs}.conv")
    for part in ("original0", "original1"):
        yield Row(f"{ours}.conv.{NORMED}.{part}", (f"{theirs}.conv.{NORMED}.{part}",))
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield Row(f"{ours}.norm.{name}", (f"{theirs}.batch_norm.{name}",))
    for i in range(context.position_layers):
        yield from with_sides(f"{ours}.layers.{i}", f"{theirs}.layers.{i}.conv")


def _block(ours: str, theirs: str) -> Iterator[Row]:
    attention = f"{theirs}.attention"
    yield from with_sides(
        f"{ours}.attention.qkv", *(f"{attention}.{part}_proj" for part in ("q", "k", "v"))
    )
    yield from with_sides(f"{ours}.attention.output", f"{attention}.out_proj")
    yield from with_sides(f"{ours}.attention.gate.linear", f"{attention}.gru_rel_pos_linear")
    yield Row(f"{ours}.attention.gate.scale", (f"{attention}.gru_rel_pos_const",))
    yield from with_sides(f"{ours}.attention_norm", f"{theirs}.layer_norm")
    feed_forward = f"{theirs}.feed_forward"
    yield from with_sides(f"{ours}.feed_forward.expand", f"{feed_forward}.intermediate_dense")
    yield from with_sides(f"{ours}.feed_forward.contract", f"{feed_forward}.output_dense")
    yield from with_sides(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
    adapter = f"{theirs}.adapter_layer"
    yield from with_sides(f"{ours}.language_adapter.norm", f"{adapter}.norm")
    yield from with_sides(f"{ours}.language_adapter.contract", f"{adapter}.linear_1")
    yield from with_sides(f"{ours}.language_adapter.expand", f"{adapter}.linear_2")


def _around(config: ModelConfig) -> Iterator[Row]:
    quantizer = config.quantizer
    yield from with_sides("quantizer.scorer", "quantizer.weight_proj")
    if quantizer is not None:
        rows = quantizer.groups * quantizer.entries
        shape = (1, rows, quantizer.vector_dim // quantizer.groups)
        yield Row("quantizer.codebook.weight", ("quantizer.codevectors",), shape)
    yield from with_sides("target_projection", "project_q")
    yield from with_sides("prediction_projection", "project_hid")
    ctc = config.head is not None and config.head.kind == "ctc"
    yield from with_sides("head.classifier", "lm_head" if ctc else "classifier")
    yield from with_sides("head.projection", "projector")
    yield Row("head.layer_weights", ("layer_weights",))
