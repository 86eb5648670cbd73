"""Beam search over CTC logits, with or without a KenLM language model.

Labels that are letters are searched by the library `ctc-beam-decoder`, of the extra `lm`; pieces of
words and phonemes by `piece_search`, since the library takes every piece after a lone `▁` for a
word of its own. The library infers the role of labels from their texts, so it gets unambiguous
texts: one empty label, which merges the blank and all special labels, and a space for the word
delimiter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import BundleError, InputError
from w2v_edge.text.alignment import emission_score
from w2v_edge.text.decoding import Transcription, Word, mean_probability
from w2v_edge.text.hotwords import Hotwords, spell_hotwords
from w2v_edge.text.language_model import (
    Case,
    LanguageModel,
    build_decoder,
    choose_case,
    read_vocabulary,
)
from w2v_edge.text.piece_search import WordScorer, search
from w2v_edge.text.segmentation import likeliest_labels
from w2v_edge.text.spelling import Spelling, log_softmax

BLANK = 0
"""Column of the blank, after labels of the same text have been merged."""

SUBWORD_MARKS = ("##", "▁")
"""The library takes labels that begin so for pieces of words."""

Spans = list[tuple[str, tuple[int, int]]]
"""Words with their first frames and ends."""

Find = Callable[[npt.NDArray[Any]], list[Spans]]
"""Finds texts in scores (frames, columns), the likeliest first; at least one."""


class BeamSearch:
    """Beam search; a `Decoder` for `Model.transcribe`."""

    def __init__(
        self,
        spelling: Spelling,
        *,
        lm: str | Path | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        beam_width: int = 100,
        n_best: int = 1,
        hotwords: Sequence[str] = (),
        hotword_weight: float = 10.0,
    ) -> None:
        """Load the language model and build the library's decoder.

        Args:
            spelling: the model's, `Model.spelling`.
            lm: a KenLM language model, `.arpa`, `.arpa.gz` or binary. Its words may differ from the
                labels in case; the text has the case of the labels.
            alpha: weight of the language model.
            beta: bonus per word, which offsets the language model's preference for short texts.
            beam_width: hypotheses kept per frame.
            n_best: texts to find; all but the first are a transcription's `alternatives`. There are
                fewer where the beam holds no more.
            hotwords: words that are expected, such as names; phrases are words one by one. They may
                differ from the labels in case and Unicode form.
            hotword_weight: bonus for each, a natural logarithm: at 0 they have no effect.

        Raises:
            MissingExtraError: ctc-beam-decoder is not installed.
            InputError: a file that is not a language model, a language model or hotwords that these
                labels cannot spell, or an invalid width, number or weight.
            BundleError: labels that contain spaces, or are all marked as inner pieces of words.
        """
        _check_numbers(
            {"beam width": beam_width, "number of texts": n_best},
            {"alpha": alpha, "beta": beta, "hotword weight": hotword_weight},
        )
        self._spelling = spelling
        members: dict[str, list[int]] = {"": []}
        for i, text in enumerate(spelling.texts):
            members.setdefault(_beginning(text), []).append(i)
        self._texts, self._members = tuple(members), list(members.values())
        _check_texts(self._texts)
        path = None if lm is None else Path(lm)
        words = None if path is None else self._words_of(path)
        case: Case = str if path is None or words is None else _case_of(path, self._texts, words)
        weights = {"alpha": alpha, "beta": beta}
        texts = self._texts
        favoured = spell_hotwords(texts, hotwords)
        if _has_pieces(texts):
            scorer: WordScorer | None = None
            if path is not None:
                scorer = LanguageModel(path, words, "".join(texts), case=case, **weights)
            if favoured:
                scorer = Hotwords(favoured, hotword_weight, scorer)
            self._find: Find = partial(
                search, texts=texts, beam_width=beam_width, scorer=scorer, count=n_best
            )
        else:
            texts = tuple(case(text) for text in texts)
            library = build_decoder(list(texts), path, unigrams=words, **weights)
            options: dict[str, Any] = {"beam_width": beam_width}
            if favoured:
                cased = [case(word) for word in favoured]
                options |= {"hotwords": cased, "hotword_weight": hotword_weight}
            self._find = partial(_search_letters, library, n_best, options)
        columns = {text: i for i, text in enumerate(texts) if text.strip()}
        self._first = {text[1:]: i for text, i in columns.items() if text.startswith(" ")}
        self._inner = {text: i for text, i in columns.items() if not text.startswith(" ")}

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels) with `frame_seconds` between frames.

        Word times come from the search. Confidences are computed from the logits alone, over the
        frames that emit the word on its most likely path.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self._spelling.check(logits)
        if not len(logits):
            return Transcription("", (), 0.0)
        scores = self._fold(log_softmax(logits))
        best, *others = [
            self._transcription(scores, spans, frame_seconds) for spans in self._find(scores)
        ]
        return replace(best, alternatives=tuple(others))

    def _transcription(
        self, scores: npt.NDArray[np.floating[Any]], spans: Spans, frame_seconds: float
    ) -> Transcription:
        """Return a text of the search with times and confidences."""
        if not spans:
            silent = [column for column, text in enumerate(self._texts) if not text.strip()]
            score = float(scores[:, silent].max(axis=1).sum())
            return Transcription("", (), mean_probability(score, len(scores)))
        words, total, frames = [], 0.0, 0
        for found, (first, last) in spans:
            text, score, emitted = self._emission(scores[first:last], found)
            total, frames = total + score, frames + emitted
            start, end = first * frame_seconds, last * frame_seconds
            words.append(Word(text, start, end, mean_probability(score, emitted)))
        return Transcription(
            " ".join(word.text for word in words), tuple(words), mean_probability(total, frames)
        )

    def _emission(self, scores: npt.NDArray[np.floating[Any]], word: str) -> tuple[str, float, int]:
        """Return a word in the case of the labels, the score of its path, and emitting frames."""
        columns = likeliest_labels(scores, word, self._first, self._inner, BLANK)
        if not columns:
            return word, -np.inf, 1
        text = "".join(self._texts[column] for column in columns).strip()
        return text, *emission_score(scores, np.array(columns), BLANK)

    def _words_of(self, lm: Path) -> list[str] | None:
        if not any(text.startswith(" ") for text in self._texts):
            raise InputError(
                f"{lm}: a language model scores words, and this model's labels have no delimiter "
                "between words; decode without one"
            )
        return read_vocabulary(lm)

    def _fold(self, scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Sum the probabilities of labels with the same text."""
        columns = [
            scores[:, members[0]]
            if len(members) == 1
            else np.logaddexp.reduce(scores[:, members], axis=1)
            for members in self._members
        ]
        return np.stack(columns, axis=1)


