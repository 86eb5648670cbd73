"""Prompts as bags of n-grams of codes, and linear classifiers over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from bench.tiny.codes import Ints

LONGEST = 3
"""Codes in an n-gram."""


def vectorizer() -> TfidfVectorizer:
    """Return a vectorizer of codes (frames, groups) to weighted bags."""
    return TfidfVectorizer(analyzer=ngrams, sublinear_tf=True, min_df=2)


def classifier() -> LogisticRegression:
    """Return the linear classifier of all probes, without tuned hyperparameters."""
    return LogisticRegression(solver="liblinear", C=10.0, class_weight="balanced", random_state=0)


def ngrams(codes: Ints) -> list[tuple[int, ...]]:
    """Return each group's n-grams: its number, then codes without repetitions."""
    found: list[tuple[int, ...]] = []
    for group, series in enumerate(codes.T):
        changes = np.flatnonzero(np.diff(series, prepend=-1))
        short = series[changes].tolist()
        for size in range(1, LONGEST + 1):
            starts = range(len(short) - size + 1)
            found += [(group, *short[i : i + size]) for i in starts]
    return found


def bags(trained: Sequence[Ints], held_out: Sequence[Ints]) -> tuple[Any, Any]:
    """Return sparse bags of both sides; the training side selects the n-grams."""
    maker = vectorizer()
    return maker.fit_transform(trained), maker.transform(held_out)
