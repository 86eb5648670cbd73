"""Which utterances are held out: told by their names alone, so that they stay held out.

A recording that is added later moves none of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from w2v_edge.audio import Utterance


def is_held_out(name: str, share: float) -> bool:
    """Tell whether the utterance `name` is among the `share` of all that is held out."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def split(utterances: Sequence[Utterance], share: float) -> tuple[list[Utterance], list[Utterance]]:
    """Return what is trained on, and what is held out."""
    trained = [x for x in utterances if not is_held_out(x.id, share)]
    held_out = [x for x in utterances if is_held_out(x.id, share)]
    return trained, held_out
