"""Vector quantizers: codes, codebook rows, sampling, gradients and usage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from w2v_edge.model import preset
from w2v_edge.model.config import (
    GumbelQuantizerConfig,
    SoftQuantizerConfig,
    TemperatureSchedule,
)
from w2v_edge.model.padding import Frames
from w2v_edge.model.quantizer import (
    GumbelVectorQuantizer,
    SoftVectorQuantizer,
    VectorQuantizer,
    gumbel_softmax,
    perplexity,
)

CHANNELS, GROUPS, ENTRIES, WIDTH = 12, 3, 7, 15
GUMBEL = GumbelQuantizerConfig(
    GROUPS, ENTRIES, WIDTH, TemperatureSchedule(2.0, 0.5, 0.999), hard=True
)
KINDS = ["hard", "gumbel", "soft"]
SEEDS = torch.tensor([7])


def _quantizer(kind: str) -> VectorQuantizer:
    torch.manual_seed(1)
    quantizer: VectorQuantizer
    if kind == "soft":
        quantizer = SoftVectorQuantizer(CHANNELS, SoftQuantizerConfig(GROUPS, ENTRIES, WIDTH))
    else:
        quantizer = GumbelVectorQuantizer(CHANNELS, replace(GUMBEL, hard=kind == "hard"))
    torch.nn.init.normal_(quantizer.codebook.weight)
    torch.nn.init.normal_(quantizer.scorer.weight)
    return quantizer


def _frames(*lengths: int, extra: int = 0) -> Frames:
    values = torch.randn(len(lengths), max(lengths) + extra, CHANNELS)
    valid = torch.arange(values.shape[1]) < torch.tensor(lengths)[:, None]
    return Frames(values * valid[..., None], torch.tensor(lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_inference_takes_the_best_entry_and_its_exact_row(kind: str) -> None:
    """In eval mode codes are the hard argmax, vectors the chosen rows, groups side by side."""
    quantizer = _quantizer(kind).eval()
    frames = _frames(20, 13)
    output = quantizer(frames)
    scores = quantizer.get_submodule("scorer")(frames.values).reshape(2, 20, GROUPS, ENTRIES)
    for row, length in enumerate((20, 13)):
        for frame in range(length):
            codes = scores[row, frame].argmax(dim=-1)
            assert torch.equal(output.codes[row, frame], codes)
            rows = [quantizer.codebook.weight[group, code] for group, code in enumerate(codes)]
            assert torch.equal(output.vectors[row, frame], torch.cat(rows))
    assert not output.codes[1, 13:].any()


def test_inference_draws_no_random_number() -> None:
    """In eval mode the random state is left as it was."""
    state = torch.get_rng_state()
    frames = Frames(torch.ones(1, 5, CHANNELS), torch.tensor([5]))
    quantizer = _quantizer("hard").eval()
    torch.set_rng_state(state)
    quantizer(frames)
    assert torch.equal(torch.get_rng_state(), state)


def test_hard_samples_are_one_hot() -> None:
    """Hard Gumbel weights choose one entry a group, so vectors are codebook rows."""
    quantizer = _quantizer("hard").train()
    logits = quantizer.logits(_frames(50).values)
    weights = quantizer.weights(logits, 0, SEEDS)
    chosen = torch.nn.functional.one_hot(weights.argmax(dim=-1), ENTRIES).float()
    torch.testing.assert_close(weights, chosen, atol=1e-6, rtol=0.0)


def test_hard_samples_follow_the_softmax() -> None:
    """Entries are sampled by the softmax of the logits, at any temperature."""
    torch.manual_seed(0)
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0]).log_softmax(dim=0)
    for temperature in (2.0, 0.1):
        samples = gumbel_softmax(logits.expand(1, 40_000, 4), temperature, SEEDS)[0].argmax(dim=-1)
        share = samples.bincount(minlength=4) / len(samples)
        torch.testing.assert_close(share, logits.exp(), atol=0.01, rtol=0.0)


def test_the_gradient_of_hard_samples_is_that_of_the_soft_ones() -> None:
    """With the same noise, hard weights pass on the gradient of the soft weights."""
    coefficients = torch.randn(1, 9, GROUPS, ENTRIES)
    gradients: list[Tensor] = []
    for kind in ("hard", "gumbel"):
        logits = torch.linspace(-1, 1, coefficients.numel()).reshape(coefficients.shape)
        logits.requires_grad_()
        quantizer = _quantizer(kind).train()
        torch.manual_seed(4)
        weighted = (quantizer.weights(logits, 0, SEEDS) * coefficients).sum()
        gradients.extend(torch.autograd.grad(weighted, logits))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_scorer_and_codebook(kind: str) -> None:
    """In training a loss on the vectors moves every score, entry and the features."""
    quantizer = _quantizer(kind).train()
    frames = _frames(200)
    values = frames.values.requires_grad_()
    quantizer(Frames(values, frames.lengths)).vectors.square().sum().backward()
    for tensor in (values, *quantizer.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert bool((tensor.grad != 0).float().mean() > 0.99)


def test_a_soft_quantizer_mixes_rows_by_softmax() -> None:
    """In training the soft quantizer's vectors are weighted sums of codebook rows."""
    quantizer = _quantizer("soft").train()
    frames = _frames(6)
    weights = quantizer.logits(frames.values).softmax(dim=-1)
    mixed = [weights[0, :, group] @ quantizer.codebook.weight[group] for group in range(GROUPS)]
    torch.testing.assert_close(quantizer(frames).vectors[0], torch.cat(mixed, dim=-1))


