"""Probes of speaker and language: classification of groups of recordings by their codes.

A linear classifier over bags of n-grams of codes sees chunks of one length, so that length carries
no information. High accuracy for two speakers: codes encode the voice (or the room and the line).
High accuracy for two languages of one speaker: codes encode more than the voice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from bench.tiny.bags import bags, classifier
from bench.tiny.codes import Codes, Ints
from bench.tiny.prompts import Prompt
from bench.tiny.scores import Score, balanced_accuracy, compared

PIECE_SECONDS = 2.0


@dataclass(frozen=True)
class Pair:
    """Two sets of groups to classify.

    Attributes:
        kind: "speaker", or "language" of one speaker.
        names: names of the two sides.
        sides: the groups of each side.
    """

    kind: str
    names: tuple[str, str]
    sides: tuple[tuple[str, ...], tuple[str, ...]]


def pairs(speakers: Mapping[str, tuple[str, ...]]) -> list[Pair]:
    """Return all pairs of speakers, and all pairs of groups of one speaker."""
    made = [
        Pair("speaker", (a, b), (speakers[a], speakers[b])) for a, b in combinations(speakers, 2)
    ]
    for own in speakers.values():
        made += [Pair("language", (a, b), ((a,), (b,))) for a, b in combinations(own, 2)]
    return made


def told_apart(
    subjects: Mapping[str, Codes], prompts: Sequence[Prompt], pair: Pair, frames: int
) -> dict[str, Any] | None:
    """Return the balanced accuracy over chunks of `frames` frames; None if a side is empty."""
    chosen = [x for side in pair.sides for x in prompts if x.group in side]
    trained = [x for x in chosen if not x.held_out]
    held_out = [x for x in chosen if x.held_out]
    scores = {}
    for name, codes in subjects.items():
        learned, asked = (_pieces(codes, side, frames) for side in (trained, held_out))
        if min(_sides(learned, pair), _sides(asked, pair)) < 2:
            return None
        scores[name] = _score(pair, learned, asked, len(held_out))
    pieces = {"trained_on": len(learned), "held_out": len(asked)}
    return {"kind": pair.kind, "names": pair.names, "pieces": pieces, **compared(scores)}


Piece = tuple[int, str, Ints]
"""The prompt's number, its group, and codes (frames, groups)."""


def _pieces(codes: Codes, prompts: Sequence[Prompt], frames: int) -> list[Piece]:
    return [
        (number, prompt.group, codes.of[prompt.id][start : start + frames])
        for number, prompt in enumerate(prompts)
        for start in range(0, len(codes.of[prompt.id]) - frames + 1, frames)
    ]


def _sides(pieces: Sequence[Piece], pair: Pair) -> int:
    """Count the sides that have a chunk."""
    return len({group in pair.sides[1] for _, group, _ in pieces})


def _score(pair: Pair, learned: Sequence[Piece], asked: Sequence[Piece], units: int) -> Score:
    known, truth = (
        np.array([group in pair.sides[1] for _, group, _ in side]) for side in (learned, asked)
    )
    train, test = bags([x for *_, x in learned], [x for *_, x in asked])
    told = classifier().fit(train, known).predict(test)
    right, count = np.zeros((2, units)), np.zeros((2, units))
    for (number, *_), label, answer in zip(asked, truth, told, strict=True):
        count[int(label), number] += 1
        right[int(label), number] += label == answer
    return balanced_accuracy(right, count)
