"""From texts to labels and back: what is written, and with which characters.

A text is compared and learned as `normalise` leaves it:

- compatibility forms become plain ones (NFKC), all in lower case;
- letters with their accents, and digits, stay: numbers are best spelled out in the manifest;
- an apostrophe stays between letters, typographic ones as `'`; any other is a quotation mark;
- punctuation and symbols part words, as a hyphen does; invisible characters vanish.
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
from w2v_edge.model.config import CtcHeadConfig
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.spelling import Spelling

BLANK, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"
SPECIAL = (BLANK, UNKNOWN)

APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\uff07"), "'")
_QUOTES = re.compile(r"(?<!\w)'|'(?!\w)")
NAMED = 12
"""Characters that an error names at most."""


def normalise(text: str) -> str:
    """Return a text as it is learned and compared; twice is as once."""
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
    """The labels of a CTC head, for texts that are normalised."""

    head: CtcHeadConfig

    @cached_property
    def _labels(self) -> Mapping[str, int]:
        """Labels by normalised character; where a character has both cases, the lower one."""
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

        A character without a label has the unknown one, and none where there is no such label.
        Spaces have none in a vocabulary without a word delimiter.
        """
        labels = []
        for char in text:
            label = self._labels.get(char, None if char == " " else self._unknown)
            if label is not None:
                labels.append(label)
        return labels

    def decode(self, logits: npt.NDArray[Any]) -> str:
        """Return the normalised text of logits (frames, labels), as the runtime reads them.

        Raises:
            InputError: the logits are not finite.
        """
        return normalise(self._decoder.decode(logits, 0.0).text)

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Return the characters of normalised texts that have no label."""
        return sorted(set().union(*map(set, texts)) - {" "} - self._labels.keys())

    def refuse_missing(self, texts: Iterable[str]) -> None:
        """Raise `ConfigError` where texts have characters without a label."""
        head = self.head
        if not head.labels or head.separator:
            what = "no labels" if not head.labels else "labels that are no letters"
            raise ConfigError(
                f"found a checkpoint with {what}, expected letters; "
                "begin with those of your texts: --new-vocabulary"
            )
        missing = self.missing(texts)
        if missing:
            few = " ".join(missing[:NAMED]) + (" ..." if len(missing) > NAMED else "")
            raise ConfigError(
                f"the checkpoint's vocabulary lacks {len(missing)} characters of the texts: {few}; "
                "change the texts, or begin with their characters: --new-vocabulary"
            )


def head_for(texts: Iterable[str]) -> CtcHeadConfig:
    """Return a head for the characters of normalised texts, in the order of Unicode."""
    characters = sorted(set().union(*map(set, texts)) - {" "})
    labels = (*SPECIAL, DELIMITER, *characters)
    return CtcHeadConfig(len(labels), labels, 0, DELIMITER, SPECIAL)
