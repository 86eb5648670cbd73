"""Span masking: positions, counts and replacement."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from w2v_edge.model.config import FixedSpansConfig, ProbableSpansConfig
from w2v_edge.model.masking import FixedSpanMasker, ProbableSpanMasker, SpanMasker, dilate
from w2v_edge.model.padding import Frames
from w2v_edge.model.random import fresh_seeds

SPAN = 10
CHANNELS = 3

batches = st.lists(st.integers(0, 120), min_size=1, max_size=5)
seeds = st.integers(0, 2**31)
kinds = st.sampled_from(["fixed", "probability"])


def _masker(kind: str, probability: float = 0.065) -> SpanMasker:
    masker: SpanMasker
    if kind == "fixed":
        masker = FixedSpanMasker(CHANNELS, FixedSpansConfig(spans=8, span_frames=SPAN))
    else:
        config = ProbableSpansConfig(probability=probability, span_frames=SPAN)
        masker = ProbableSpanMasker(CHANNELS, config)
    torch.nn.init.constant_(masker.vector, 7.0)
    return masker


def _frames(lengths: list[int], extra: int = 0) -> Frames:
    return Frames(torch.randn(len(lengths), max(lengths) + extra, CHANNELS), torch.tensor(lengths))


def _runs(row: Tensor) -> list[int]:
    """The lengths of the runs of true values in row (n,)."""
    edges = [i for i, value in enumerate(row.tolist()) if not value]
    gaps = [b - a - 1 for a, b in pairwise([-1, *edges, len(row)])]
    return [gap for gap in gaps if gap]


@given(kind=kinds, lengths=batches, extra=st.integers(0, 30), seed=seeds)
def test_spans_lie_inside_their_utterances(
    kind: str, lengths: list[int], extra: int, seed: int
) -> None:
    """Every masked run is a span or more, and ends before the utterance does."""
    torch.manual_seed(seed)
    mask = _masker(kind)(_frames(lengths, extra)).mask
    for row, length in zip(mask, lengths, strict=True):
        assert not row[length:].any()
        assert all(run >= SPAN for run in _runs(row))
        assert bool(row.any()) == (length > SPAN)


@given(kind=kinds, lengths=batches, extra=st.integers(0, 30), seed=seeds)
def test_masked_frames_are_the_vector_and_the_rest_is_untouched(
    kind: str, lengths: list[int], extra: int, seed: int
) -> None:
    """Frames in the mask become the learned vector, all others stay, in a copy."""
    torch.manual_seed(seed)
    frames, masker = _frames(lengths, extra), _masker(kind)
    before = frames.values.clone()
    masked = masker(frames)
    assert torch.equal(frames.values, before)
    assert torch.equal(masked.frames.lengths, frames.lengths)
    expected = before.clone()
    expected[masked.mask] = masker.vector.detach()
    assert torch.equal(masked.frames.values, expected)


@given(kind=kinds, lengths=batches, extra=st.integers(0, 30), seed=seeds)
def test_indices_are_the_mask_in_row_major_order(
    kind: str, lengths: list[int], extra: int, seed: int
) -> None:
    """Indices list the (batch, frame) of each masked frame once, ascending."""
    torch.manual_seed(seed)
    masked = _masker(kind)(_frames(lengths, extra))
    listed = [tuple(pair) for pair in masked.indices.tolist()]
    count = masked.mask.shape[1]
    assert listed == [
        (row, frame)
        for row in range(len(lengths))
        for frame in range(count)
        if masked.mask[row, frame]
    ]


@given(lengths=batches, seed=seeds)
def test_fixed_starts_are_at_most_eight_and_leave_room(lengths: list[int], seed: int) -> None:
    """Starts lie in [0, frames - span), no more of them than spans."""
    torch.manual_seed(seed)
    starts = _masker("fixed").draw_starts(
        torch.tensor(lengths), max(lengths), fresh_seeds(len(lengths))
    )
    for row, length in zip(starts, lengths, strict=True):
        if length > SPAN:
            assert 1 <= row.sum() <= 8
            assert not row[length - SPAN :].any()


def test_fixed_starts_are_uniform() -> None:
    """Every start in [0, frames - span) is as likely as any other, and each span is drawn."""
    torch.manual_seed(0)
    starts = _masker("fixed").draw_starts(torch.full((4000,), 50), 50, fresh_seeds(4000))
    share = starts.float().mean(dim=0)
    expected = 1 - (39 / 40) ** 8
    assert share[:40].sub(expected).abs().max() < 0.03
    assert not share[40:].any()


def test_fixed_spans_are_eight_where_there_is_room() -> None:
    """In utterances so long that starts hardly collide, there are eight."""
    torch.manual_seed(0)
    starts = _masker("fixed").draw_starts(torch.full((16,), 100_000), 100_000, fresh_seeds(16))
    assert starts.sum(dim=1).tolist() == [8] * 16


def test_the_shortest_maskable_utterance_is_masked_from_its_first_frame() -> None:
    """With one frame more than a span, fixed spans have one place to start."""
    mask = _masker("fixed")(_frames([SPAN + 1])).mask
    assert mask.tolist() == [[True] * SPAN + [False]]


@given(lengths=batches, probability=st.floats(0.01, 0.5), seed=seeds)
def test_probable_starts_are_a_share_of_the_frames(
    lengths: list[int], probability: float, seed: int
) -> None:
    """The number of starts is p * frames, rounded either way, at least one, as room allows."""
    torch.manual_seed(seed)
    masker = _masker("probability", probability)
    starts = masker.draw_starts(torch.tensor(lengths), max(lengths), fresh_seeds(len(lengths)))
    for row, length in zip(starts, lengths, strict=True):
        room = max(length - SPAN + 1, 0)
        expected = probability * length
        fewest, most = math.floor(expected - 1e-4), math.ceil(expected + 1e-4)
        assert min(max(1, fewest), room) <= row.sum() <= min(max(1, most), room)
        assert not row[room:].any()


@pytest.mark.parametrize("probability", [0.065, 0.3])
def test_probable_starts_average_the_probability(probability: float) -> None:
    """Over many utterances the share of starts is p, not p rounded down."""
    torch.manual_seed(0)
    frames = 107
    starts = _masker("probability", probability).draw_starts(
        torch.full((3000,), frames), frames, fresh_seeds(3000)
    )
    assert float(starts.float().mean()) == pytest.approx(probability, rel=0.01)
    share = starts.float().mean(dim=0)[: frames - SPAN + 1]
    assert share.sub(share.mean()).abs().max() < 0.05


@given(starts=st.lists(st.booleans(), max_size=40), span=st.integers(1, 12))
def test_spread_unites_the_spans(starts: list[bool], span: int) -> None:
    """A frame is masked exactly if a span that reaches it has started."""
    mask = dilate(torch.tensor([starts], dtype=torch.bool), span)
    expected = [any(starts[max(0, i - span + 1) : i + 1]) for i in range(len(starts))]
    assert mask.tolist() == [expected]


@given(kind=kinds, lengths=batches, extra=st.integers(0, 30), seed=seeds)
def test_an_utterance_is_masked_by_its_seed_alone(
    kind: str, lengths: list[int], extra: int, seed: int
) -> None:
    """Masks depend on the seed only, not on padding or the batch."""
    masker, drawn = _masker(kind), torch.arange(seed, seed + len(lengths))
    together = masker.draw(torch.tensor(lengths), max(lengths) + extra, drawn).mask
    for row, length, own in zip(together, lengths, drawn, strict=True):
        alone = masker.draw(torch.tensor([length]), length, own[None]).mask[0]
        assert torch.equal(row[:length], alone)
