"""Goodness of pronunciation: how well each label of a known text was spoken.

The goodness of a label is the mean, over the frames that emit it, of its log-posterior less that of
the best label: 0 where no other label is likelier, and below where one is. It is the ratio of
Witt and Young, "Phone-level pronunciation scoring" (Speech Communication 30, 2000, section 2.1),
with the network's posteriors in place of likelihoods, as in Hu et al. (Speech Communication 67,
2015). The blank takes no part, and neither do delimiters between words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.aligner import AlignedLabel, Alignment
from w2v_edge.text.spelling import Spelling, log_softmax


@dataclass(frozen=True)
class ScoredLabel:
    """One label of a word.

    Attributes:
        label: as the vocabulary has it.
        start: seconds.
        end: seconds.
        gop: goodness, at most 0.
        heard: the label that is likeliest over these frames; the same if it was spoken well.
    """

    label: str
    start: float
    end: float
    gop: float
    heard: str


@dataclass(frozen=True)
class ScoredWord:
    """One word as it is written.

    Attributes:
        word: the word.
        start: seconds.
        end: seconds.
        gop: mean goodness of its labels.
        labels: in order; characters without a label have none.
    """

    word: str
    start: float
    end: float
    gop: float
    labels: tuple[ScoredLabel, ...]


@dataclass(frozen=True)
class Pronunciation:
    """How well a text was spoken.

    Attributes:
        words: in order; those that consist of characters without a label are left out.
        gop: mean goodness of all labels.
        alignment: on which it is measured.
    """

    words: tuple[ScoredWord, ...]
    gop: float
    alignment: Alignment


def score_pronunciation(
    logits: npt.NDArray[Any], alignment: Alignment, names: Sequence[str], spelling: Spelling
) -> Pronunciation:
    """Score the labels of an alignment.

    Args:
        logits: (frames, labels) of the recording.
        alignment: of the text to these logits.
        names: each label as the vocabulary has it.
        spelling: text of each label.

    Raises:
        InputError: no character of the text has a label.
    """
    words = []
    for word in alignment.words:
        labels = tuple(
            _scored(logits, label, label.index, names, spelling.blank)
            for label in word.labels
            if label.index is not None and spelling.texts[label.index].strip()
        )
        if labels:
            gop = float(np.mean([x.gop for x in labels]))
            words.append(ScoredWord(word.word, word.start, word.end, gop, labels))
    if not words:
        raise InputError(
            "found no character with a label in the text; spell it out to score how it is spoken"
        )
    gop = float(np.mean([x.gop for word in words for x in word.labels]))
    return Pronunciation(tuple(words), gop, alignment)


def _scored(
    logits: npt.NDArray[Any], label: AlignedLabel, column: int, names: Sequence[str], blank: int
) -> ScoredLabel:
    scores = log_softmax(logits[label.frame : label.end_frame]).astype(np.float64)
    scores[:, blank] = -np.inf
    gop = float((scores[:, column] - scores.max(axis=1)).mean())
    heard = int(scores.sum(axis=0).argmax())
    return ScoredLabel(label.label, label.start, label.end, gop, names[heard])
