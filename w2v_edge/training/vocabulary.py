"""Vocabulary of a CTC head: conversion of texts to labels and back.

Texts and labels are compared decomposed (NFKD), the longest label first: labels of several
characters, composed or decomposed letters, accents in any order, and Korean letters are all found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, takewhile
from typing import Any

import numpy.typing as npt

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import ConfigError
from w2v_edge.model.config import CtcHeadConfig, ModelConfig
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.spelling import Spelling
from w2v_edge.training.text_form import DOTTED, TextForm

BLANK, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"
SPECIAL = (BLANK, UNKNOWN)

SIGMA, FINAL_SIGMA = "\u03c3\u03c2"
"""One letter of Greek, the second at the end of a word; capitals do not tell them apart."""

ACCENTED = re.compile(r"\w[^\w\s]{2,}")
"""A letter with what may be several accents, decomposed."""

MAX_NAMED = 12
"""Most characters that an error names."""

MAX_MARKS = 4
"""Most accents on one letter whose order is changed to find labels."""


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a CTC head, for texts in its form.

    Attributes:
        head: configuration of the head.
    """

    head: CtcHeadConfig

    @classmethod
    def of_model(cls, config: ModelConfig) -> Vocabulary:
        """Return the vocabulary of a model.

        Raises:
            ConfigError: the model has no CTC head.
        """
        if not isinstance(config.head, CtcHeadConfig):
            raise ConfigError("found a model without a CTC head, expected one with")
        return cls(config.head)

    @cached_property
    def form(self) -> TextForm:
        """The form of texts that these labels can spell."""
        return TextForm.of_labels(text for text in self._spelling.texts if text.strip())

    @cached_property
    def _spelling(self) -> Spelling:
        head = self.head
        info = CtcInfo(
            head.blank,
            head.word_delimiter,
            head.special,
            head.language,
            head.separator,
            head.lowercase,
        )
        return Spelling.of(head.labels, info)

    @cached_property
    def _labels(self) -> Mapping[str, int]:
        """Labels by decomposed text: of the same case first, then of the other."""
        found: dict[str, int] = {}
        lower = self.form.lower
        lower_first = sorted(
            ((text, i) for i, text in enumerate(self._spelling.texts) if text),
            key=lambda x: (x[0] != x[0].lower(), DOTTED in x[0]),
        )
        folds: tuple[Callable[[str], str], ...] = (lower,)
        if self.form.cased:
            folds = (str, lower, str.upper)
        for fold in folds:
            for text, index in lower_first:
                # Some letters are two in the other case.
                if len(fold(text)) == len(text):
                    for key in _decomposed(fold(text)):
                        # The capitals of a sign such as № show once it is decomposed.
                        found.setdefault(fold(key), index)
        if SIGMA in found:
            found.setdefault(FINAL_SIGMA, found[SIGMA])
        return found

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._labels, key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), "."]), re.DOTALL)

    @cached_property
    def _decoder(self) -> GreedyDecoder:
        return GreedyDecoder(self._spelling)

    @cached_property
    def _unknown(self) -> int | None:
        return self.head.labels.index(UNKNOWN) if UNKNOWN in self.head.labels else None

    def _pieces(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield pieces of a normalised text, decomposed, with their labels; None without one."""
        if any(key[0] == " " for key in self._labels if key != " "):
            # Pieces that begin a word begin with a space.
            text = " " + text
        decomposed = ACCENTED.sub(self._in_order, unicodedata.normalize("NFKD", text))
        for match in self._pattern.finditer(decomposed):
            piece = match.group()
            yield piece, self._label_of(piece)

    def _in_order(self, accented: re.Match[str]) -> str:
        """Return a letter with its accents in the order that the fewest labels spell, if any does.

        Unicode orders accents by their place, whatever the labels hold: an e with circumflex and
        dot below is the label of an e with circumflex and another of the dot.
        """
        letter = accented.group()[0]
        marks = list(takewhile(unicodedata.combining, accented.group()[1:]))
        written = letter + "".join(marks)
        if not 1 < len(marks) <= MAX_MARKS:
            return accented.group()
        orders = (letter + "".join(order) for order in permutations(marks))
        equal = [x for x in orders if unicodedata.normalize("NFD", x) == written]
        best = min(equal, key=self._cost, default=written)
        return best + accented.group()[len(written) :]

    def _cost(self, text: str) -> tuple[int, int]:
        """Return the number of pieces of a decomposed text without a label, and of all."""
        pieces = self._pattern.findall(text)
        return sum(self._label_of(x) is None for x in pieces), len(pieces)

    def _label_of(self, piece: str) -> int | None:
        return self._labels.get(piece, self._labels.get(self.form.lower(piece)))

    def encode(self, text: str) -> list[int]:
        """Return the labels of a text.

        A character without a label becomes the unknown label, or nothing if there is none. Spaces
        become nothing in a vocabulary without a word delimiter.
        """
        labels = []
        for piece, index in self._pieces(self.form.normalise(text)):
            label = index if index is not None or piece == " " else self._unknown
            if label is not None:
                labels.append(label)
        return labels

    def spell(self, text: str) -> str:
        """Return a text as a perfect transcript of it has it: the texts of its labels.

        Characters without a label stay as they are; spaces are lost without a word delimiter.
        """
        texts = self._spelling.texts
        pieces = self._pieces(self.form.normalise(text))
        spelled = (x.strip() if index is None else texts[index] for x, index in pieces)
        return " ".join("".join(spelled).split())

    def decode(self, logits: npt.NDArray[Any]) -> str:
        """Return the text of logits (n, labels), by the runtime's greedy decoder.

        Raises:
            InputError: the logits are not finite.
        """
        return self._decoder.decode(logits, 0.0).text

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Return the characters of texts, normalised, that have no label."""
        words = {word for text in texts for word in self.form.normalise(text).split()}
        found: set[str] = set()
        for word in words:
            if not self._covers(word):
                characters = {x for x in _characters(word) if not self._covers(x)}
                found |= characters or {word}
        return sorted(found)

    def _covers(self, word: str) -> bool:
        return all(index is not None or piece == " " for piece, index in self._pieces(word))

    def check_covers(self, texts: Iterable[str]) -> None:
        """Check that the vocabulary has all characters of texts, normalised.

        Raises:
            ConfigError: a character has no label, or the labels are not letters.
        """
        head = self.head
        if not head.labels or head.separator:
            what = "no labels" if not head.labels else "labels other than letters"
            raise ConfigError(
                f"found a checkpoint with {what}, expected letters; "
                "replace them by the characters of your texts: --new-vocabulary"
            )
        missing = self.missing(texts)
        if missing:
            few = " ".join(missing[:MAX_NAMED]) + (" ..." if len(missing) > MAX_NAMED else "")
            raise ConfigError(
                f"the checkpoint's vocabulary lacks {len(missing)} characters of the texts: {few}; "
                "change the texts, or take their characters as labels: --new-vocabulary"
            )


def _characters(text: str) -> Iterator[str]:
    """Yield the characters of a text, each with its marks."""
    for match in re.finditer(r"\S[\u0300-\u036f]*", text):
        yield match.group()


def _decomposed(text: str) -> Iterator[str]:
    """Yield the decomposed forms of a label: a Korean letter has another at a syllable's end."""
    yield unicodedata.normalize("NFKD", text)
    name = unicodedata.name(text, "") if len(text) == 1 else ""
    if name.startswith("HANGUL LETTER"):
        try:
            yield unicodedata.lookup(name.replace("LETTER", "JONGSEONG"))
        except KeyError:
            return


def head_for(texts: Iterable[str]) -> CtcHeadConfig:
    """Return a CTC head for the characters of normalised texts, in Unicode order."""
    characters = sorted(set().union(*map(set, texts)) - {" "})
    labels = (*SPECIAL, DELIMITER, *characters)
    return CtcHeadConfig(len(labels), labels, 0, DELIMITER, SPECIAL)
