"""The columns that a beam search reads: the labels of a model, one column for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import BundleError
from w2v_edge.text.alignment import align_labels
from w2v_edge.text.confidence import label_probability
from w2v_edge.text.decoding import Word, mean_probability
from w2v_edge.text.piece_search import BLANK, Span
from w2v_edge.text.segmentation import likeliest_labels
from w2v_edge.text.spelling import Spelling, log_softmax

SUBWORD_MARKS = ("##", "▁")
"""Labels that begin so would be taken for pieces of words."""

Scores = npt.NDArray[np.floating[Any]]


class LabelColumns:
    """Scores of texts: the probabilities of labels with the same text are summed.

    Attributes:
        texts: text of each column. The first is empty: the blank and all special labels. Units with
            a space behind, such as phonemes, are words whichever side it is on; it is in front.
    """

    def __init__(self, spelling: Spelling) -> None:
        """Merge the labels of a model.

        Raises:
            BundleError: labels that contain spaces, or are all marked as inner pieces of words.
        """
        self._spelling = spelling
        members: dict[str, list[int]] = {"": []}
        for i, text in enumerate(spelling.texts):
            members.setdefault(f" {text.strip()}" if text.endswith(" ") else text, []).append(i)
        self.texts, self._members = tuple(members), list(members.values())
        _check_texts(self.texts)

    @property
    def are_pieces(self) -> bool:
        """Whether some labels begin a word and are text too, such as pieces and phonemes."""
        return any(text.startswith(" ") and text != " " for text in self.texts)

    @property
    def part_words(self) -> bool:
        """Whether some label begins a word or is the delimiter between words."""
        return any(text.startswith(" ") for text in self.texts)

    def scores(self, logits: npt.NDArray[Any]) -> Scores:
        """Return the log-probabilities (frames, columns) of logits (frames, labels).

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self._spelling.check(logits)
        scores = log_softmax(logits)
        columns = [
            scores[:, members[0]]
            if len(members) == 1
            else np.logaddexp.reduce(scores[:, members], axis=1)
            for members in self._members
        ]
        return np.stack(columns, axis=1)


class WordReader:
    """Turns words that a search found into words of a transcription."""

    def __init__(self, texts: Sequence[str], searched: Sequence[str]) -> None:
        """Read words of columns.

        Args:
            texts: of the columns.
            searched: the same in the case in which they are searched.
        """
        self._texts = texts
        columns = {text: i for i, text in enumerate(searched) if text.strip()}
        self._first = {text[1:]: i for text, i in columns.items() if text.startswith(" ")}
        self._inner = {text: i for text, i in columns.items() if not text.startswith(" ")}
        self._silent = [column for column, text in enumerate(texts) if not text.strip()]

    def read(self, scores: Scores, span: Span, frame_seconds: float) -> tuple[Word, float, int]:
        """Return a word, the log-probability of its labels, and the frames that emit them.

        Args:
            scores: (frames, columns) log-probabilities.
            span: the word as it was searched, with its frames in `scores`.
            frame_seconds: seconds between frames.
        """
        searched, (first, end) = span
        start, stop, frames = first * frame_seconds, end * frame_seconds, scores[first:end]
        columns = likeliest_labels(frames, searched, self._first, self._inner, BLANK)
        if not columns:
            return Word(searched, start, stop, 0.0), -np.inf, 1
        labels = np.array(columns)
        text = "".join(self._texts[column] for column in columns).strip()
        path = align_labels(frames, labels, BLANK)
        found = label_probability(frames, labels, path.first, BLANK)
        emitted = int((path.end - path.first).sum())
        return Word(text, start, stop, found), float(path.scores.sum()), emitted

    def silence(self, scores: Scores) -> float:
        """Return the score of a text without words, over (frames, columns)."""
        return mean_probability(float(scores[:, self._silent].max(axis=1).sum()), len(scores))


def _check_texts(texts: tuple[str, ...]) -> None:
    """Check for labels that a search would misread.

    Raises:
        BundleError: a label has a space among letters, or a mark whose meaning is not known.
    """
    for text in texts:
        letters = text.removeprefix(" ")
        if letters.split() not in ([], [letters]) or letters.startswith(SUBWORD_MARKS):
            raise BundleError(
                f"found the label {text!r:.40}, which contains a space or is marked as a "
                "piece of a word; beam search needs labels of letters or pieces: decode without it"
            )
