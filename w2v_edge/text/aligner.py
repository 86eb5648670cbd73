"""Alignment of a written text: the times of its lines, words and labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.alignment import WILDCARD, LabelPath, align_labels
from w2v_edge.text.decoding import mean_probability
from w2v_edge.text.labelling import Labelling
from w2v_edge.text.spelling import Spelling

Unknown = Literal["star", "skip", "error"]
"""What characters without a label do: take any label's frames, none, or raise an error."""

STAR = "*"
"""The label shown for characters without one."""

UNLIKELY = 0.1
"""Score below which a text is said to fit badly: a wrong one has a few hundredths at most."""

TATWEEL = "\u0640"
"""Stretches an Arabic word, and is not spoken."""

MAX_NAMED = 12
"""Most words that a message names."""


@dataclass(frozen=True)
class AlignedLabel:
    """One label on the path.

    Attributes:
        label: as the vocabulary has it; `*` for characters without one.
        frame: first frame that emits it.
        end_frame: the frame after the last.
        start: seconds, of the first frame.
        end: seconds, of the end.
        score: in [0, 1], the geometric mean of its probabilities over these frames.
    """

    label: str
    frame: int
    end_frame: int
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class AlignedWord:
    """One word as it is written, from its first label to its last.

    Attributes:
        word: the word.
        start: seconds.
        end: seconds.
        score: in [0, 1]; see `AlignedLabel`.
        labels: its labels.
    """

    word: str
    start: float
    end: float
    score: float
    labels: tuple[AlignedLabel, ...]


@dataclass(frozen=True)
class AlignedLine:
    """One line as it is written, from its first word to its last.

    Attributes:
        text: the line.
        words: its words that were aligned.
        start: seconds.
        end: seconds.
        score: in [0, 1]; see `AlignedLabel`.
    """

    text: str
    words: tuple[AlignedWord, ...]
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Alignment:
    """The times of a text in a recording.

    Attributes:
        words: words with a time, in order.
        labels: labels in order, delimiters between words included.
        unaligned: words without a time, since none of their characters has a label.
        lines: lines with a time, in order.
        score: in [0, 1], the geometric mean of the labels' probabilities over their frames.
    """

    words: tuple[AlignedWord, ...]
    labels: tuple[AlignedLabel, ...]
    unaligned: tuple[str, ...]
    lines: tuple[AlignedLine, ...]
    score: float

    @property
    def remarks(self) -> list[str]:
        """Doubts about the result."""
        found = []
        if self.unaligned:
            more = " ..." if len(self.unaligned) > MAX_NAMED else ""
            named = " ".join(self.unaligned[:MAX_NAMED])
            found.append(f"{len(self.unaligned)} words have no label and no time: {named}{more}")
        if self.words and self.score < UNLIKELY:
            found.append(
                f"the text fits the audio badly (score {self.score:.2g}): check that they belong "
                "together"
            )
        return found


@dataclass
class _Targets:
    """Labels of a text in order, and the words and lines that they belong to.

    Attributes:
        labels: indices, or `WILDCARD`.
        shown: each label's name.
        words: for each aligned word its text, and its first and end label.
        lines: for each aligned line its text, and its first and end word.
        unaligned: words without a label.
    """

    labels: list[int] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    words: list[tuple[str, int, int]] = field(default_factory=list)
    lines: list[tuple[str, int, int]] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)

    def add(self, label: int, shown: str) -> None:
        """Append a label."""
        self.labels.append(label)
        self.shown.append(shown)


