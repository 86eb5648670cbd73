"""Alignment of a written text: the times of its lines, words and labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError, one_line
from w2v_edge.text.alignment import WILDCARD, LabelPath, align_labels
from w2v_edge.text.decoding import mean_probability
from w2v_edge.text.labelling import Labelling, Piece
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
        index: in the vocabulary; None for characters without a label.
    """

    label: str
    frame: int
    end_frame: int
    start: float
    end: float
    score: float
    index: int | None


@dataclass(frozen=True)
class AlignedWord:
    """One word as it is written, from its first label to its last.

    Attributes:
        word: the word.
        start: seconds.
        end: seconds.
        score: in [0, 1]; see `AlignedLabel`.
        labels: its labels, delimiters within it included, as in a hyphenated word.
        position: its place among the text's words, from 0.
    """

    word: str
    start: float
    end: float
    score: float
    labels: tuple[AlignedLabel, ...]
    position: int


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
        score: in [0, 1], the geometric mean of the words' labels' probabilities over their frames;
            delimiters between words are left out.
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
            found.append(f"{_named(self.unaligned)} without a label: no time")
        starred = [x.word for x in self.words if any(y.index is None for y in x.labels)]
        if starred:
            found.append(f"{_named(starred)} with characters without a label: timed as any label")
        # A few long words that fit by chance hold up the score of a text that was never spoken.
        poor = sum(x.score < UNLIKELY for x in self.words)
        if self.words and (self.score < UNLIKELY or 2 * poor > len(self.words)):
            found.append(
                f"the text fits the audio badly (score {self.score:.2g}, {poor} of "
                f"{len(self.words)} words below {UNLIKELY}): check that they belong together"
            )
        return found


@dataclass
class Targets:
    """Labels of a text in order, and the words and lines that they belong to.

    Attributes:
        labels: indices, or `WILDCARD`.
        words: for each aligned word its text, its first and end label, and its position.
        lines: for each aligned line its text, and its first and end word.
        unaligned: words without a label.
        count: words seen.
    """

    labels: list[int] = field(default_factory=list)
    words: list[tuple[str, int, int, int]] = field(default_factory=list)
    lines: list[tuple[str, int, int]] = field(default_factory=list)
    unaligned: list[str] = field(default_factory=list)
    count: int = 0

    def part(self, first: int, end: int, stop: int) -> Targets:
        """Return the words from `first` to `end`, with their labels up to the label `stop`."""
        begin, stop = self.words[first][1], min(stop, self.words[end - 1][2])
        words = [
            (word, start - begin, min(last, stop) - begin, position)
            for word, start, last, position in self.words[first:end]
        ]
        return Targets(self.labels[begin:stop], words)


