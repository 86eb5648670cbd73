"""Goodness of pronunciation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import w2v_edge
from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import InputError
from w2v_edge.text.aligner import Aligner
from w2v_edge.text.pronunciation import Pronunciation, score_pronunciation
from w2v_edge.text.spelling import Spelling, log_softmax

LABELS = ("<pad>", "t", "d", "ts")
SECONDS = 0.02


def _score(spoken: list[str], text: str) -> Pronunciation:
    """Score phonemes spoken one after another, with blanks between, as another text."""
    columns = [0, *(x for name in spoken for x in (LABELS.index(name), LABELS.index(name), 0))]
    logits = 8 * np.eye(len(LABELS))[columns]
    spelling = Spelling.of(LABELS, CtcInfo(0, None, ("<pad>",), separator=" "))
    alignment = Aligner(spelling, LABELS).align(logits, text, SECONDS)
    return score_pronunciation(logits, alignment, LABELS, spelling)


def test_what_is_said_well_and_what_is_not() -> None:
    """Labels as said have 0; another in a label's place is named, and scores what it is less."""
    right = _score(["t", "d", "ts"], "t d ts")
    assert right.gop == 0
    assert [x.labels[0].heard for x in right.words] == ["t", "d", "ts"]
    wrong = _score(["t", "d", "ts"], "t t ts")
    assert [x.gop for x in wrong.words] == [0, pytest.approx(-8), 0]
    assert [x.labels[0].heard for x in wrong.words] == ["t", "d", "ts"]
    assert wrong.gop == pytest.approx(-8 / 3)
    assert wrong.words[1].start == wrong.alignment.words[1].start


def test_characters_without_a_label_have_no_score() -> None:
    """They are aligned, and left out of the scores."""
    found = _score(["t", "d", "ts"], "t x ts")
    assert [x.word for x in found.words] == ["t", "ts"]
    assert [x.word for x in found.alignment.words] == ["t", "x", "ts"]


def test_delimiters_within_words_have_no_score() -> None:
    """A hyphen is spoken as two words are, and a label `*` as any other."""
    labels = ("<pad>", "|", "a", "b", "*")
    spelling = Spelling.of(labels, CtcInfo(0, "|", ("<pad>",)))
    logits = 8.0 * np.eye(5)[[2, 0, 2, 0, 3, 0, 4]]
    alignment = Aligner(spelling, labels).align(logits, "a-b*", SECONDS)
    assert [x.label for x in alignment.words[0].labels] == ["a", "|", "b", "*"]
    (word,) = score_pronunciation(logits, alignment, labels, spelling).words
    assert [(x.label, x.gop) for x in word.labels] == [("a", 0), ("b", 0), ("*", 0)]
    assert word.gop == 0


def test_texts_without_labels() -> None:
    """They have no score at all, rather than a perfect one."""
    with pytest.raises(InputError, match="no character with a label"):
        _score(["t"], "x y")


def test_a_model(ctc_bundle: Path, speech: dict[str, Any]) -> None:
    """`Model.score` measures each label over its frames, from the model's own logits."""
    model, clip = w2v_edge.load(ctc_bundle), speech["en-activated"]
    found = model.score(clip, "OH, NO 1")
    assert [x.word for x in found.words] == ["OH,", "NO"]
    logits = model.encode(clip).logits
    assert logits is not None
    label = found.alignment.words[0].labels[1]
    rows = log_softmax(logits[label.frame : label.end_frame]).astype(np.float64)[:, 1:]
    column = model.manifest.labels.index("H") - 1
    expected = float((rows[:, column] - rows.max(axis=1)).mean())
    assert found.words[0].labels[1].gop == pytest.approx(expected)
    assert found.words[0].labels[1].heard in model.manifest.labels
    with pytest.raises(InputError, match="no words"):
        model.score(clip, "")