@dataclass(frozen=True)
class Aligner:
    """Aligns texts to the logits of a CTC model.

    Case and Unicode form follow the labels; punctuation that no label has takes no time.

    Attributes:
        spelling: text of each label.
        names: each label as the vocabulary has it.
        unknown: what characters without a label do.
        romanize: applied to each word before its labels are looked up.
        strict: raise an error for words without a label, unless they are punctuation.
    """

    spelling: Spelling
    names: Sequence[str]
    unknown: Unknown = "star"
    romanize: Callable[[str], str] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check the choice.

        Raises:
            InputError: an unknown value of `unknown`.
        """
        choices = get_args(Unknown)
        if self.unknown not in choices:
            raise InputError(
                f"found unknown {self.unknown!r:.40}, expected one of {', '.join(choices)}"
            )

    def align(
        self, logits: npt.NDArray[Any], text: str | Sequence[str], frame_seconds: float
    ) -> Alignment:
        """Align a text to logits.

        Args:
            logits: (frames, labels).
            text: the text, or its lines.
            frame_seconds: seconds between frames.

        Raises:
            InputError: the text has no words, needs more frames than there are, or, as asked, has
                characters or words without a label; logits that are not finite.
        """
        self.spelling.check(logits)
        lines = text.splitlines() if isinstance(text, str) else text
        if lines is None or not all(isinstance(x, str) and _is_unicode(x) for x in lines):
            raise InputError("found a text that is not Unicode text, expected what is spoken")
        targets = self._targets(lines)
        if not targets.words:
            what = f"none of the {len(targets.unaligned)} words has a label" * bool(
                targets.unaligned
            )
            raise InputError(
                f"found no words to align ({what or 'the text is empty'}); give the text that is "
                "spoken, in the language of the model"
            )
        path = align_labels(logits, targets.labels, self.spelling.blank)
        return _collect(targets, path, frame_seconds)

    @cached_property
    def _labelling(self) -> Labelling:
        return Labelling(self.spelling)

    @cached_property
    def _delimiter(self) -> int | None:
        texts = self.spelling.texts
        if " " not in texts or any(x.startswith(" ") and x.strip() for x in texts):
            # Pieces that begin a word need no delimiter.
            return None
        return texts.index(" ")

    @cached_property
    def _units(self) -> dict[str, int]:
        """Labels that are separate units, such as phonemes, by their texts."""
        return {
            text.strip(): i
            for i, text in enumerate(self.spelling.texts)
            if text.strip() and text.endswith(" ")
        }

    def _targets(self, lines: Sequence[str]) -> _Targets:
        found, unknown = _Targets(), set()
        for line in lines:
            first = len(found.words)
            for word in line.split():
                begin = len(found.labels)
                if found.words and self._delimiter is not None:
                    found.add(self._delimiter, self.names[self._delimiter])
                start = len(found.labels)
                for piece, label in self.pieces(word):
                    if label is not None:
                        found.add(label, self.names[label])
                    elif self.unknown == "star" and found.labels[start:][-1:] != [WILDCARD]:
                        found.add(WILDCARD, STAR)
                    elif self.unknown == "error":
                        unknown.add(piece)
                if len(found.labels) > start:
                    found.words.append((word, start, len(found.labels)))
                else:
                    del found.labels[begin:], found.shown[begin:]
                    found.unaligned.append(word)
            if len(found.words) > first:
                found.lines.append((line.strip(), first, len(found.words)))
        self._check(unknown, found.unaligned)
        return found

    def pieces(self, word: str) -> Iterator[tuple[str, int | None]]:
        """Yield the pieces of a word, each with its label; None where it has none."""
        if self.romanize is not None:
            word = self.romanize(word)
        if self._units:
            yield word, self._units.get(word)
            return
        for piece, label in self._labelling.pieces(self._labelling.form.normalise(word)):
            # Marks that no label has belong to the letter before, which keeps its frames.
            if label is not None or not (piece.isspace() or all(map(_is_mark, piece))):
                yield piece, label

    def _check(self, unknown: set[str], unaligned: Sequence[str]) -> None:
        if unknown:
            raise InputError(
                f"found {len(unknown)} characters without a label: "
                f"{' '.join(sorted(unknown)[:MAX_NAMED])}; spell them out, or let them be skipped "
                "or take any label's frames (unknown 'skip' or 'star')"
            )
        spoken = [word for word in unaligned if any(char.isalnum() for char in word)]
        if self.strict and spoken:
            raise InputError(
                f"found {len(spoken)} words without a label: {' '.join(spoken[:MAX_NAMED])}; "
                "remove them, or spell them out"
            )


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: halves of surrogate pairs cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or char == TATWEEL


def _collect(targets: _Targets, path: LabelPath, seconds: float) -> Alignment:
    """Return the times of all labels, words and lines."""
    lengths = path.end - path.first
    scores = [mean_probability(x, n) for x, n in zip(path.scores, lengths.tolist(), strict=True)]
    labels = tuple(
        AlignedLabel(label, first, end, first * seconds, end * seconds, score)
        for label, first, end, score in zip(
            targets.shown, path.first.tolist(), path.end.tolist(), scores, strict=True
        )
    )
    sums, counts = (np.append(0, np.cumsum(x)) for x in (path.scores, lengths))

    def score(first: int, end: int) -> float:
        frames = int(counts[end] - counts[first])
        return mean_probability(float(sums[end] - sums[first]), frames)

    words = tuple(
        AlignedWord(
            word, labels[first].start, labels[end - 1].end, score(first, end), labels[first:end]
        )
        for word, first, end in targets.words
    )
    lines = []
    for text, first, end in targets.lines:
        begin, stop = targets.words[first][1], targets.words[end - 1][2]
        spoken = words[first:end]
        lines.append(AlignedLine(text, spoken, spoken[0].start, spoken[-1].end, score(begin, stop)))
    return Alignment(words, labels, tuple(targets.unaligned), tuple(lines), score(0, len(labels)))
