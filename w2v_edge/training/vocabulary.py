"""Vocabulary of a CTC head: normalisation of texts, and their conversion to labels and back.

Texts are trained and scored as `TextForm.normalise` returns them:

- Unicode is in NFKC, and in lower case unless the labels hold both cases;
- letters, accents and digits stay: spell out numbers in the manifest;
- apostrophes between letters stay, as `'`; others are quotation marks, and are removed;
- punctuation, symbols and format characters that the labels hold stay; other punctuation and
  symbols, hyphens too, become spaces, and other format characters are removed.

Texts and labels are compared decomposed (NFKD), the longest label first: labels of several
characters, composed or decomposed letters, and Korean letters are all found.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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


@dataclass(frozen=True)
class TextForm:
    """The form of texts that suits a vocabulary.

    Attributes:
        kept: punctuation, symbols and format characters that stay, in NFKC.
        cased: whether the case of letters stays.
    """

    kept: frozenset[str] = frozenset()
    cased: bool = False

    @classmethod
    def of_texts(cls, labels: Iterable[str]) -> TextForm:
        """Return the form of texts that labels of these texts can spell."""
        found = set(unicodedata.normalize("NFKC", "".join(labels))) - {" ", "'"}
        letters = {x.lower() for x in found if x.lower() != x.upper()}
        both = sum(x in found and x.upper() in found for x in letters)
        kept = frozenset(x for x in found if unicodedata.category(x)[0] not in "LNM")
        return cls(kept, cased=2 * both > len(letters))

    def normalise(self, text: str) -> str:
        """Return a normalised text; normalising again changes nothing."""
        return self._normalise(text, Counter())

    def dropped(self, text: str) -> Counter[str]:
        """Return the characters of a text that normalising leaves out, spaces aside."""
        counts: Counter[str] = Counter()
        self._normalise(text, counts)
        return counts

    def _normalise(self, text: str, dropped: Counter[str]) -> str:
        other = {code: x for code, x in APOSTROPHES.items() if chr(code) not in self.kept}
        text = unicodedata.normalize("NFKC", text.translate(other))
        text = text if self.cased else text.lower()
        kept: list[str] = []
        for char in unicodedata.normalize("NFKC", text):
            kind = unicodedata.category(char)
            marks = kind[0] == "M" and kept and kept[-1].strip()
            if kind[0] in "LN" or char == "'" or char in self.kept or marks:
                kept.append(char)
                continue
            if not char.isspace():
                dropped[char] += 1
            if kind != "Cf":
                kept.append(" ")
        words = unicodedata.normalize("NFKC", "".join(kept))
        return " ".join(_QUOTES.sub(" ", words).split())


PLAIN = TextForm()
"""Letters, digits and apostrophes in lower case, the form of new vocabularies."""


def normalise(text: str) -> str:
    """Return a text in the form of new vocabularies."""
    return PLAIN.normalise(text)


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
        return TextForm.of_texts(text for text in self._spelling.texts if text.strip())

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
        lower_first = sorted(
            ((text, i) for i, text in enumerate(self._spelling.texts) if text),
            key=lambda x: x[0] != x[0].lower(),
        )
        folds: tuple[Callable[[str], str], ...] = (str.lower,)
        if self.form.cased:
            folds = (str, str.lower, str.upper)
        for fold in folds:
            for text, index in lower_first:
                # Some letters are two in the other case.
                if len(fold(text)) == len(text):
                    for key in _decomposed(fold(text)):
                        found.setdefault(key, index)
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
        """Yield pieces of a decomposed text with their labels; None for a character without."""
        if any(key[0] == " " for key in self._labels if key != " "):
            # Pieces that begin a word begin with a space.
            text = " " + text
        for match in self._pattern.finditer(unicodedata.normalize("NFKD", text)):
            piece = match.group()
            yield piece, self._labels.get(piece, self._labels.get(piece.lower()))

    def encode(self, text: str) -> list[int]:
        """Return the labels of a normalised text.

        A character without a label becomes the unknown label, or nothing if there is none. Spaces
        become nothing in a vocabulary without a word delimiter.
        """
        labels = []
        for piece, index in self._pieces(text):
            label = index if index is not None or piece == " " else self._unknown
            if label is not None:
                labels.append(label)
        return labels

    def decode(self, logits: npt.NDArray[Any]) -> str:
        """Return the normalised text of logits (n, labels), by the runtime's greedy decoder.

        Raises:
            InputError: the logits are not finite.
        """
        return self.form.normalise(self._decoder.decode(logits, 0.0).text)

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Return the characters of normalised texts that have no label."""
        words = {word for text in texts for word in text.split()}
        found: set[str] = set()
        for word in words:
            if not self._covers(word):
                characters = {x for x in _characters(word) if not self._covers(x)}
                found |= characters or {word}
        return sorted(found)

    def _covers(self, word: str) -> bool:
        return all(index is not None or piece == " " for piece, index in self._pieces(word))

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
