"""Beam search over CTC logits, with or without a KenLM language model.

The search is that of the library `ctc-beam-decoder`, of the extra `lm`. It finds out what labels
mean from their texts, so it is given texts that leave no doubt: one label for nothing, which is
the blank and all special labels together, and a space for the word delimiter.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import InputError
from w2v_edge.runtime.alignment import emission_score
from w2v_edge.runtime.beam_library import build_decoder, check_texts, in_case_of
from w2v_edge.runtime.language_model import read_vocabulary
from w2v_edge.runtime.spelling import Spelling, log_softmax
from w2v_edge.runtime.text import Transcription, Word, mean_probability

BLANK = 0
"""Column of the label for nothing, after labels that spell the same have been put together."""


class BeamSearch:
    """Keeps the likeliest texts while it goes through the frames; a `Decoder` for `transcribe`."""

    def __init__(
        self,
        spelling: Spelling,
        *,
        lm: str | Path | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        beam_width: int = 100,
    ) -> None:
        """Prepare a search.

        Args:
            spelling: of the model's labels, such as `Model.spelling`.
            lm: a KenLM language model, `.arpa`, `.arpa.gz` or binary. Where its words are written
                in another case than the labels, the labels' case is kept in the text.
            alpha: weight of the language model.
            beta: what each word adds to a text's score, against the language model's taste for
                short texts.
            beam_width: texts kept.

        Raises:
            MissingExtraError: ctc-beam-decoder is not installed.
            InputError: a file that is no language model, or one whose words these labels cannot
                spell; a width or weight that is none.
            BundleError: labels that are pieces of words or hold spaces.
        """
        _check_numbers(alpha, beta, beam_width)
        self._spelling = spelling
        self._beam_width = beam_width
        self._texts = ("", *dict.fromkeys(text for text in spelling.texts if text))
        self._members = [
            [i for i, text in enumerate(spelling.texts) if text == column] for column in self._texts
        ]
        check_texts(self._texts)
        path, words, cased = None, None, list(self._texts)
        if lm is not None:
            path = Path(lm)
            words = self._words_of(path)
            cased = cased if words is None else in_case_of(path, self._texts, words)
        self._columns = {text: column for column, text in enumerate(cased) if text}
        longest_first = sorted(self._columns, key=len, reverse=True)
        self._label = re.compile("|".join(map(re.escape, longest_first)))
        self._library = build_decoder(cased, path, unigrams=words, alpha=alpha, beta=beta)

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels), a frame coming every `frame_seconds`.

        The times of words are those of the search. Confidences come of the logits alone, over the
        frames that emit a word on its likeliest path there.

        Raises:
            InputError: logits of another shape, or not finite.
        """
        self._spelling.check(logits)
        if not len(logits):
            return Transcription("", (), 0.0)
        scores = self._fold(log_softmax(logits))
        beams = self._library.decode_beams(scores, beam_width=self._beam_width)
        spans = beams[0][2] if beams else []
        if not spans:
            silent = [column for column, text in enumerate(self._texts) if not text.strip()]
            score = float(scores[:, silent].max(axis=1).sum())
            return Transcription("", (), mean_probability(score, len(scores)))
        words, total, frames = [], 0.0, 0
        for found, (first, last) in spans:
            columns = [self._columns[label] for label in self._label.findall(found)]
            score, emitted = emission_score(scores[first:last], np.array(columns), BLANK)
            total, frames = total + score, frames + emitted
            text = "".join(self._texts[column] for column in columns)
            start, end = first * frame_seconds, last * frame_seconds
            words.append(Word(text, start, end, mean_probability(score, emitted)))
        return Transcription(
            " ".join(word.text for word in words), tuple(words), mean_probability(total, frames)
        )

    def _words_of(self, lm: Path) -> list[str] | None:
        if " " not in self._texts:
            raise InputError(
                f"{lm}: a language model scores words, and this model's labels have no delimiter "
                "between words; decode without one"
            )
        return read_vocabulary(lm)

    def _fold(self, scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Add the probabilities of labels that spell the same."""
        columns = [
            scores[:, members[0]]
            if len(members) == 1
            else np.logaddexp.reduce(scores[:, members], axis=1)
            for members in self._members
        ]
        return np.stack(columns, axis=1)


def _check_numbers(alpha: float, beta: float, beam_width: int) -> None:
    if isinstance(beam_width, bool) or not isinstance(beam_width, int) or beam_width < 1:
        raise InputError(
            f"found a beam width of {beam_width!r:.40}, expected a whole number from 1"
        )
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not math.isfinite(weight):
            raise InputError(f"found {name} {weight}, expected a finite number")
