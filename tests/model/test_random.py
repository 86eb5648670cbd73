"""Random numbers of utterances: even, independent, and a function of seed and place."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.model.random import RandomStream, fresh_seeds, hashed, seed_of, uniform

SEEDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4)


def test_the_hash_is_splitmix64() -> None:
    """The first numbers of the published generator, from its state 1234567."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = hashed(torch.tensor(1234567), torch.arange(4))
    assert [x % 2**64 for x in found.tolist()] == known


@given(seeds=SEEDS, rows=st.integers(0, 9), more=st.integers(0, 9), width=st.integers(1, 5))
def test_a_longer_utterance_has_the_same_numbers_first(
    seeds: list[int], rows: int, more: int, width: int
) -> None:
    """Random numbers of a frame do not depend on later frames or other utterances."""
    together = uniform(torch.tensor(seeds), RandomStream.GUMBEL, rows + more, width)
    assert ((together >= 0) & (together < 1)).all()
    for row, seed in zip(together, seeds, strict=True):
        alone = uniform(torch.tensor([seed]), RandomStream.GUMBEL, rows, width)[0]
        assert torch.equal(alone, row[:rows])


@pytest.mark.parametrize("seeds", [torch.arange(64), fresh_seeds(64)])
def test_numbers_are_even_and_independent(seeds: torch.Tensor) -> None:
    """Each hundredth is as full as any; neighbours, seeds and streams know nothing of another."""
    drawn = uniform(seeds, RandomStream.GUMBEL, 10_000)
    counts = torch.histc(drawn, bins=100, min=0, max=1) / drawn.numel()
    assert (counts - 0.01).abs().max() < 0.0008
    assert len(set(drawn.flatten().tolist())) > 0.95 * drawn.numel()
    other = uniform(seeds, RandomStream.DISTRACTORS, 10_000)
    for a, b in ((drawn[:, 1:], drawn[:, :-1]), (drawn[1:], drawn[:-1]), (drawn, other)):
        together = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
        assert together.abs() < 0.006


@given(st.lists(st.text(max_size=5), min_size=1, max_size=3, unique=True))
def test_other_names_have_other_seeds(names: list[str]) -> None:
    """And each is a number that torch takes."""
    seeds = [seed_of(run, name) for run, name in itertools.product((0, 1), names)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of("a", "b") != seed_of("ab", "")
