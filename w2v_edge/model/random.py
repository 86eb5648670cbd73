"""Counter-based random numbers: each is a function of an utterance's seed and a counter.

Masks, distractors and noise are therefore batch-invariant, and independent of the device and the
world size. There is no generator state to save: a resumed run draws the same numbers.

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
"""Bits of a float32's significand."""

GAMMA = -0x61C8864680B583EB
"""2 ** 64 over the golden ratio, as a signed integer; torch's int64 arithmetic wraps around."""

ROUNDS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
"""Shifts and odd multipliers of splitmix64."""


class RandomStream(IntEnum):
    """Purpose of the numbers; the streams of one seed are independent."""

    SPAN_COUNT = 1
    SPAN_STARTS = 2
    DISTRACTORS = 3
    GUMBEL = 4
    TIME_MASK_COUNT = 5
    TIME_MASK_STARTS = 6
    CHANNEL_MASK_COUNT = 7
    CHANNEL_MASK_STARTS = 8


def seed_of(*names: object) -> int:
    """Hash names (run, epoch, utterance, ...) to a seed, 0 <= seed < 2 ** 63."""
    digest = hashlib.blake2b("\0".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def fresh_seeds(utterances: int, device: torch.device | None = None) -> Tensor:
    """Draw seeds (b,) from torch's global generator."""
    return torch.randint(2**62, (utterances,), device=device)


def uniform(seeds: Tensor, stream: RandomStream, *shape: int) -> Tensor:
    """Return uniform float32 in [0, 1), (b, *shape), for seeds (b,).

    The counter is the row-major position within `shape`: a longer first axis adds numbers at the
    end and keeps the others.
    """
    counters = torch.arange(math.prod(shape), device=seeds.device)
    drawn: Tensor = uniform_at(seeds, stream, rearrange(counters, "n -> 1 n"))
    return drawn.reshape(len(seeds), *shape)


def uniform_at(seeds: Tensor, stream: RandomStream, counters: Tensor) -> Tensor:
    """Return uniform float32 in [0, 1), (b, n), for seeds (b,) at counters (b, n)."""
    streams = hashed(seeds, torch.tensor(stream, device=seeds.device))
    fractions: Tensor = _shifted(hashed(rearrange(streams, "b -> b 1"), counters), 64 - BITS)
    return fractions.float().div(2**BITS)


def hashed(seeds: Tensor, counter: Tensor) -> Tensor:
    """Return 64 random bits as int64; seeds and counters broadcast."""
    bits: Tensor = seeds + (counter + 1) * GAMMA
    for shift, factor in ROUNDS:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """Logical right shift (int64's own is arithmetic)."""
    shifted: Tensor = (bits >> shift) & (2 ** (64 - shift) - 1)
    return shifted
