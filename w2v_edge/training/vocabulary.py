"""Vocabulary of a CTC head: normalisation of texts, and their conversion to labels and back.

Texts are trained and scored as `normalise` returns them:

- Unicode is in NFKC and lower case;
- letters, accents and digits stay: spell out numbers in the manifest;
- apostrophes between letters stay, as `'`; others are quotation marks, and are removed;
- punctuation and symbols, hyphens too, become spaces; format characters are removed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy.typing as npt

from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import ConfigError
from w2v_edge.model.config import CtcHeadConfig, ModelConfig
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.spelling import Spelling

BLANK, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"
SPECIAL = (BLANK, UNKNOWN)

APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\uff07"), "'")
_QUOTES = re.compile(r"(?<!\w)'|'(?!\w)")
MAX_NAMED = 12
"""Most characters that an error names."""


def normalise(text: str) -> str:
    """Return a normalised text; normalising again changes nothing."""
    text = unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).lower()
    kept: list[str] = []
    for char in unicodedata.normalize("NFKC", text):
        kind = unicodedata.category(char)
        if kind[0] in "LN" or char == "'" or (kind[0] == "M" and kept and kept[-1].strip()):
            kept.append(char)
        elif kind != "Cf":
            kept.append(" ")
    words = unicodedata.normalize("NFKC", "".join(kept))
    return " ".join(_QUOTES.sub(" ", words).split())


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a CTC head, for normalised texts.

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
    def _labels(self) -> Mapping[str, int]:
        """Labels by normalised character; of both cases of a character, the lower one."""
        head = self.head
        found: dict[str, int] = {}
        for index, label in enumerate(head.labels):
            if label == head.word_delimiter:
                found[" "] = index
            elif label not in head.special and index != head.blank:
                key = label.lower()
                if key not in found or label == key:
                    found[key] = index
        return found

    @cached_property
    def _decoder(self) -> GreedyDecoder:
        head = self.head
        info = CtcInfo(
            head.blank,
            head.word_delimiter,
            head.special,
            head.language,
            head.separator,
            head.lowercase,
        )
        return GreedyDecoder(Spelling.of(head.labels, info))

    @cached_property
    def _unknown(self) -> int | None:
        return self.head.labels.index(UNKNOWN) if UNKNOWN in self.head.labels else None

    def encode(self, text: str) -> list[int]:
        """Return the labels of a normalised text.

        A character without a label becomes the unknown label, or nothing if there is none. Spaces
        become nothing in a vocabulary without a word delimiter.
        """
        labels = []
        for char in text:
            label = self._labels.get(char, None if char == " " else self._unknown)
            if label is not None:
                labels.append(label)
        return labels

    def decode(self, logits: npt.NDArray[Any]) -> str:
        """Return the normalised text of logits (n, labels), by the runtime's greedy decoder.

        Raises:
            InputError: the logits are not finite.
        """
        return normalise(self._decoder.decode(logits, 0.0).text)

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Return the characters of normalised texts that have no label."""
        return sorted(set().union(*map(set, texts)) - {" "} - self._labels.keys())

    def check_covers(self, texts: Iterable[str]) -> None:
        """Check that the vocabulary has all characters of normalised texts.

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


def head_for(texts: Iterable[str]) -> CtcHeadConfig:
    """Return a CTC head for the characters of normalised texts, in Unicode order."""
    characters = sorted(set().union(*map(set, texts)) - {" "})
    labels = (*SPECIAL, DELIMITER, *characters)
    return CtcHeadConfig(len(labels), labels, 0, DELIMITER, SPECIAL)
