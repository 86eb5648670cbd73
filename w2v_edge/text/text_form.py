"""The form of texts that labels can spell, and the characters that it leaves out.

- Unicode is in NFKC, and in lower case unless the labels hold both cases;
- letters, accents and digits stay: spell out numbers in the manifest;
- apostrophes between letters stay, as `'`; others are quotation marks, and are removed;
- punctuation, symbols and format characters that the labels hold stay; other punctuation and
  symbols, hyphens too, become spaces, and other format characters are removed.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\uff07"), "'")

DOTTED, DOTLESS, DOT = "\u0130", "\u0131", "\u0307"
"""The letters I of Turkish that other languages lack, and the dot of the former's lower case."""


@dataclass(frozen=True)
class TextForm:
    """The form of texts that suits a vocabulary.

    Attributes:
        kept: punctuation, symbols and format characters that stay, in NFKC.
        cased: whether the case of letters stays.
        capitals: lower case of capitals by code point, where it is not the usual one.
    """

    kept: frozenset[str] = frozenset()
    cased: bool = False
    capitals: dict[int, str] = field(default_factory=lambda: {ord(DOTTED): "i"})

    @classmethod
    def of_labels(cls, texts: Iterable[str]) -> TextForm:
        """Return the form of texts that labels of these texts can spell."""
        found = set(unicodedata.normalize("NFKC", "".join(texts))) - {" ", "'"}
        letters = {x.lower() for x in found if x.lower() != x.upper()}
        both = sum(x in found and x.upper() in found for x in letters)
        kept = frozenset(x for x in found if unicodedata.category(x)[0] not in "LNM")
        return cls(kept, 2 * both > len(letters), _capitals(found))

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> TextForm:
        """Return the form of new vocabularies: letters, digits and apostrophes in lower case."""
        found = set().union(*(unicodedata.normalize("NFKC", text) for text in texts))
        return cls(capitals=_capitals(found))

    @property
    def turkic(self) -> bool:
        """Whether the lower case of I is without a dot, as in Turkish and Azerbaijani."""
        return ord("I") in self.capitals

    def lower(self, text: str) -> str:
        """Return a text in lower case."""
        return text.translate(self.capitals).lower()

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
        text = text if self.cased else self.lower(text)
        kept: list[str] = []
        for char in unicodedata.normalize("NFKC", text):
            # Most characters are letters, which need no look at their category.
            if char.isalnum() or char in " '" or self._stays(char, kept):
                kept.append(char)
                continue
            if not char.isspace():
                dropped[char] += 1
            if unicodedata.category(char) != "Cf":
                kept.append(" ")
        quotes = _quotes(kept) if "'" in kept else set()
        dropped.update("'" for _ in quotes)
        words = "".join(" " if i in quotes else char for i, char in enumerate(kept))
        return " ".join(unicodedata.normalize("NFKC", words).split())

    def _stays(self, char: str, before: list[str]) -> bool:
        """Whether a character stays after these: a mark stays on a character that can have one."""
        if unicodedata.category(char)[0] == "M":
            return bool(before) and (_is_spoken(before[-1]) or before[-1] in self.kept)
        return _is_spoken(char) or char in self.kept


def _capitals(found: set[str]) -> dict[int, str]:
    """Return the lower case of the letters I in an alphabet.

    Alphabets with a dotless one and without W are Turkish or Azerbaijani. A dotted capital loses
    its dot, unless the alphabet has the dot as a character of its own.
    """
    if {DOTTED, DOTLESS} & found and not {"w", "W"} & found:
        return {ord("I"): DOTLESS, ord(DOTTED): "i"}
    return {} if DOT in found else {ord(DOTTED): "i"}


def _is_spoken(char: str) -> bool:
    """Whether a character is a letter, a digit or a mark on one."""
    return unicodedata.category(char)[0] in "LNM"


def _quotes(text: list[str]) -> set[int]:
    """Return the positions of apostrophes that are not between letters."""
    around = [" ", *text, " "]
    neighbours = enumerate(zip(around, text, around[2:], strict=False))
    return {
        i
        for i, (before, char, after) in neighbours
        if char == "'" and not (_is_spoken(before) and _is_spoken(after))
    }
