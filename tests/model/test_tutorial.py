"""The tutorial architecture against an independent implementation of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from w2v_edge.model import ModelConfig, SpeechModel, build_model, preset
from w2v_edge.model.config import SoftQuantizerConfig
from w2v_edge.model.losses import diversity_loss, feature_penalty, in_batch_contrastive
from w2v_edge.model.random import RandomStream, uniform
from w2v_edge.model.speech_model import TutorialModel

HEADS = 4

pytestmark = pytest.mark.usefixtures("no_gradients")


def _check(
    model: SpeechModel,
    waveform: Tensor,
    expected: ModuleType,
    close: Callable[..., None],
    same_codes: Callable[..., None],
) -> None:
    """Compare all that inference gives for one utterance with the reference's `Result`."""
    assert isinstance(model, TutorialModel)
    features = model.features(waveform[None], torch.tensor([len(waveform)]))
    context = model.context(features)
    quantized = model.quantizer(features)
    logits = model.quantizer.logits(features.values)
    projected = model.projection(context)
    assert torch.equal(features.lengths, expected.frame_lengths)
    close(features.values, expected.features)
    close(context, expected.context)
    close(logits, expected.logits)
    close(projected, expected.projected)
    same_codes(quantized.codes, expected.codes, expected.logits)
    if torch.equal(quantized.codes, expected.codes):
        assert torch.equal(quantized.vectors, expected.vectors)


@pytest.mark.parametrize("index", range(5))
def test_inference_equals_the_reference_on_speech(
    index: int,
    small_model: Callable[[str], SpeechModel],
    clip: Callable[..., Tensor],
    tutorial_reference: ModuleType,
    close: Callable[..., None],
    same_codes: Callable[..., None],
) -> None:
    """Features, context, logits, codes and vectors are those of the reference."""
    model = small_model("tutorial-small")
    waveform = clip(index, 3000 * index, 16_001 + 997 * index)
    expected = tutorial_reference.run(model.state_dict(), waveform, heads=HEADS)
    assert len(expected.codes.unique()) > 10
    _check(model, waveform, expected, close, same_codes)


def test_full_size_equals_the_reference_on_speech(
    roughen: Callable[[nn.Module], None],
    clip: Callable[..., Tensor],
    tutorial_reference: ModuleType,
    close: Callable[..., None],
    same_codes: Callable[..., None],
) -> None:
    """At its full size the preset is the reference network."""
    model = build_model(preset("tutorial"), seed=1).eval()
    roughen(model)
    waveform = clip(0, 0, 17_001)
    expected = tutorial_reference.run(model.state_dict(), waveform)
    _check(model, waveform, expected, close, same_codes)


def test_pretraining_losses_equal_the_reference_on_a_ragged_batch(
    small_model: Callable[[str], SpeechModel],
    clip: Callable[..., Tensor],
    tutorial_reference: ModuleType,
) -> None:
    """Targets are unmasked, context is masked, and all masked positions are distractors."""
    model = small_model("tutorial-small")
    lengths = [24_000, 16_321, 3000, 12_345]
    waveforms = [clip(i, 4000, length) for i, length in enumerate(lengths)]
    batch = nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    torch.manual_seed(5)
    output = model(batch, torch.tensor(lengths))
    expected = tutorial_reference.pretrain(
        model.state_dict(), waveforms, output.mask_indices, heads=HEADS
    )
    assert set(output.mask_indices[:, 0].tolist()) == {0, 1, 3}
    for name in ("contrastive", "diversity", "feature_penalty", "loss"):
        torch.testing.assert_close(
            getattr(output, name), getattr(expected, name), atol=1e-5, rtol=1e-5
        )


def test_gumbel_vectors_equal_the_reference_given_the_noise(
    small_config: Callable[[str], ModelConfig],
    clip: Callable[..., Tensor],
    tutorial_reference: ModuleType,
    close: Callable[..., None],
) -> None:
    """In training the quantizer mixes rows by softmax((logits + gumbel) / 0.1)."""
    model = build_model(small_config("tutorial-small"), seed=2).train()
    assert model.quantizer is not None
    features = model.features(clip(1, 0, 16_000)[None], torch.tensor([16_000]))
    logits = model.quantizer.logits(features.values)
    seeds = torch.tensor([9])
    noise = uniform(seeds, RandomStream.GUMBEL, *logits.shape[1:])
    vectors = model.quantizer(features, update=1000, seeds=seeds).vectors
    close(
        vectors,
        tutorial_reference.gumbel_quantize(logits, model.quantizer.codebook.weight, noise),
    )


def test_soft_vectors_equal_the_reference(
    small_config: Callable[[str], ModelConfig],
    clip: Callable[..., Tensor],
    tutorial_reference: ModuleType,
    close: Callable[..., None],
) -> None:
    """In training the soft quantizer mixes rows by the plain softmax of the logits."""
    config = small_config("tutorial-small")
    soft = replace(config, quantizer=SoftQuantizerConfig(groups=2, entries=40, vector_dim=16))
    model = build_model(soft, seed=2).train()
    assert model.quantizer is not None
    features = model.features(clip(1, 0, 16_000)[None], torch.tensor([16_000]))
    logits = model.quantizer.logits(features.values)
    vectors = model.quantizer(features).vectors
    close(vectors, tutorial_reference.soft_quantize(logits, model.quantizer.codebook.weight))


@pytest.mark.parametrize(("positions", "temperature"), [(1, 1.0), (7, 1.0), (300, 0.1)])
def test_in_batch_contrastive_equals_the_reference(
    positions: int, temperature: float, tutorial_reference: ModuleType
) -> None:
    """The loss is the cross entropy over the cosine similarities of all masked positions."""
    torch.manual_seed(positions)
    predictions, targets = torch.randn(2, positions, 16)
    expected = tutorial_reference.contrastive_loss(predictions, targets, temperature)
    actual = in_batch_contrastive(predictions, targets, temperature)
    torch.testing.assert_close(actual.loss, expected)


def test_usage_and_penalty_equal_the_reference(
    small_model: Callable[[str], SpeechModel],
    clip: Callable[..., Tensor],
    tutorial_reference: ModuleType,
) -> None:
    """Diversity is taken from the mean softmax, the penalty is the features' mean square."""
    model = small_model("tutorial-small")
    assert model.quantizer is not None
    features = model.features(clip(2, 0, 20_000)[None], torch.tensor([20_000]))
    usage = model.quantizer(features).usage
    probabilities = model.quantizer.logits(features.values)[0].softmax(dim=-1)
    torch.testing.assert_close(usage, probabilities.mean(dim=0))
    torch.testing.assert_close(
        diversity_loss(usage), tutorial_reference.diversity_loss(probabilities), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        feature_penalty(features), tutorial_reference.feature_penalty(features.values)
    )


def test_training_mode_changes_no_context(
    small_model: Callable[[str], SpeechModel], clip: Callable[..., Tensor]
) -> None:
    """The architecture has no dropout: context is the same in training and in eval mode."""
    model = small_model("tutorial-small")
    waveform, lengths = clip(0, 0, 16_000)[None], torch.tensor([16_000])
    evaluated = model.context(model.features(waveform, lengths))
    try:
        trained = model.train().context(model.features(waveform, lengths))
    finally:
        model.eval()
    assert torch.equal(evaluated, trained)
