"""Pre-training: it learns, its gradients reach every parameter, and it repeats itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from w2v_edge.model import ModelConfig, SpeechModel, build_model, preset
from w2v_edge.model.config import TransformerContextConfig

NAMES = ["tutorial-small", "base-small", "large-small", "tiny"]
CROP = 24_000
MOST_UPDATES = 300


def _batch(clip: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    return torch.stack([clip(i, 60_000, CROP) for i in (1, 3)]), torch.tensor([CROP, CROP])


def test_tiny_learns_to_tell_targets_from_distractors(clip: Callable[..., Tensor]) -> None:
    """A few hundred updates on two clips lift the accuracy from chance to fifteen times that."""
    config = preset("tiny")
    assert config.objective is not None
    assert config.objective.distractors.kind == "sampled"
    chance = 1 / (config.objective.distractors.count + 1)
    model = build_model(config, seed=0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    waveform, lengths = _batch(clip)
    torch.manual_seed(0)
    accuracies: list[float] = []
    for update in range(MOST_UPDATES):
        output = model(waveform, lengths, update=update)
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        accuracies.append(output.accuracy.item())
        if sum(accuracies[-10:]) / 10 > 15 * chance:
            break
    else:
        pytest.fail(f"accuracy {accuracies[-1]:.3f} after {MOST_UPDATES} updates")
    assert sum(accuracies[:10]) / 10 < 3 * chance
    # With few codes in use, nearly every distractor would equal the target and be left out.
    assert output.code_perplexity.min() > 10


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(
    name: str, small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """One backward pass moves each parameter, by a finite amount."""
    model = build_model(small_config(name), seed=0).train()
    torch.manual_seed(0)
    model(*_batch(clip)).loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", NAMES)
def test_training_repeats_given_the_random_state(
    name: str, small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """The same random state gives the same masks, samples and losses; another gives others."""
    model = build_model(small_config(name), seed=0).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(*_batch(clip)))
    assert all(torch.equal(a, b) for a, b in zip(outputs[0], outputs[1], strict=True))
    assert not torch.equal(outputs[0].mask_indices, outputs[2].mask_indices)
    assert not torch.equal(outputs[0].contrastive, outputs[2].contrastive)


def _gradients(model: SpeechModel, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model.train().zero_grad()
    model(*batch).loss.backward()
    return {key: value.grad for key, value in model.named_parameters() if value.grad is not None}


def test_the_encoders_gradient_is_scaled_and_no_other(
    small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """BASE's feature encoder learns with a tenth of the gradient, the rest with all of it."""
    config = small_config("base-small")
    assert config.objective is not None
    assert config.objective.feature_gradient_scale == 0.1
    unscaled = replace(config, objective=replace(config.objective, feature_gradient_scale=1.0))
    scaled = _gradients(build_model(config, seed=0), _batch(clip))
    whole = _gradients(build_model(unscaled, seed=0), _batch(clip))
    for key, gradient in whole.items():
        factor = 0.1 if key.startswith("feature_encoder.") else 1.0
        torch.testing.assert_close(scaled[key], factor * gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_layer_drop_leaves_blocks_out_in_training_only(
    name: str, small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """Layer drop applies in training only."""
    config = small_config(name)
    assert isinstance(config.context, TransformerContextConfig)
    dropping = replace(config, context=replace(config.context, layer_drop=1.0))
    empty = replace(config, context=replace(config.context, layers=0))
    models = [build_model(each, seed=0).eval() for each in (config, dropping, empty)]
    models[2].load_state_dict(models[0].state_dict(), strict=False)
    plain, dropped, none = models
    with torch.no_grad():
        features = plain.features(*_batch(clip))
        assert torch.equal(dropped.context(features), plain.context(features))
        assert torch.equal(dropped.train().context(features), none.context(features))


def test_results_are_named(
    small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """A forward returns each loss, accuracy, perplexity per group and the masked positions."""
    output = build_model(small_config("tutorial-small"))(*_batch(clip))
    assert output.code_perplexity.shape == output.usage_perplexity.shape == (2,)
    assert output.mask_indices.shape[1] == 2
    for name in ("loss", "contrastive", "diversity", "feature_penalty", "accuracy"):
        assert getattr(output, name).shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_sees_what_float32_sees(
    name: str, small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """Under autocast context, losses and gradients are those of float32, but for rounding."""
    model = build_model(small_config(name), seed=0).train()
    waveform, lengths = _batch(clip)
    seeds = torch.tensor([1, 2])
    contexts, losses, norms = [], [], []
    for halves in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halves):
            contexts.append(model.context(model.features(waveform, lengths)).float())
            output = model(waveform, lengths, seeds=seeds)
        losses.append(output.contrastive.item())
        model.zero_grad()
        output.loss.backward()
        gradients = [x.grad.square().sum() for x in model.parameters() if x.grad is not None]
        norms.append(torch.stack(gradients).sum().sqrt().item())
    error = (contexts[0] - contexts[1]).std() / contexts[0].std()
    assert error < 0.1
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert norms[1] == pytest.approx(norms[0], rel=0.5)