def _check_numbers(counts: Mapping[str, int], weights: Mapping[str, Any]) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"found a {name} of {count!r:.40}, expected a whole number from 1")
    for name, weight in weights.items():
        if not isinstance(weight, Real) or not math.isfinite(weight):
            raise InputError(f"found {name} {weight!r:.40}, expected a finite number")


def _beginning(text: str) -> str:
    """Return the text of a label with its space, if it has one, at the beginning.

    Units with a space behind, such as phonemes, are words whichever side the space is on.
    """
    return f" {text.strip()}" if text.endswith(" ") else text


def _has_pieces(texts: tuple[str, ...]) -> bool:
    return any(text.startswith(" ") and text != " " for text in texts)


def _check_texts(texts: tuple[str, ...]) -> None:
    """Check for labels that a search would misread.

    Raises:
        BundleError: a label has a space among letters, or a mark whose meaning is not known.
    """
    for text in texts:
        letters = text.removeprefix(" ")
        if letters.split() not in ([], [letters]) or letters.startswith(SUBWORD_MARKS):
            raise BundleError(
                f"found the label {text!r:.40}, which contains a space or is marked as a "
                "piece of a word; beam search needs labels of letters or pieces: decode without it"
            )


def _case_of(lm: Path, texts: tuple[str, ...], words: list[str]) -> Case:
    """Return the case of a language model's words.

    Raises:
        InputError: labels cannot spell one of its words in any case.
    """
    case = choose_case(texts, words, distinct=not _has_pieces(texts))
    if case is None:
        raise InputError(
            f"{lm}: none of its words, such as {words[0]!r:.40}, can be spelled with this model's "
            f"labels, {''.join(texts[1:])!r:.60}; use a language model of the same language"
        )
    return case


def _search_letters(
    library: Any, count: int, options: Mapping[str, Any], scores: npt.NDArray[Any]
) -> list[Spans]:
    """Return the words of the library's best texts; equal ones once."""
    found: dict[str, Spans] = {}
    for text, _, spans, *_ in library.decode_beams(scores, **options):
        found.setdefault(text, list(spans))
    return list(found.values())[:count] or [[]]
