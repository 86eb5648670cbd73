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
from functools import cached_property, partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.text.beam_stream import DELAY, BeamStream
from w2v_edge.text.decoding import Transcription, mean_probability
from w2v_edge.text.hotwords import Hotwords, spell_hotwords
from w2v_edge.text.label_columns import LabelColumns, Scores, WordReader
from w2v_edge.text.language_model import (
    Case,
    LanguageModel,
    LanguageModelFiles,
    build_decoder,
    choose_case,
)
from w2v_edge.text.piece_search import PrefixSearch, Span, WordScorer, search
from w2v_edge.text.spelling import Spelling

Find = Callable[[Scores], list[list[Span]]]
"""Finds texts in scores (frames, columns), the likeliest first; at least one."""


class BeamSearch:
    """Beam search; a `Decoder` for `Model.transcribe`, and a source of decoders for streams."""

    def __init__(
        self,
        spelling: Spelling,
        *,
        lm: str | Path | LanguageModelFiles | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        beam_width: int = 100,
        n_best: int = 1,
        hotwords: Sequence[str] = (),
        hotword_weight: float = 10.0,
    ) -> None:
        """Load the language model and build the library's decoder.

        Args:
            spelling: the model's, `Model.spelling`.
            lm: a KenLM language model, `.arpa`, `.arpa.gz` or binary; or the bundle's own,
                `Model.language_model`. Its words may differ from the labels in case; the text has
                the case of the labels.
            alpha: weight of the language model; None for the bundle's, or 0.5 for a file.
            beta: bonus per word, which offsets the language model's preference for short texts;
                None for the bundle's, or 1.5 for a file.
            beam_width: hypotheses kept per frame.
            n_best: texts to find; all but the first are a transcription's `alternatives`. There are
                fewer where the beam holds no more.
            hotwords: words that are expected, such as names; phrases are words one by one. They may
                differ from the labels in case and Unicode form.
            hotword_weight: bonus for each, a natural logarithm: at 0 they have no effect.

        Raises:
            MissingExtraError: ctc-beam-decoder is not installed.
            InputError: a file that is not a language model, a language model or hotwords that these
                labels cannot spell, an invalid width, number or weight, or weights of no language
                model.
            BundleError: labels that contain spaces, or are all marked as inner pieces of words.
        """
        files = lm if isinstance(lm, LanguageModelFiles | None) else LanguageModelFiles(Path(lm))
        given = (("alpha", alpha), ("beta", beta))
        weights: dict[str, Any] = {name: value for name, value in given if value is not None}
        _check_numbers(
            {"beam width": beam_width, "number of texts": n_best},
            {**weights, "hotword weight": hotword_weight},
        )
        if weights and files is None:
            raise InputError(
                f"found {' and '.join(weights)} without a language model, which they weigh; give "
                "lm, or leave them out"
            )
        self._labels = LabelColumns(spelling)
        self._lm = None if files is None else replace(files, **weights)
        self._words = None if self._lm is None else self._words_of(self._lm)
        self._case = self._case_of_words()
        self._width = beam_width
        texts = self._labels.texts
        self._favoured, self._bonus = spell_hotwords(texts, hotwords), hotword_weight
        searched = texts
        if self._labels.are_pieces:
            self._find: Find = partial(
                search, texts=texts, beam_width=beam_width, scorer=self._scorer, count=n_best
            )
        else:
            searched = tuple(self._case(text) for text in texts)
            library = build_decoder(list(searched), self._lm, self._words)
            options: dict[str, Any] = {"beam_width": beam_width}
            if self._favoured:
                cased = [self._case(word) for word in self._favoured]
                options |= {"hotwords": cased, "hotword_weight": hotword_weight}
            self._find = partial(_search_letters, library, n_best, options)
        self._reader = WordReader(texts, searched)

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels) with `frame_seconds` between frames.

        Word times come from the search. Confidences are computed from the logits alone, so that a
        word that the language model or a hotword chose against the audio has a low one.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        scores = self._labels.scores(logits)
        if not len(scores):
            return Transcription("", (), 0.0)
        best, *others = [
            self._transcription(scores, spans, frame_seconds) for spans in self._find(scores)
        ]
        return replace(best, alternatives=tuple(others))

    def stream(self, frame_seconds: float, delay: float = DELAY) -> BeamStream:
        """Start a search over logits that arrive in blocks.

        It is this package's own search for letters too, where the library has none. Many streams
        may share one `BeamSearch`.

        Args:
            frame_seconds: seconds between frames of logits.
            delay: seconds of logits after the end of a word, after which it is final; see
                `BeamStream`.

        Raises:
            InputError: a negative delay, or NaN.
        """
        texts, scorer = self._labels.texts, self._scorer

        def start(first: int) -> PrefixSearch:
            return PrefixSearch(texts, self._width, scorer, first)

        return BeamStream(self._labels, start, frame_seconds, delay)

    @cached_property
    def _scorer(self) -> WordScorer | None:
        """Scores of words for this package's search: of the language model and of hotwords."""
        scorer: WordScorer | None = None
        if self._lm is not None:
            scorer = LanguageModel(self._lm, self._words, "".join(self._labels.texts), self._case)
        if self._favoured:
            scorer = Hotwords(self._favoured, self._bonus, scorer)
        return scorer

    def _transcription(
        self, scores: Scores, spans: Sequence[Span], frame_seconds: float
    ) -> Transcription:
        """Return a text of the search with times, confidences and its score."""
        if not spans:
            return Transcription("", (), self._reader.silence(scores))
        words, total, frames = [], 0.0, 0
        for span in spans:
            word, score, emitted = self._reader.read(scores, span, frame_seconds)
            total, frames = total + score, frames + emitted
            words.append(word)
        return Transcription(
            " ".join(word.text for word in words), tuple(words), mean_probability(total, frames)
        )

    def _words_of(self, lm: LanguageModelFiles) -> list[str] | None:
        if not self._labels.part_words:
            raise InputError(
                f"{lm.path}: a language model scores words, and this model's labels have no "
                "delimiter between words; decode without one"
            )
        return lm.vocabulary()

    def _case_of_words(self) -> Case:
        """Return the case of the language model's words.

        Raises:
            InputError: labels cannot spell one of its words in any case.
        """
        if self._lm is None or self._words is None:
            return str
        texts = self._labels.texts
        case = choose_case(texts, self._words, distinct=not self._labels.are_pieces)
        if case is None:
            raise InputError(
                f"{self._lm.path}: none of its words, such as {self._words[0]!r:.40}, can be "
                f"spelled with this model's labels, {''.join(texts[1:])!r:.60}; use a language "
                "model of the same language"
            )
        return case


def _check_numbers(counts: Mapping[str, int], weights: Mapping[str, Any]) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"found a {name} of {count!r:.40}, expected a whole number from 1")
    for name, weight in weights.items():
        if not isinstance(weight, Real) or not math.isfinite(weight):
            raise InputError(f"found {name} {weight!r:.40}, expected a finite number")


def _search_letters(
    library: Any, count: int, options: Mapping[str, Any], scores: Scores
) -> list[list[Span]]:
    """Return the words of the library's best texts; equal ones once."""
    found: dict[str, list[Span]] = {}
    for text, _, spans, *_ in library.decode_beams(scores, **options):
        found.setdefault(text, list(spans))
    return list(found.values())[:count] or [[]]
