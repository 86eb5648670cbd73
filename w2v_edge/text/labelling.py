"""The labels of a text: which label of a CTC model each piece of a text is.

Texts and labels are compared decomposed (NFKD): labels of several characters, composed or
decomposed letters, accents in any order, and Korean letters are all found. A text that labels can
spell is spelled, with the longest label first where there is a choice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, takewhile

from w2v_edge.text.spelling import Spelling
from w2v_edge.text.text_form import DOTTED, TextForm

SIGMA, FINAL_SIGMA = "\u03c3\u03c2"
"""One letter of Greek, the second at the end of a word; capitals do not tell them apart."""

ACCENTED = re.compile(r"\w[^\w\s]{2,}")
"""A letter with what may be several accents, decomposed."""

MAX_MARKS = 4
"""Most accents on one letter whose order is changed to find labels."""

UNSPELLED = 1_000_000
"""Cost of a character without a label, where a space or an accent without one costs 1."""

Piece = tuple[str, int | None]
"""A part of a text, and its label."""


@dataclass(frozen=True)
class Labelling:
    """Finds the labels of texts.

    Attributes:
        spelling: the text of each label.
    """

    spelling: Spelling

    @cached_property
    def form(self) -> TextForm:
        """The form of texts that these labels can spell."""
        return TextForm.of_labels(text for text in self.spelling.texts if text.strip())

    @cached_property
    def _labels(self) -> Mapping[str, int]:
        """Labels by decomposed text: of the same case first, then of the other."""
        found: dict[str, int] = {}
        lower = self.form.lower
        lower_first = sorted(
            ((text, i) for i, text in enumerate(self.spelling.texts) if text),
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
    def _lengths(self) -> list[int]:
        """Lengths of labels of several characters, ascending."""
        return sorted({len(key) for key in self._labels} - {0, 1})

    @cached_property
    def _spaced(self) -> bool:
        """Whether labels that begin a word begin with a space."""
        return any(key[0] == " " for key in self._labels if key != " ")

    def pieces(self, text: str) -> Iterator[Piece]:
        """Yield pieces of a normalised text, decomposed, with their labels; None without one."""
        if self._spaced:
            text = " " + text
        decomposed = ACCENTED.sub(self._in_order, unicodedata.normalize("NFKD", text))
        yield from self._split(decomposed)

    def _split(self, text: str) -> list[Piece]:
        """Return the pieces of a decomposed text that cost least, the longest first among equals.

        Costs of what follows each character are found from the end.
        """
        costs = [0] * (len(text) + 1)
        choices: list[Piece] = [("", None)] * len(text)
        for i in range(len(text) - 1, -1, -1):
            label = self._label_of(text[i])
            cost = costs[i + 1] + (0 if label is not None else _cost_of(text[i]))
            choices[i] = text[i], label
            # From short to long: an equal cost goes to the longer one.
            for length in self._lengths:
                piece = text[i : i + length]
                if piece in self._labels and len(piece) == length and costs[i + length] <= cost:
                    cost, choices[i] = costs[i + length], (piece, self._labels[piece])
            costs[i] = cost
        pieces, at = [], 0
        while at < len(text):
            pieces.append(choices[at])
            at += len(choices[at][0])
        return pieces

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
        pieces = self._split(text)
        return sum(label is None for _, label in pieces), len(pieces)

    def _label_of(self, piece: str) -> int | None:
        found = self._labels.get(piece)
        return self._labels.get(self.form.lower(piece)) if found is None else found


def _cost_of(char: str) -> int:
    """Return the cost of leaving a character without a label."""
    return 1 if char.isspace() or unicodedata.category(char)[0] == "M" else UNSPELLED


def _decomposed(text: str) -> Iterator[str]:
    """Yield the decomposed forms of a label: a Korean letter has another at a syllable's end."""
    yield unicodedata.normalize("NFKD", text)
    name = unicodedata.name(text, "") if len(text) == 1 else ""
    if name.startswith("HANGUL LETTER"):
        try:
            yield unicodedata.lookup(name.replace("LETTER", "JONGSEONG"))
        except KeyError:
            return
