"""Words that a beam search favours: names and terms that are expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from w2v_edge.errors import InputError
from w2v_edge.text.piece_search import WordScorer


class Hotwords:
    """Scores of words for `piece_search`, with a bonus for some, on top of a language model's.

    The beginning of a hotword has its share of the bonus, so that the search does not drop it.
    """

    def __init__(self, words: Sequence[str], weight: float, inner: WordScorer | None) -> None:
        """Favour words.

        Args:
            words: in the case of the labels.
            weight: added to the natural logarithm of the probability of a text with the word.
            inner: the language model, if any.
        """
        self._words, self._weight, self._inner = frozenset(words), weight, inner

    def word(self, context: tuple[str, ...], word: str) -> float:
        """See `piece_search.WordScorer`."""
        score = 0.0 if self._inner is None else self._inner.word(context, word)
        return score + self._weight * (word in self._words)

    def beginning(self, part: str) -> float:
        """See `piece_search.WordScorer`."""
        score = 0.0 if self._inner is None else self._inner.beginning(part)
        shares = (len(part) / len(word) for word in self._words if word.startswith(part))
        return score + self._weight * max(shares, default=0.0)

    def end(self, context: tuple[str, ...]) -> float:
        """See `piece_search.WordScorer`."""
        return 0.0 if self._inner is None else self._inner.end(context)


def in_case_of(texts: Iterable[str], hotwords: Iterable[str]) -> list[str]:
    """Return the words of hotwords in the case in which labels can spell them.

    Args:
        texts: of the labels.
        hotwords: words or phrases, whose words are favoured one by one.

    Raises:
        InputError: labels cannot spell a word in any case.
    """
    characters, found = set("".join(texts)), []
    for word in (word for phrase in hotwords for word in phrase.split()):
        for cased in (word, word.lower(), word.upper()):
            if set(cased) <= characters:
                found.append(cased)
                break
        else:
            missing = [x for x in word if not {x, x.lower(), x.upper()} & characters]
            raise InputError(
                f"found the hotword {word!r:.40}, which the model's labels cannot spell "
                f"({' '.join(missing) or 'in one case'}); write it with the letters of the labels"
            )
    return found
