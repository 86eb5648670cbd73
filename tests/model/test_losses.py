"""The pre-training losses: distractors, cross entropy, and empty batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from w2v_edge.model import ModelConfig, build_model
from w2v_edge.model.config import SampledDistractorsConfig
from w2v_edge.model.losses import (
    diversity_loss,
    feature_penalty,
    in_batch_contrastive,
    sample_distractors,
    sampled_contrastive,
)
from w2v_edge.model.padding import Frames
from w2v_edge.model.random import fresh_seeds
from w2v_edge.model.speech_model import Wav2Vec2Model

NAMES = ["tutorial-small", "base-small", "large-small", "tiny"]
masked_counts = st.lists(st.integers(0, 9), max_size=5)


@given(counts=masked_counts, distractors=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_distractors_are_other_positions_of_the_same_utterance(
    counts: list[int], distractors: int, seed: int
) -> None:
    """Distractors are other masked positions of the same utterance."""
    torch.manual_seed(seed)
    utterances = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts).long())
    drawn = sample_distractors(utterances, distractors, fresh_seeds(len(counts)))
    assert drawn.shape == (sum(counts), distractors)
    own = torch.arange(len(utterances))[:, None]
    assert torch.equal(utterances[drawn], utterances[:, None].expand_as(drawn))
    single = torch.tensor(counts)[utterances][:, None] == 1 if len(utterances) else own == -1
    assert torch.equal(drawn == own, single.expand_as(drawn))


def test_distractors_are_drawn_from_all_others_alike() -> None:
    """Each other masked position of the utterance is drawn as often as any."""
    torch.manual_seed(0)
    drawn = sample_distractors(torch.tensor([3, 3, 3, 3, 8, 8]), 9000, fresh_seeds(9))
    for position in range(4):
        share = drawn[position].bincount(minlength=6) / 9000
        others = torch.tensor([0.0 if i == position or i > 3 else 1 / 3 for i in range(6)])
        torch.testing.assert_close(share, others, atol=0.03, rtol=0.0)


def test_sampled_contrastive_is_the_cross_entropy_over_cosines() -> None:
    """The loss classifies each target among itself and its distractors, by cosine / temperature."""
    torch.manual_seed(3)
    predictions, targets = torch.randn(2, 6, 5)
    distractors = sample_distractors(torch.tensor([0, 0, 0, 1, 1, 1]), 4, fresh_seeds(2))
    output = sampled_contrastive(predictions, targets, distractors, 0.1)
    losses, hits = [], []
    for i in range(6):
        rows = targets[[i, *distractors[i].tolist()]]
        logits = F.cosine_similarity(predictions[i], rows) / 0.1
        losses.append(-logits.log_softmax(dim=0)[0])
        hits.append(logits.argmax() == 0)
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    torch.testing.assert_close(output.accuracy, torch.stack(hits).float().mean())


def test_sampled_contrastive_ignores_distractors_equal_to_the_target() -> None:
    """A distractor equal to the target is ignored."""
    torch.manual_seed(3)
    predictions, targets = torch.randn(2, 3, 5)
    targets[1] = targets[0]
    drawn = torch.tensor([[1, 2], [0, 2], [0, 1]])
    different = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[2, 0, 1]])
    losses = []
    for i, rows in enumerate([*different[0], *different[1]]):
        logits = F.cosine_similarity(predictions[i], targets[rows]) / 0.5
        losses.append(-logits.log_softmax(dim=0)[0])
    loss = sampled_contrastive(predictions, targets, drawn, 0.5).loss
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_the_forward_compares_masked_positions_of_each_utterance(
    small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """With many distractors, the loss is that of all other masked positions."""
    count, config = 3000, small_config("base-small")
    assert config.objective is not None
    objective = replace(config.objective, distractors=SampledDistractorsConfig(count))
    model = build_model(replace(config, objective=objective), seed=1).eval()
    assert isinstance(model, Wav2Vec2Model)
    seen: dict[nn.Module, Tensor] = {}
    assert model.prediction_projection is not None
    assert model.target_projection is not None
    for part in (model.prediction_projection, model.target_projection):
        part.register_forward_hook(lambda part, _, output: seen.update({part: output}))
    batch = torch.stack([clip(0, 0, 16_000), clip(1, 0, 16_000)])
    with torch.no_grad():
        output = model(batch, torch.tensor([16_000, 12_000]))
    (rows, frames), losses = output.mask_indices.unbind(dim=1), []
    for row in range(2):
        here = row, frames[rows == row]
        predictions = F.normalize(seen[model.prediction_projection][here], dim=-1)
        targets = F.normalize(seen[model.target_projection][here], dim=-1)
        assert len(targets) > 10
        weights = (predictions @ targets.T / objective.logit_temperature).exp()
        same = (targets[:, None] == targets).all(dim=-1)
        others = weights.masked_fill(same, 0.0).sum(dim=1) / (len(targets) - 1)
        own = weights.diagonal()
        losses.append(-(own / (own + count * others)).log())
    assert output.contrastive.item() == pytest.approx(torch.cat(losses).mean().item(), rel=0.01)


def test_perfect_predictions_are_accurate_and_opposite_ones_are_not() -> None:
    """Accuracy is the share of positions whose target is most similar."""
    targets = torch.eye(8)
    distractors = sample_distractors(torch.zeros(8).long(), 5, fresh_seeds(1))
    for sign, accuracy in ((1.0, 1.0), (-1.0, 0.0)):
        sampled = sampled_contrastive(sign * targets, targets, distractors, 0.1)
        in_batch = in_batch_contrastive(sign * targets, targets, 1.0)
        assert (float(sampled.accuracy), float(in_batch.accuracy)) == (accuracy, accuracy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [[3000, 400], [0, 0]])
def test_nothing_masked_is_no_loss_and_a_usable_backward(
    name: str, lengths: list[int], small_config: Callable[[str], ModelConfig]
) -> None:
    """Without masked frames there is no contrastive loss, and gradients are finite."""
    model = build_model(small_config(name), seed=1).train()
    output = model(torch.randn(2, 3000) * 0.1, torch.tensor(lengths))
    assert len(output.mask_indices) == 0
    assert output.contrastive.item() == output.accuracy.item() == 0
    output.loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())


@given(logits=st.lists(st.lists(st.floats(-20, 20), min_size=6, max_size=6), min_size=1))
def test_diversity_lies_in_0_to_1(logits: list[list[float]]) -> None:
    """The unused share of a codebook is in [0, 1)."""
    usage = torch.tensor(logits).softmax(dim=-1)
    assert -1e-5 <= float(diversity_loss(usage)) < 1


def test_diversity_is_zero_at_uniform_usage_alone() -> None:
    """Uniform usage loses nothing, one entry in use loses all others."""
    uniform, single = torch.full((2, 50), 0.02), torch.eye(50)[:2]
    tilted = uniform + torch.linspace(-0.001, 0.001, 50)
    assert float(diversity_loss(uniform)) == pytest.approx(0, abs=1e-5)
    assert float(diversity_loss(single)) == pytest.approx(49 / 50, abs=1e-5)
    assert float(diversity_loss(tilted)) > 1e-4


def test_the_penalty_is_the_mean_square_of_valid_features() -> None:
    """The feature penalty ignores padding."""
    values = torch.randn(2, 7, 4)
    values[1, 3:] = torch.nan
    frames = Frames(values, torch.tensor([7, 3]))
    expected = torch.cat([values[0], values[1, :3]]).square().mean()
    torch.testing.assert_close(feature_penalty(frames), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_weighted_sum(
    name: str, small_config: Callable[[str], ModelConfig], clip: Callable[..., Tensor]
) -> None:
    """Contrastive loss, diversity and feature penalty add up with the config's weights."""
    model = build_model(small_config(name), seed=1)
    output = model(clip(1, 0, 16_000)[None], torch.tensor([16_000]))
    objective = model.config.objective
    assert objective is not None
    expected = (
        output.contrastive
        + objective.diversity_weight * output.diversity
        + objective.penalty_weight * output.feature_penalty
    )
    torch.testing.assert_close(output.loss, expected)


def test_gradients_repeat_with_several_threads() -> None:
    """Many positions share a distractor, and their gradients add up in one order."""
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(2, 300, 64, generator=generator)
    distractors = torch.randint(0, 300, (300, 100), generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = []
        for _ in range(10):
            own = targets.clone().requires_grad_()
            loss = sampled_contrastive(predictions, own, distractors, 0.1).loss
            found.extend(torch.autograd.grad(loss, own))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(x, found[0]) for x in found)
