"""The PyTorch models are batch-invariant."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from w2v_edge.model import SpeechModel

NAMES = ["tutorial-small", "base-small", "large-small", "tiny"]
GARBAGE = [float("nan"), -float("inf"), 1e9, 0.5]

lengths_of_batches = st.lists(st.integers(0, 5000), min_size=1, max_size=4)


class _Outputs(NamedTuple):
    features: Tensor
    context: Tensor
    codes: Tensor
    vectors: Tensor
    logits: Tensor


def _run(model: SpeechModel, waveform: Tensor, lengths: list[int]) -> tuple[_Outputs, list[int]]:
    assert model.quantizer is not None
    with torch.no_grad():
        features = model.features(waveform, torch.tensor(lengths))
        quantized = model.quantizer(features)
        context = model.context(features)
        logits = model.quantizer.logits(features.values)
    frames: list[int] = features.lengths.tolist()
    outputs = _Outputs(features.values, context, quantized.codes, quantized.vectors, logits)
    return outputs, frames


def _pad(waveforms: list[Tensor], extra: int, garbage: float) -> Tensor:
    longest = max(len(waveform) for waveform in waveforms) + extra
    batch = torch.full((len(waveforms), longest), garbage)
    for row, waveform in enumerate(waveforms):
        batch[row, : len(waveform)] = waveform
    return batch


@pytest.mark.parametrize("name", NAMES)
@given(
    lengths=lengths_of_batches,
    extra=st.integers(0, 1500),
    garbage=st.sampled_from(GARBAGE),
    start=st.integers(0, 10**6),
)
@example(lengths=[0], extra=0, garbage=0.5, start=0)
@example(lengths=[0, 0, 3000], extra=700, garbage=float("nan"), start=7)
@example(lengths=[1, 399, 400, 401], extra=0, garbage=float("nan"), start=7)
@example(lengths=[719, 720, 5000, 0], extra=1, garbage=1e9, start=20_000)
def test_an_utterance_is_the_same_alone_and_in_a_padded_batch(
    name: str,
    lengths: list[int],
    extra: int,
    garbage: float,
    start: int,
    small_model: Callable[[str], SpeechModel],
    clip: Callable[..., Tensor],
    same_codes: Callable[..., None],
) -> None:
    """Frames, codes and vectors are batch-invariant, and zero past the end."""
    model = small_model(name)
    waveforms = [clip(i, start, length) for i, length in enumerate(lengths)]
    together, frames = _run(model, _pad(waveforms, extra, garbage), lengths)
    for row, waveform in enumerate(waveforms):
        alone, [count] = _run(model, waveform[None], [len(waveform)])
        assert frames[row] == count == alone.features.shape[1]
        assert count == model.config.geometry.frames(len(waveform))
        for field in ("features", "context"):
            values = getattr(together, field)[row]
            _equal(values[:count], getattr(alone, field)[0])
            assert not values[count:].any()
        codes = together.codes[row]
        same_codes(codes[:count], alone.codes[0], alone.logits[0])
        assert not codes[count:].any()
        if torch.equal(codes[:count], alone.codes[0]):
            assert torch.equal(together.vectors[row, :count], alone.vectors[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("garbage", [float("nan"), 1e9])
def test_padding_changes_neither_losses_nor_gradients(
    name: str,
    garbage: float,
    small_model: Callable[[str], SpeechModel],
    clip: Callable[..., Tensor],
) -> None:
    """Training on a batch padded with anything is training on a batch padded with zeros."""
    model, lengths = small_model(name), [16_000, 0, 9000, 300]
    waveforms = [clip(i, 800, length) for i, length in enumerate(lengths)]
    seen = []
    for filling in (0.0, garbage):
        torch.manual_seed(1)
        output = model.train()(_pad(waveforms, 500, filling), torch.tensor(lengths))
        model.zero_grad()
        output.loss.backward()
        model.eval()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        seen.append([*(value.detach() for value in output), *gradients])
    model.zero_grad()
    for clean, dirty in zip(*seen, strict=True):
        torch.testing.assert_close(clean, dirty, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_more_padding_changes_no_statistic(
    name: str, small_model: Callable[[str], SpeechModel], clip: Callable[..., Tensor]
) -> None:
    """Diversity, penalty and perplexities are taken over valid frames only."""
    model, lengths = small_model(name), [16_000, 9000]
    waveforms = [clip(i, 800, length) for i, length in enumerate(lengths)]
    with torch.no_grad():
        short = model(_pad(waveforms, 0, 0.0), torch.tensor(lengths))
        long = model(_pad(waveforms, 8000, float("nan")), torch.tensor(lengths))
    for field in ("diversity", "feature_penalty", "code_perplexity", "usage_perplexity"):
        torch.testing.assert_close(
            getattr(short, field), getattr(long, field), atol=1e-5, rtol=1e-5
        )


def _equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0.0)
