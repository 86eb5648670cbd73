"""Where lines of subtitles may be broken: between words, and between letters of some scripts.

Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces. Their lines break
between characters, by the simplest rules of Unicode's line breaking (UAX #14): marks, small letters
and closing punctuation stay with the character before, opening punctuation with the one after. No
dictionary finds the words of Thai and its neighbours.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

LINE = 42
"""Columns of a line. A wide character, such as a Chinese one, takes two; a mark none."""

LINES = 2
"""Lines of a cue."""

PAUSE = 0.8
"""Seconds. A longer pause ends a cue."""

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3001-\u30ff\u3100-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff0f"
    "\uff1a-\uff1f\uff5b-\uff9d\U00020000-\U0003ffff]"
)
"""Characters of scripts without spaces, and their punctuation."""

FOLLOWERS = frozenset(
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ\u0e2f\u0e30\u0e32\u0e33\u0eb0\u0eb2\u0eb3"
)
"""Small kana, and vowels that follow their consonant: no line begins with them."""

LEADERS = frozenset(
    "\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4\u1039\u17d2\u200d"
)
"""Vowels before their consonant, and what joins it to the next: no line ends with them."""

SENTENCE_ENDS = frozenset(".!?…。！？؟।")  # noqa: RUF001 - of several scripts
CLAUSE_ENDS = frozenset(",;:、，；：،؛")  # noqa: RUF001 - of several scripts
CLOSING = "\"')]}»”’」』）】"  # noqa: RUF001 - of several scripts


@dataclass(frozen=True)
class Piece:
    """A part of a text that no line break divides: a word, or a character with its marks.

    Attributes:
        text: the part.
        start: seconds.
        end: seconds.
        spaced: whether a space parts it from the piece before, if both are on one line.
    """

    text: str
    start: float
    end: float
    spaced: bool = True

    @cached_property
    def width(self) -> int:
        """Columns."""
        return width_of(self.text)


def width_of(text: str) -> int:
    """Return the columns of a text."""
    return sum(map(_columns, text))


def pieces_of(word: str, spans: Sequence[tuple[float, float]]) -> Iterator[Piece]:
    """Yield the pieces of a word.

    A word that is wider than a cue is none, but text of a model without a word delimiter: it is
    broken at lines' ends.

    Args:
        word: without spaces.
        spans: start and end in seconds of equal shares of the word, such as its labels. Within a
            share, characters take equal times.
    """
    begin = 0
    for end in _breaks(word):
        first, last = (x / len(word) * len(spans) for x in (begin, end))
        one, other = math.floor(first), math.ceil(last) - 1
        start = _within(spans[one], first - one)
        yield Piece(word[begin:end], start, _within(spans[other], last - other), begin == 0)
        begin = end


def lines_of(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Return the lines of one cue, whose pieces fit: one if they fit on it, else two.

    Two lines have like widths, unless there is a better place for the break.
    """
    widths = [0]
    for piece in pieces:
        widths.append(widths[-1] + piece.width + piece.spaced)
    if widths[-1] - pieces[0].spaced <= LINE or len(pieces) == 1:
        return (_joined(pieces),)

    def cost(k: int) -> tuple[bool, float]:
        one = widths[k] - pieces[0].spaced
        other = widths[-1] - widths[k] - pieces[k].spaced
        too_wide = (one > LINE and k > 1) or (other > LINE and k < len(pieces) - 1)
        return too_wide, abs(one - other) - LINE / 2 * break_quality(pieces[k - 1], pieces[k])

    at = min(range(1, len(pieces)), key=cost)
    return _joined(pieces[:at]), _joined(pieces[at:])


def break_quality(before: Piece, after: Piece) -> float:
    """Return how well two pieces are parted, in [0, 1]: by punctuation or by a pause."""
    last = before.text.rstrip(CLOSING)[-1:]
    if last in SENTENCE_ENDS:
        return 1.0
    return max(min(1.0, (after.start - before.end) / PAUSE), 0.5 * (last in CLAUSE_ENDS))


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(" " * (i > 0 and x.spaced) + x.text for i, x in enumerate(pieces))


def _breaks(word: str) -> Iterator[int]:
    """Yield the ends of a word's pieces."""
    width, forced = 0, width_of(word) > LINES * LINE
    for i, (before, after) in enumerate(pairwise(word), 1):
        width += _columns(before)
        full = forced and width + _columns(after) > LINE and not _is_mark(after)
        if full or _may_break(before, after):
            yield i
            width = 0
    yield len(word)


def _may_break(before: str, after: str) -> bool:
    if not (UNSPACED.match(before) or UNSPACED.match(after)):
        return False
    follows = _is_mark(after) or after in FOLLOWERS
    follows = follows or unicodedata.category(after) in {"Pc", "Pd", "Pe", "Pf", "Po", "Lm"}
    return not (follows or before in LEADERS or unicodedata.category(before) in {"Pi", "Ps"})


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf", "Sk"}


@cache
def _columns(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _within(span: tuple[float, float], share: float) -> float:
    return span[0] + share * (span[1] - span[0])
