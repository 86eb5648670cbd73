"""Words that a beam search favours: names and terms that are expected."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from w2v_edge.errors import InputError
from w2v_edge.text.labelling import Labelling
from w2v_edge.text.piece_search import WordScorer
from w2v_edge.text.spelling import Spelling


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


def spell_hotwords(texts: Sequence[str], hotwords: Iterable[str]) -> list[str]:
    """Return the words of hotwords as labels spell them, in their case and Unicode form.

    Args:
        texts: of the labels; the blank's, the first, is empty.
        hotwords: words or phrases, whose words are favoured one by one.

    Raises:
        InputError: no list of words, or labels cannot spell a word in any case.
    """
    if isinstance(hotwords, str) or not isinstance(hotwords, Iterable):
        raise InputError(
            f"found the hotwords {hotwords!r:.40}, expected a list of words, such as ['anna']"
        )
    phrases = list(hotwords)
    for phrase in phrases:
        if not isinstance(phrase, str):
            raise InputError(f"found the hotword {phrase!r:.40}, expected a word; remove it")
    labelling = Labelling(Spelling(0, tuple(text.strip() for text in texts)))
    characters = set("".join(texts))
    return [_spell(word, characters, labelling) for phrase in phrases for word in phrase.split()]


def _spell(word: str, characters: set[str], labelling: Labelling) -> str:
    plain = unicodedata.normalize("NFKD", word) == word and not any(
        map(unicodedata.combining, word)
    )
    for cased in (word, word.lower(), word.upper()):
        if plain and set(cased) <= characters:
            return cased
    # Accents may be written in several ways, of which the labels have one.
    form = labelling.form
    labels = [label for _, label in labelling.pieces(form.normalise(word))]
    known = [labelling.spelling.texts[x] for x in labels if x is not None]
    if known and len(known) == len(labels) and not form.dropped(word):
        return "".join(known)
    composed = unicodedata.normalize("NFC", word)
    missing = [x for x in composed if not {x, x.lower(), x.upper()} & characters]
    raise InputError(
        f"found the hotword {word!r:.40}, which the model's labels cannot spell "
        f"({' '.join(missing) or 'in one case'}); write it with the letters of the labels"
    )
