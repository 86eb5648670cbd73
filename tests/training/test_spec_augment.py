"""SpecAugment masks: spans within recordings, drawn from seeds alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.errors import ConfigError
from w2v_edge.model.padding import Frames
from w2v_edge.training.spec_augment import Masks, SpecAugment, apply_masks

LENGTHS = st.lists(st.integers(0, 80), min_size=1, max_size=5)
SHARES = st.floats(0, 0.9)


@settings(deadline=None, max_examples=50)
@given(lengths=LENGTHS, more=st.integers(0, 30), time=SHARES, seed=st.integers(0, 2**62))
def test_masks_are_batch_invariant(lengths: list[int], more: int, time: float, seed: int) -> None:
    """Masks are the same alone and in a padded batch; padding is not masked."""
    augment = SpecAugment(time=time, channels=0.25)
    seeds = torch.arange(len(lengths)) + seed
    frames = max(lengths) + more
    masks = augment.draw(torch.tensor(lengths), frames, 48, seeds)
    assert masks.time.shape == (len(lengths), frames)
    assert masks.channels.shape == (len(lengths), 48)
    for row, length in enumerate(lengths):
        alone = augment.draw(torch.tensor([length]), length, 48, seeds[row : row + 1])
        assert torch.equal(masks.time[row, :length], alone.time[0])
        assert torch.equal(masks.channels[row], alone.channels[0])
        assert not masks.time[row, length:].any()
        # A recording that is no longer than a span is not masked.
        assert length > augment.span_frames or not masks.time[row].any()


@settings(deadline=None, max_examples=20)
@given(time=st.floats(0.05, 0.8), channels=st.floats(0.05, 0.5))
def test_the_masked_share_is_as_configured(time: float, channels: float) -> None:
    """Random spans overlap: a share p masks about 1 - exp(-p), and at most p."""
    augment = SpecAugment(time=time, channels=channels)
    rows, frames, dim = 100, 500, 768
    masks = augment.draw(torch.full((rows,), frames), frames, dim, torch.arange(rows))
    for share, hidden in ((time, masks.time), (channels, masks.channels)):
        found = hidden.float().mean().item()
        expected = 1 - torch.tensor(-share).exp().item()
        assert 0.75 * expected - 0.02 < found < share + 0.02


def test_zero_shares_mask_nothing() -> None:
    """The frames are unchanged; the mask vector still gets a gradient."""
    values = torch.randn(2, 30, 12)
    lengths = torch.tensor([30, 20])
    masks = SpecAugment(0.0, 0.0).draw(lengths, 30, 12, torch.arange(2))
    vector = torch.zeros(12, requires_grad=True)
    hidden = apply_masks(Frames(values, lengths), masks, vector).values
    assert torch.equal(hidden, values)
    hidden.sum().backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None
    assert not vector.grad.any()


def test_masked_frames_are_the_vector_and_masked_channels_zero() -> None:
    """Channels are masked within masked frames too; without a vector frames become zero."""
    values = torch.ones(1, 4, 3)
    masks = Masks(torch.tensor([[False, True, False, False]]), torch.tensor([[True, False, False]]))
    frames = Frames(values, torch.tensor([4]))
    with_vector = apply_masks(frames, masks, torch.full((3,), 5.0)).values[0]
    assert with_vector.tolist() == [[0, 1, 1], [0, 5, 5], [0, 1, 1], [0, 1, 1]]
    without = apply_masks(frames, masks, None).values[0]
    assert without.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 1], [0, 1, 1]]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    """A share is at least 0 and below 1."""
    with pytest.raises(ConfigError, match=r"mask_time .*expected 0 to below 1"):
        SpecAugment(time=share)
