"""The same network of Hugging Face transformers, with our weights in it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from bench.peers.sides import load_ours
from w2v_edge.model import ModelConfig, SpeechModel
from w2v_edge.model.config import TransformerContextConfig


@cache
def load_peer(checkpoint: str) -> Any:
    """Return transformers' model with the weights of one of our checkpoints, once a process."""
    model = load_ours(checkpoint)
    peer: Any = Wav2Vec2ForPreTraining(_config(model.config))
    peer.load_state_dict(_translate(model), assign=True)
    return peer.eval()


def as_encoder(peer: Any) -> nn.Module:
    """Return a module from waveform (b, t) to context (b, n, d)."""
    return _Encoder(peer.wav2vec2).eval()


def as_tokenizer(peer: Any) -> nn.Module:
    """Return a module from waveform (b, t) to codes (b, n, groups)."""
    return _Tokenizer(peer).eval()


class _Encoder(nn.Module):
    """Waveform to the last hidden state."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> Tensor:
        """Return context (b, n, d)."""
        context: Tensor = self.model(waveform).last_hidden_state
        return context


class _Tokenizer(nn.Module):
    """Waveform to codes: convolutions, norm, scores, the best of each group."""

    def __init__(self, peer: Any) -> None:
        super().__init__()
        self.convolutions = peer.wav2vec2.feature_extractor
        self.norm = peer.wav2vec2.feature_projection.layer_norm
        self.scorer = peer.quantizer.weight_proj
        self.groups = peer.config.num_codevector_groups

    def forward(self, waveform: Tensor) -> Tensor:
        """Return codes (b, n, groups)."""
        scores: Tensor = self.scorer(self.norm(self.convolutions(waveform).transpose(1, 2)))
        return scores.reshape(*scores.shape[:2], self.groups, -1).argmax(dim=-1)


def _config(config: ModelConfig) -> Wav2Vec2Config:
    """Describe one of our models in transformers' terms."""
    context, quantizer = config.context, config.quantizer
    if not isinstance(context, TransformerContextConfig):
        raise TypeError("transformers has no network of this architecture")
    assert quantizer is not None
    assert config.objective is not None
    layers = config.feature_encoder.layers
    described = Wav2Vec2Config(
        hidden_size=context.dim,
        num_hidden_layers=context.layers,
        num_attention_heads=context.heads,
        intermediate_size=context.feed_forward,
        do_stable_layer_norm=context.kind == "pre_norm",
        num_conv_pos_embeddings=context.position_kernel,
        num_conv_pos_embedding_groups=context.position_groups,
        conv_dim=tuple(layer.channels for layer in layers),
        conv_kernel=tuple(layer.kernel for layer in layers),
        conv_stride=tuple(layer.stride for layer in layers),
        conv_bias=config.feature_encoder.bias,
        feat_extract_norm=config.feature_encoder.kind.removesuffix("_norm"),
        num_codevector_groups=quantizer.groups,
        num_codevectors_per_group=quantizer.entries,
        codevector_dim=quantizer.vector_dim,
        proj_codevector_dim=config.objective.projection_dim,
    )
    described._attn_implementation = "sdpa"  # noqa: SLF001 - the name that transformers reads
    return described


def _translate(model: SpeechModel) -> dict[str, Tensor]:
    """Return our weights under transformers' names; nothing of ours is left over."""
    ours = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    theirs = {other: ours.pop(name) for name, other in _names(model.config) if name in ours}
    codebook = theirs["quantizer.codevectors"]
    theirs["quantizer.codevectors"] = codebook.reshape(1, -1, codebook.shape[-1])
    for i in range(model.config.context.layers):
        attention = f"wav2vec2.encoder.layers.{i}.attention"
        for side in ("weight", "bias"):
            fused = ours.pop(f"context_network.blocks.{i}.attention.qkv.{side}")
            for name, part in zip("qkv", fused.chunk(3), strict=True):
                theirs[f"{attention}.{name}_proj.{side}"] = part.contiguous()
    if ours:
        raise ValueError(f"weights without a counterpart: {', '.join(ours)}")
    return theirs


def _names(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield pairs of our name and theirs, but for the fused query, key and value."""
    encoder, context = "wav2vec2.feature_extractor.conv_layers", "wav2vec2.encoder"
    for i in range(len(config.feature_encoder.layers)):
        yield from _both(f"feature_encoder.blocks.{i}.conv", f"{encoder}.{i}.conv")
        yield from _both(f"feature_encoder.blocks.{i}.norm", f"{encoder}.{i}.layer_norm")
    yield from _both("feature_norm", "wav2vec2.feature_projection.layer_norm")
    yield from _both("feature_projection", "wav2vec2.feature_projection.projection")
    yield from _both("quantizer.scorer", "quantizer.weight_proj")
    yield "quantizer.codebook.weight", "quantizer.codevectors"
    yield "masker.vector", "wav2vec2.masked_spec_embed"
    ours, theirs = "context_network.position.conv", f"{context}.pos_conv_embed.conv"
    yield f"{ours}.bias", f"{theirs}.bias"
    for part in ("original0", "original1"):
        norm = f"parametrizations.weight.{part}"
        yield f"{ours}.{norm}", f"{theirs}.{norm}"
    yield from _both("context_network.norm", f"{context}.layer_norm")
    for i in range(config.context.layers):
        yield from _layer_names(f"context_network.blocks.{i}", f"{context}.layers.{i}")
    yield from _both("target_projection", "project_q")
    yield from _both("prediction_projection", "project_hid")


def _layer_names(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from _both(f"{ours}.attention.output", f"{theirs}.attention.out_proj")
    yield from _both(f"{ours}.attention_norm", f"{theirs}.layer_norm")
    yield from _both(f"{ours}.feed_forward.expand", f"{theirs}.feed_forward.intermediate_dense")
    yield from _both(f"{ours}.feed_forward.contract", f"{theirs}.feed_forward.output_dense")
    yield from _both(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")


def _both(prefix: str, other: str) -> Iterator[tuple[str, str]]:
    for side in ("weight", "bias"):
        yield f"{prefix}.{side}", f"{other}.{side}"


def export_usual(module: nn.Module, path: str, output: str, *, dynamo: bool) -> None:
    """Export as most programs do: `torch.onnx.export`, its defaults, dynamic batch and time."""
    waveform = torch.zeros(2, 16_000)
    names: dict[str, Any] = {"input_names": ["waveform"], "output_names": [output]}
    if dynamo:
        axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            module, (waveform,), path, dynamo=True, dynamic_shapes=(axes,), verbose=False, **names
        )
        return
    named = {"waveform": {0: "batch", 1: "samples"}, output: {0: "batch", 1: "frames"}}
    torch.onnx.export(module, (waveform,), path, dynamo=False, dynamic_axes=named, **names)