@dataclass(frozen=True)
class Aligner:
    """Aligns texts to the logits of a CTC model.

    Case and Unicode form follow the labels, but phonemes keep their case; punctuation that no label
    has takes no time.

    Attributes:
        spelling: text of each label.
        names: each label as the vocabulary has it.
        unknown: what characters without a label do.
        romanize: applied to each word before its labels are looked up; for labels of phonemes it
            may give several, parted by spaces.
        strict: raise an error for words without a label, unless they are punctuation.
    """

    spelling: Spelling
    names: Sequence[str]
    unknown: Unknown = "star"
    romanize: Callable[[str], str] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            InputError: an unknown value of `unknown`, or `romanize` cannot be called.
        """
        if self.romanize is not None and not callable(self.romanize):
            raise InputError(
                f"found romanize {self.romanize!r:.40}, expected a function of a word, or None"
            )
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
                characters or words without a label; logits that are not finite; `romanize` failed.
        """
        self.spelling.check(logits)
        targets = self.targets(text)
        path = align_labels(logits, targets.labels, self.spelling.blank)
        return self.collect(targets, path, frame_seconds)

    def targets(self, text: str | Sequence[str]) -> Targets:
        """Return the labels of a text, or of its lines.

        Raises:
            InputError: the text has no words, or, as asked, has characters or words without a
                label; `romanize` failed.
        """
        lines = text.splitlines() if isinstance(text, str) else text
        if not isinstance(lines, Sequence) or not all(map(_is_unicode, lines)):
            raise InputError(
                f"found a text that is not Unicode text, {lines!r:.40}, expected what is spoken"
            )
        targets = self._targets_of(lines)
        if not targets.words:
            what = f"none of the {len(targets.unaligned)} words has a label" * bool(
                targets.unaligned
            )
            raise InputError(
                f"found no words to align ({what or 'the text is empty'}); give the text that is "
                "spoken, in the language of the model"
            )
        return targets

    @cached_property
    def _labelling(self) -> Labelling:
        return _labelling_of(self.spelling)

    @cached_property
    def _delimiter(self) -> int | None:
        """The label between words; pieces that begin a word, and units, need none."""
        texts = self.spelling.texts
        if " " not in texts or self._units or any(x.startswith(" ") and x.strip() for x in texts):
            return None
        return texts.index(" ")

    @cached_property
    def _units(self) -> dict[str, int]:
        """Labels that are separate units, such as phonemes, by their texts and by their NFC.

        A delimiter between words is one of them, where a text has it as the vocabulary writes it.
        """
        texts = self.spelling.texts
        units = {x.strip(): i for i, x in enumerate(texts) if x.endswith(" ") and x.strip()}
        if units and " " in texts:
            units.setdefault(self.names[texts.index(" ")], texts.index(" "))
        return {unicodedata.normalize("NFC", x): i for x, i in units.items()} | units

    def _targets_of(self, lines: Sequence[str]) -> Targets:
        found, unknown = Targets(), set()
        for line in lines:
            first = len(found.words)
            for word in line.split():
                unknown |= self._add(word, found)
            if len(found.words) > first:
                found.lines.append((line.strip(), first, len(found.words)))
        self._check(unknown, found.unaligned)
        return found

    def _add(self, word: str, found: Targets) -> set[str]:
        """Add the labels of a word, after a delimiter, and return its characters without a label.

        A delimiter that is written between units belongs to no word.
        """
        labels, unknown = self._labels_of(word)
        if any(x == WILDCARD or self.spelling.texts[x].strip() for x in labels):
            if found.words and self._delimiter is not None:
                found.labels.append(self._delimiter)
            start = len(found.labels)
            found.words.append((word, start, start + len(labels), found.count))
            found.labels += labels
        elif labels and self._units:
            found.labels += labels
        else:
            found.unaligned.append(word)
        found.count += 1
        return unknown

    def _labels_of(self, word: str) -> tuple[list[int], set[str]]:
        """Return the labels of a word, delimiters only within, and characters without a label."""
        labels: list[int] = []
        unknown = set()
        for piece, known in self.pieces(word):
            label = WILDCARD if known is None else known
            last = labels[-1] if labels else self._delimiter
            if known is None and self.unknown != "star":
                unknown.add(piece)
            elif label != last or label not in {WILDCARD, self._delimiter}:
                labels.append(label)
        if labels and labels[-1] == self._delimiter:
            labels.pop()
        return labels, unknown if self.unknown == "error" else set()

    def pieces(self, word: str) -> Iterator[Piece]:
        """Yield the pieces of a word, each with its label; None where it has none."""
        word = self._romanized(word)
        if self._units:
            for unit in word.split():
                composed = unicodedata.normalize("NFC", unit)
                yield unit, self._units.get(unit, self._units.get(composed))
            return
        for piece, label in self._labelling.pieces(self._labelling.form.normalise(word)):
            # Marks that no label has belong to the letter before, which keeps its frames.
            if label is not None or not (piece.isspace() or all(map(_is_mark, piece))):
                yield piece, label

    def _romanized(self, word: str) -> str:
        if self.romanize is None:
            return word
        try:
            found: object = self.romanize(word)
        except Exception as error:
            what = f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"romanize failed for {word!r:.40} ({what})") from error
        if not isinstance(found, str) or not _is_unicode(found):
            raise InputError(f"found {found!r:.40} from romanize for {word!r:.40}, expected a text")
        return found

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

    def collect(self, targets: Targets, path: LabelPath, seconds: float) -> Alignment:
        """Return the times of all labels, words and lines."""
        lengths = path.end - path.first
        scores = [
            mean_probability(x, n) for x, n in zip(path.scores, lengths.tolist(), strict=True)
        ]
        labels = tuple(
            AlignedLabel(
                STAR if index == WILDCARD else self.names[index],
                first,
                end,
                first * seconds,
                end * seconds,
                score,
                None if index == WILDCARD else index,
            )
            for index, first, end, score in zip(
                targets.labels, path.first.tolist(), path.end.tolist(), scores, strict=True
            )
        )
        # Delimiters have no share in scores, as in those of transcriptions.
        spoken = np.zeros(len(labels), bool)
        for _, first, end, _ in targets.words:
            spoken[first:end] = True
        spoken &= np.array([index != self._delimiter for index in targets.labels], bool)
        sums, counts = (
            np.append(0, np.cumsum(np.where(spoken, x, 0))) for x in (path.scores, lengths)
        )

        def score(first: int, end: int) -> float:
            frames = int(counts[end] - counts[first])
            return mean_probability(float(sums[end] - sums[first]), frames)

        words = tuple(
            AlignedWord(
                word,
                labels[first].start,
                labels[end - 1].end,
                score(first, end),
                labels[first:end],
                position,
            )
            for word, first, end, position in targets.words
        )
        lines = []
        for text, first, end in targets.lines:
            begin, stop = targets.words[first][1], targets.words[end - 1][2]
            within = words[first:end]
            times = within[0].start, within[-1].end
            lines.append(AlignedLine(text, within, *times, score(begin, stop)))
        whole = score(0, len(labels))
        return Alignment(words, labels, tuple(targets.unaligned), tuple(lines), whole)


@lru_cache(maxsize=4)
def _labelling_of(spelling: Spelling) -> Labelling:
    """Return the labelling of a model, whose tables take longer to make than a text to align."""
    return Labelling(spelling)


def _is_unicode(text: object) -> bool:
    """Whether it is a text that can be written: halves of surrogate pairs cannot."""
    return isinstance(text, str) and not any("\ud800" <= char <= "\udfff" for char in text)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or char == TATWEEL


def _named(words: Sequence[str]) -> str:
    """Return the number of words, and the first of them."""
    shown = " ".join(f"{word:.40}" for word in words[:MAX_NAMED])
    noun = "word" if len(words) == 1 else "words"
    return f"{len(words)} {noun} ({shown}{' ...' if len(words) > MAX_NAMED else ''})"
