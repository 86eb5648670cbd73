"""The wav2vec 2.0 architectures against the ones of Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from w2v_edge.model import ModelConfig, SpeechModel, preset
from w2v_edge.model.build import assemble
from w2v_edge.model.config import TransformerContextConfig
from w2v_edge.model.speech_model import Wav2Vec2Model

pytestmark = pytest.mark.usefixtures("no_gradients")


def _peer(config: ModelConfig) -> Any:
    """The same architecture of transformers, in eval mode."""
    context, quantizer = config.context, config.quantizer
    assert isinstance(context, TransformerContextConfig)
    layers = config.feature_encoder.layers
    peer: Any = Wav2Vec2ForPreTraining(
        Wav2Vec2Config(
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
    )
    return peer.eval()


def _sides(prefix: str, other: str) -> list[tuple[str, str]]:
    return [(f"{prefix}.{side}", f"{other}.{side}") for side in ("weight", "bias")]


def _names(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Pairs of our name and theirs; the fused query, key and value are dealt with apart."""
    encoder, context = "wav2vec2.feature_extractor.conv_layers", "wav2vec2.encoder"
    for i in range(len(config.feature_encoder.layers)):
        yield from _sides(f"feature_encoder.blocks.{i}.conv", f"{encoder}.{i}.conv")
        yield from _sides(f"feature_encoder.blocks.{i}.norm", f"{encoder}.{i}.layer_norm")
    yield from _sides("feature_norm", "wav2vec2.feature_projection.layer_norm")
    yield from _sides("feature_projection", "wav2vec2.feature_projection.projection")
    yield from _sides("quantizer.scorer", "quantizer.weight_proj")
    yield "quantizer.codebook.weight", "quantizer.codevectors"
    yield "masker.vector", "wav2vec2.masked_spec_embed"
    position = "context_network.position.conv", f"{context}.pos_conv_embed.conv"
    yield f"{position[0]}.bias", f"{position[1]}.bias"
    for part in ("original0", "original1"):
        norm = f"parametrizations.weight.{part}"
        yield f"{position[0]}.{norm}", f"{position[1]}.{norm}"
    yield from _sides("context_network.norm", f"{context}.layer_norm")
    for i in range(config.context.layers):
        ours, theirs = f"context_network.blocks.{i}", f"{context}.layers.{i}"
        yield from _sides(f"{ours}.attention.output", f"{theirs}.attention.out_proj")
        yield from _sides(f"{ours}.attention_norm", f"{theirs}.layer_norm")
        yield from _sides(
            f"{ours}.feed_forward.expand", f"{theirs}.feed_forward.intermediate_dense"
        )
        yield from _sides(f"{ours}.feed_forward.contract", f"{theirs}.feed_forward.output_dense")
        yield from _sides(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")
    yield from _sides("target_projection", "project_q")
    yield from _sides("prediction_projection", "project_hid")


def _translate(model: SpeechModel) -> dict[str, Tensor]:
    """Our state dict under their names; nothing of ours is left over."""
    ours = dict(model.state_dict())
    theirs = {other: ours.pop(name) for name, other in _names(model.config) if name in ours}
    codebook = theirs["quantizer.codevectors"]
    theirs["quantizer.codevectors"] = codebook.reshape(1, -1, codebook.shape[-1])
    for i in range(model.config.context.layers):
        attention = f"wav2vec2.encoder.layers.{i}.attention"
        for side in ("weight", "bias"):
            fused = ours.pop(f"context_network.blocks.{i}.attention.qkv.{side}")
            for name, part in zip("qkv", fused.chunk(3), strict=True):
                theirs[f"{attention}.{name}_proj.{side}"] = part
    assert not ours
    return theirs


@pytest.mark.parametrize("name", ["base-small", "large-small", "tiny"])
@pytest.mark.parametrize("samples", [400, 16_001])
def test_inference_equals_transformers(
    name: str,
    samples: int,
    small_model: Callable[[str], SpeechModel],
    clip: Callable[..., Tensor],
    same_codes: Callable[..., None],
) -> None:
    """With the same weights every tensor of an utterance is that of transformers."""
    model = small_model(name)
    assert isinstance(model, Wav2Vec2Model)
    peer = _peer(model.config)
    peer.load_state_dict(_translate(model))
    waveform = clip(2, 5000, samples)[None]
    features = model.features(waveform, torch.tensor([samples]))
    context = model.context(features)
    quantized = model.quantizer(features)
    outputs = peer.wav2vec2(waveform)
    objective = peer(waveform)
    vectors, perplexity = peer.quantizer(outputs.extract_features)
    logits = peer.quantizer.weight_proj(outputs.extract_features)
    logits = logits.unflatten(-1, (model.config.quantizer.groups, -1))
    _equal(features.values, outputs.extract_features)
    _equal(context, outputs.last_hidden_state)
    _equal(model.quantizer.logits(features.values), logits)
    same_codes(quantized.codes, logits.argmax(dim=-1), logits)
    _equal(quantized.vectors, vectors)
    _equal(quantized.code_perplexity.sum(), perplexity)
    _equal(model.prediction_projection(context), objective.projected_states)
    _equal(model.target_projection(quantized.vectors), objective.projected_quantized_states)


@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_predictions_and_targets_of_pretraining_equal_transformers(
    name: str, small_model: Callable[[str], SpeechModel], clip: Callable[..., Tensor]
) -> None:
    """Given where the spans are, masked context and unmasked targets are those of transformers."""
    model = small_model(name)
    assert isinstance(model, Wav2Vec2Model)
    peer = _peer(model.config)
    peer.load_state_dict(_translate(model))
    seen: dict[nn.Module, Tensor] = {}
    parts = model.prediction_projection, model.target_projection
    hooks = [
        part.register_forward_hook(lambda part, _, output: seen.update({part: output}))
        for part in parts
    ]
    waveform = torch.stack([clip(0, 0, 16_000), clip(1, 0, 16_000)])
    torch.manual_seed(2)
    indices = model(waveform, torch.tensor([16_000, 16_000])).mask_indices
    for hook in hooks:
        hook.remove()
    mask = torch.zeros(2, model.config.geometry.frames(16_000), dtype=torch.bool)
    mask[indices.unbind(dim=1)] = True
    assert 0 < mask.float().mean() < 1
    expected = peer(waveform, mask_time_indices=mask)
    _equal(seen[parts[0]], expected.projected_states)
    _equal(seen[parts[1]], expected.projected_quantized_states)


@pytest.mark.parametrize("name", ["base", "large"])
def test_parameters_are_those_of_transformers(name: str) -> None:
    """At full size each tensor of ours has its counterpart of the same shape, and none is left."""
    with torch.device("meta"):
        model: nn.Module = assemble(preset(name))
        peer = _peer(preset(name))
    assert isinstance(model, SpeechModel)
    translated = {key: tensor.shape for key, tensor in _translate(model).items()}
    assert translated == {key: tensor.shape for key, tensor in peer.state_dict().items()}


def _equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5)
