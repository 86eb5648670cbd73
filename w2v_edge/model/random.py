"""Random numbers of utterances: each a function of its utterance's seed, and of nothing else.

So masks, distractors and noise are the same alone, in a padded batch, on another device, and
however a batch is split over processes. They need no state: a run that is taken up again at some
step draws what it would have drawn.

Source: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014), as a hash of a counter.
"""

from __future__ import annotations

import hashlib
import math
from enum import IntEnum

import torch
from einops import rearrange
from torch import Tensor

BITS = 24
"""Of a float32's fraction."""

GAMMA = -0x61C8864680B583EB
"""The golden ratio of 2 ** 64, as a signed number; torch's int64 wraps around."""

ROUNDS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
"""Shifts and odd factors of splitmix64."""


class Stream(IntEnum):
    """What numbers are drawn for; streams of one seed are independent."""

    SPAN_COUNT = 1
    SPAN_STARTS = 2
    DISTRACTORS = 3
    GUMBEL = 4
    TIME_MASK_COUNT = 5
    TIME_MASK_STARTS = 6
    CHANNEL_MASK_COUNT = 7
    CHANNEL_MASK_STARTS = 8


def seed_of(*what: object) -> int:
    """Return a seed, 0 <= seed < 2 ** 63, of whatever names an utterance at one time."""
    digest = hashlib.blake2b("\0".join(map(str, what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def fresh_seeds(utterances: int, device: torch.device | None = None) -> Tensor:
    """Draw seeds (b,) from torch's own random state."""
    return torch.randint(2**62, (utterances,), device=device)


def uniform(seeds: Tensor, stream: Stream, *shape: int) -> Tensor:
    """Return float32 in [0, 1), (b, *shape), for utterances of `seeds` (b,).

    A number depends on the seed and on its place: a larger first axis adds numbers, and changes
    none.
    """
    places = torch.arange(math.prod(shape), device=seeds.device)
    drawn: Tensor = uniform_at(seeds, stream, rearrange(places, "n -> 1 n"))
    return drawn.reshape(len(seeds), *shape)


def uniform_at(seeds: Tensor, stream: Stream, places: Tensor) -> Tensor:
    """Return float32 in [0, 1), (b, n), for `seeds` (b,) at `places` (b, n)."""
    streams = hashed(seeds, torch.tensor(stream, device=seeds.device))
    fractions: Tensor = _shifted(hashed(rearrange(streams, "b -> b 1"), places), 64 - BITS)
    return fractions.float().div(2**BITS)


def hashed(seeds: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits, as int64, for seeds and counters that broadcast."""
    bits: Tensor = seeds + (counter + 1) * GAMMA
    for shift, factor in ROUNDS:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """Shift to the right, zeros coming in."""
    shifted: Tensor = (bits >> shift) & (2 ** (64 - shift) - 1)
    return shifted
