"""Vocabulary of a CTC head: conversion of texts to labels and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy.typing as npt

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import ConfigError
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.labelling import Labelling
from w2v_edge.text.spelling import Spelling
from w2v_edge.text.text_form import TextForm

BLANK, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"
SPECIAL = (BLANK, UNKNOWN)

MAX_NAMED = 12
"""Most characters that an error names."""


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

    @property
    def form(self) -> TextForm:
        """The form of texts that these labels can spell."""
        return self.labelling.form

    @cached_property
    def labelling(self) -> Labelling:
        """Finds the labels of texts."""
        return Labelling(self._spelling)

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
    def _decoder(self) -> GreedyDecoder:
        return GreedyDecoder(self._spelling)

    @cached_property
    def _unknown(self) -> int | None:
        return self.head.labels.index(UNKNOWN) if UNKNOWN in self.head.labels else None

    def encode(self, text: str) -> list[int]:
        """Return the labels of a text.

        A character without a label becomes the unknown label, or nothing if there is none. Spaces
        become nothing in a vocabulary without a word delimiter.
        """
        labels = []
        for piece, index in self.labelling.pieces(self.form.normalise(text)):
            label = index if index is not None or piece == " " else self._unknown
            if label is not None:
                labels.append(label)
        return labels

    def spell(self, text: str) -> str:
        """Return a text as a perfect transcript of it has it: the texts of its labels.

        Characters without a label stay as they are; spaces are lost without a word delimiter.
        """
        texts = self._spelling.texts
        pieces = self.labelling.pieces(self.form.normalise(text))
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
        return all(
            index is not None or piece == " " for piece, index in self.labelling.pieces(word)
        )

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


def head_for(texts: Iterable[str]) -> CtcHeadConfig:
    """Return a CTC head for the characters of normalised texts, in Unicode order."""
    characters = sorted(set().union(*map(set, texts)) - {" "})
    labels = (*SPECIAL, DELIMITER, *characters)
    return CtcHeadConfig(len(labels), labels, 0, DELIMITER, SPECIAL)
