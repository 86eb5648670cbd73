"""Probe of words: one linear classifier per word, over bags of n-grams of codes.

No alignment is needed: a classifier learns from whole training prompts whether they contain a word,
and is evaluated on held-out prompts with other texts. The length of a prompt, which alone predicts
common words, is an input on every side, also without codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack

from bench.tiny.bags import bags, classifier
from bench.tiny.codes import Codes
from bench.tiny.prompts import Prompt, spoken
from bench.tiny.scores import Score, compared, mean_auc

LEAST_PROMPTS = 20
"""A word that fewer prompts hold, of both sides, is not asked for."""


def words_of(
    subjects: Mapping[str, Codes], prompts: Sequence[Prompt], group: str
) -> dict[str, Any] | None:
    """Return the AUC over the words of a group of prompts; None without common words."""
    trained, held_out = spoken(prompts, group)
    words = common_words(trained, held_out)
    if not words:
        return None
    scores = {name: _score(codes, trained, held_out, words) for name, codes in subjects.items()}
    count = {"words": words, "trained_on": len(trained), "held_out": len(held_out)}
    return {**count, **compared(scores)}


def common_words(trained: Sequence[Prompt], held_out: Sequence[Prompt]) -> list[str]:
    """Return common words that are both present and absent in each split."""
    counts = Counter(word for x in (*trained, *held_out) for word in _words(x))
    common = sorted(word for word, count in counts.items() if count >= LEAST_PROMPTS)
    return [word for word in common if _differs(word, trained) and _differs(word, held_out)]


def _differs(word: str, prompts: Sequence[Prompt]) -> bool:
    """Return whether some but not all of `prompts` contain the word."""
    return 0 < sum(word in _words(x) for x in prompts) < len(prompts)


def _score(
    codes: Codes, trained: Sequence[Prompt], held_out: Sequence[Prompt], words: Sequence[str]
) -> Score:
    sides = (trained, held_out)
    made = bags(*([codes.of[x.id] for x in side] for side in sides))
    learned, asked = (
        hstack([bag, csr_array(_lengths(codes, side))], format="csr")
        for bag, side in zip(made, sides, strict=True)
    )
    known, truth = (np.array([[w in _words(x) for x in side] for w in words]) for side in sides)
    values = [classifier().fit(learned, labels).decision_function(asked) for labels in known]
    return mean_auc(np.array(values), truth)


def _lengths(codes: Codes, prompts: Sequence[Prompt]) -> Any:
    """Return the logarithm of each prompt's frames, (prompts, 1)."""
    return np.log([[len(codes.of[x.id])] for x in prompts])


def _words(prompt: Prompt) -> set[str]:
    return set(prompt.text.split())
