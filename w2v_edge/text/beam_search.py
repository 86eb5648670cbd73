"""Beam search over CTC logits, with or without a KenLM language model.

The search is that of the library `ctc-beam-decoder`, of the extra `lm`. The library infers the role
of labels from their texts, so it gets unambiguous texts: one empty label, which merges the blank
and all special labels, and a space for the word delimiter.
"""

from __future__ import annotations

import gzip
import math
import mmap
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.errors import BundleError, InputError, MissingExtraError
from w2v_edge.text.alignment import emission_score
from w2v_edge.text.decoding import Transcription, Word, mean_probability
from w2v_edge.text.spelling import Spelling, log_softmax

BLANK = 0
"""Column of the blank, after labels of the same text have been merged."""

SUBWORD_MARKS = ("##", "▁")
"""The library takes labels that begin so for pieces of words."""

BINARY_MAGIC = b"mmap lm http://kheafield.com/code"
GZIP_MAGIC = b"\x1f\x8b"

FIRST_WORD = b"<unk>\0"
"""A KenLM binary with its vocabulary ends in its words, zero-terminated; this is the first."""

MARKS = frozenset({"<s>", "</s>", "<unk>"})

Case = Callable[[str], str]


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
    ) -> None:
        """Load the language model and build the library's decoder.

        Args:
            spelling: the model's, `Model.spelling`.
            lm: a KenLM language model, `.arpa`, `.arpa.gz` or binary. Its words may differ from the
                labels in case; the text has the case of the labels.
            alpha: weight of the language model.
            beta: bonus per word, which offsets the language model's preference for short texts.
            beam_width: hypotheses kept per frame.

        Raises:
            MissingExtraError: ctc-beam-decoder is not installed.
            InputError: a file that is not a language model, a language model whose words these
                labels cannot spell, or an invalid width or weight.
            BundleError: labels that are pieces of words or contain spaces.
        """
        _check_numbers(alpha, beta, beam_width)
        self._spelling = spelling
        self._beam_width = beam_width
        self._texts = ("", *dict.fromkeys(text for text in spelling.texts if text))
        self._members = [
            [i for i, text in enumerate(spelling.texts) if text == column] for column in self._texts
        ]
        _check_texts(self._texts)
        path, words, cased = None, None, list(self._texts)
        if lm is not None:
            path = Path(lm)
            words = self._words_of(path)
            cased = cased if words is None else _in_case_of(path, self._texts, words)
        self._columns = {text: column for column, text in enumerate(cased) if text}
        longest_first = sorted(self._columns, key=len, reverse=True)
        self._label = re.compile("|".join(map(re.escape, longest_first)))
        self._library = _build_decoder(cased, path, unigrams=words, alpha=alpha, beta=beta)

    def decode(self, logits: npt.NDArray[Any], frame_seconds: float) -> Transcription:
        """Decode logits (frames, labels) with `frame_seconds` between frames.

        Word times are those of the search. Confidences are computed from the logits alone, over the
        frames that emit the word on its most likely path.

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
        """Sum the probabilities of labels with the same text."""
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


def _check_texts(texts: tuple[str, ...]) -> None:
    """Check for labels that the library would misread.

    Raises:
        BundleError: a label is marked as a piece of a word or contains a space beside letters.
    """
    for text in texts:
        if text.strip() and (text.startswith(SUBWORD_MARKS) or text.split() != [text]):
            raise BundleError(
                f"found the label {text!r:.40}, which contains a space or is marked as a "
                "piece of a word; beam search needs labels of letters: decode without it"
            )


def _in_case_of(lm: Path, texts: tuple[str, ...], words: list[str]) -> list[str]:
    """Write labels in the case of a language model's words.

    Raises:
        InputError: they cannot spell one of its words in any case.
    """
    case = _choose_case(texts, words)
    if case is None:
        raise InputError(
            f"{lm}: none of its words, such as {words[0]!r:.40}, can be spelled with this model's "
            f"labels, {''.join(texts[1:])!r:.60}; use a language model of the same language"
        )
    return [case(text) for text in texts]


def _build_decoder(texts: list[str], lm: Path | None, **options: Any) -> Any:
    """Return the library's decoder for these labels.

    Raises:
        MissingExtraError: the library is not installed.
        InputError: KenLM cannot read the language model.
        BundleError: the library cannot use the labels.
    """
    try:
        from ctc_beam_decoder import build_ctcdecoder
    except ImportError as error:
        raise MissingExtraError("beam search", "ctc_beam_decoder", "lm") from error
    try:
        return build_ctcdecoder(texts, None if lm is None else str(lm), **options)
    except (ValueError, RuntimeError) as error:
        # KenLM's messages begin with locations in its source code.
        reason = str(error).splitlines()[-1].rsplit(f"{lm}: ", maxsplit=1)[-1]
        if lm is None:
            raise BundleError(
                f"beam search cannot use this model's labels ({reason:.80})"
            ) from error
        raise InputError(f"{lm}: KenLM cannot read it ({reason:.80}); make it again") from error


def read_vocabulary(path: Path) -> list[str] | None:
    """Read the words of an `.arpa` (gzip or plain) or KenLM binary file.

    Returns:
        The words, or None for a binary built without its vocabulary.

    Raises:
        InputError: the file is missing, or neither of these.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(BINARY_MAGIC))
        words = _binary_words(path) if head == BINARY_MAGIC else _arpa_words(path, head)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a language model ({error!s:.80})") from error
    if words == []:
        raise InputError(
            f"{path}: found no words, expected a language model that KenLM reads, .arpa or .bin"
        )
    return words


def _choose_case(texts: Sequence[str], words: Iterable[str]) -> Case | None:
    """Choose the case of labels in which they spell the most words.

    Returns:
        `str` (unchanged), `str.lower` or `str.upper`; None if no word can be spelled.
    """
    letters = [frozenset(word) for word in words]
    best: Case | None = None
    most = 0
    for case in (str, str.lower, str.upper):
        changed = [case(text) for text in texts]
        spelled = sum(word <= set("".join(changed)) for word in letters)
        if spelled > most and len(set(changed)) == len(texts):
            best, most = case, spelled
    return best


def _binary_words(path: Path) -> list[str] | None:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.rfind(FIRST_WORD)
        if start < 0:
            return None
        words = data[start:].rstrip(b"\0").decode("utf-8", "replace").split("\0")
    return [word for word in words if word not in MARKS]


def _arpa_words(path: Path, head: bytes) -> list[str]:
    """Read the lines `log-probability word [backoff]` of the 1-gram section."""
    opener = gzip.open if head.startswith(GZIP_MAGIC) else open
    words = []
    with opener(path, "rt", encoding="utf-8", errors="replace") as lines:
        inside = False
        for line in lines:
            fields = line.split()
            if line.startswith("\\"):
                if inside:
                    break
                inside = fields == ["\\1-grams:"]
            elif inside and len(fields) > 1 and fields[1] not in MARKS:
                words.append(fields[1])
    return words