@given(
    start=st.floats(0.5, 5.0),
    end=st.floats(0.05, 0.5),
    decay=st.floats(0.9, 1.0),
    update=st.integers(0, 10**6),
)
def test_the_temperature_falls_from_start_to_end(
    start: float, end: float, decay: float, update: int
) -> None:
    """The schedule starts at `start`, never rises, and stops at `end`."""
    schedule = TemperatureSchedule(start, end, decay)
    assert schedule.at(0) == start
    assert end <= schedule.at(update + 1) <= schedule.at(update) <= start


def test_the_published_schedules() -> None:
    """BASE falls from 2 to 0.5 by 0.999995 an update, `tutorial` stays at 0.1."""
    base, tutorial = preset("base").quantizer, preset("tutorial").quantizer
    assert isinstance(base, GumbelQuantizerConfig)
    assert isinstance(tutorial, GumbelQuantizerConfig)
    assert base.temperature.at(100_000) == pytest.approx(2 * 0.999995**100_000)
    assert base.temperature.at(400_000) == 0.5
    assert tutorial.temperature.at(0) == tutorial.temperature.at(10**6) == 0.1


def test_the_schedule_reaches_the_samples() -> None:
    """Late in training, soft Gumbel weights are nearer to one-hot than early."""
    quantizer = _quantizer("gumbel").train()
    logits = quantizer.logits(_frames(100).values)
    sharpness = []
    for update in (0, 10_000):
        torch.manual_seed(2)
        sharpness.append(quantizer.weights(logits, update, SEEDS).amax(dim=-1).mean().item())
    assert sharpness[1] > sharpness[0] + 0.05


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    extra=st.integers(0, 5),
    kind=st.sampled_from(KINDS),
)
def test_usage_is_over_valid_frames_only(lengths: list[int], extra: int, kind: str) -> None:
    """Usage and perplexity ignore padding."""
    quantizer = _quantizer(kind).eval()
    frames = _frames(*lengths, extra=extra)
    padding = torch.arange(frames.values.shape[1]) >= frames.lengths[:, None]
    dirty = frames.values.masked_fill(padding[..., None], 50.0)
    clean, other = quantizer(frames), quantizer(Frames(dirty, frames.lengths))
    for field in ("codes", "usage", "code_perplexity", "usage_perplexity"):
        assert torch.equal(getattr(clean, field), getattr(other, field))
    total = sum(lengths)
    logits = quantizer.logits(frames.values)[~padding]
    if total:
        torch.testing.assert_close(clean.usage, logits.softmax(dim=-1).mean(dim=0))
        torch.testing.assert_close(clean.usage.sum(dim=-1), torch.ones(GROUPS))
    assert (clean.code_perplexity >= 1 - 1e-4).all()
    assert (clean.code_perplexity <= max(1, min(ENTRIES, total)) + 1e-4).all()
    assert (clean.usage_perplexity <= ENTRIES + 1e-4).all()


def test_perplexity_counts_entries_in_use() -> None:
    """Entries used equally often count as themselves, unused ones not at all."""
    usage = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [0.25] * 4])
    torch.testing.assert_close(perplexity(usage), torch.tensor([1.0, 2.0, 4.0]))
