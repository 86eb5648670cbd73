"""KenLM language models: their words, the case of these, and scores for a search over pieces."""

from __future__ import annotations

import gzip
import math
import mmap
import os
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge.errors import BundleError, InputError, MissingExtraError, one_line
from w2v_edge.text.piece_search import START

BINARY_MAGIC = b"mmap lm http://kheafield.com/code"
GZIP_MAGIC = b"\x1f\x8b"

FIRST_WORD = b"<unk>\0"
"""A KenLM binary with its vocabulary ends in its words, zero-terminated; this is the first."""

END = "</s>"
MARKS = frozenset({START, END, "<unk>"})

IMPOSSIBLE = -1e4
"""Logit of all labels but one, where a text is forced."""

SIGMA, FINAL_SIGMA = "\u03c3\u03c2"
"""Lower case depends on the place in the word for this letter alone."""

CACHED = 2**16
"""Texts whose scores are kept."""

Case = Callable[[str], str]


@dataclass(frozen=True)
class LanguageModelFiles:
    """A language model in files, and how to weigh it.

    Weights and scores are pyctcdecode's, whose defaults these are.

    Attributes:
        path: `.arpa`, `.arpa.gz` or KenLM binary.
        words: file with its words, one a line; None to read them from the model.
        alpha: weight of its scores.
        beta: bonus per word.
        unk_score_offset: added to the logarithm, to the base of ten, of a word that is not in it.
        score_boundary: whether the beginning and the end of a text are scored.
    """

    path: Path
    words: Path | None = None
    alpha: float = 0.5
    beta: float = 1.5
    unk_score_offset: float = -10.0
    score_boundary: bool = True

    def vocabulary(self) -> list[str] | None:
        """Read its words; None for a binary built without its vocabulary.

        Raises:
            InputError: a file is missing, or no language model or list of words.
        """
        if self.words is None:
            return read_vocabulary(self.path)
        try:
            lines = self.words.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{self.words}: cannot be read as text ({error!s:.80})") from error
        words = [line.strip() for line in lines if line.strip() and line.strip() not in MARKS]
        if not words:
            raise InputError(f"{self.words}: found no words, expected one a line")
        return words


class LanguageModel:
    """Scores of words for `piece_search`.

    The library has no call that scores a text. A search through logits that leave no choice but the
    text gives its score, to the marks of its beginning and end, which are written out.
    """

    def __init__(
        self,
        files: LanguageModelFiles,
        words: Sequence[str] | None,
        characters: Iterable[str],
        case: Case,
    ) -> None:
        """Load a language model.

        Args:
            files: the model and its weights.
            words: its words; None if they are not known.
            characters: of all texts to be scored.
            case: changes texts to the case of its words.

        Raises:
            MissingExtraError: ctc-beam-decoder is not installed.
            InputError: KenLM cannot read the file.
        """
        found = set("".join([*map(case, characters), *(words or ()), START, END]))
        if SIGMA in found:
            found.add(FINAL_SIGMA)
        labels = ["", " ", *sorted(found - {" "})]
        self._columns = {text: i for i, text in enumerate(labels)}
        self._words = None if words is None else sorted(words)
        self._case, self._files = case, files
        known = None if words is None else [*words, START, END]
        plain = replace(files, alpha=1.0, beta=0.0, score_boundary=False)
        self._library = build_decoder(labels, plain, known)
        self._total = lru_cache(CACHED)(self._score)

    def word(self, context: tuple[str, ...], word: str) -> float:
        """See `piece_search.WordScorer`."""
        return self._after(context, self._case(word)) + self._files.beta

    def end(self, context: tuple[str, ...]) -> float:
        """See `piece_search.WordScorer`."""
        return self._after(context, END) if self._files.score_boundary else 0.0

    def beginning(self, part: str) -> float:
        """See `piece_search.WordScorer`: a beginning of no known word costs what its word will."""
        if self._words is None:
            return 0.0
        part = self._case(part)
        at = bisect_left(self._words, part)
        known = at < len(self._words) and self._words[at].startswith(part)
        return 0.0 if known else self._files.alpha * self._files.unk_score_offset * math.log(10)

    def _after(self, context: tuple[str, ...], word: str) -> float:
        if not self._files.score_boundary and context[:1] == (START,):
            context = context[1:]
        cased = tuple(x if x == START else self._case(x) for x in context)
        return self._files.alpha * (self._total((*cased, word)) - self._total(cased))

    def _score(self, words: tuple[str, ...]) -> float:
        """Return the natural logarithm of the probability of words."""
        if not words:
            return 0.0
        columns = [self._columns[char] for char in " ".join(words)]
        path = [x for column in columns for x in (column, 0)]
        logits = np.full((len(path), len(self._columns)), IMPOSSIBLE, np.float32)
        logits[np.arange(len(path)), path] = 0.0
        (best, *_) = self._library.decode_beams(logits, beam_width=1)
        *_, acoustic, combined = best
        return float(combined - acoustic)


def build_decoder(
    texts: list[str], lm: LanguageModelFiles | None, words: Sequence[str] | None
) -> Any:
    """Return the library's decoder.

    Args:
        texts: of the labels.
        lm: the language model, if any.
        words: its words; None if they are not known.

    Raises:
        MissingExtraError: the library is not installed.
        InputError: KenLM cannot read the language model.
        BundleError: the library cannot use the labels.
    """
    try:
        from ctc_beam_decoder import build_ctcdecoder
    except ImportError as error:
        raise MissingExtraError("beam search", "ctc_beam_decoder", "lm") from error
    if lm is None:
        try:
            return build_ctcdecoder(texts)
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"beam search cannot use this model's labels ({one_line(error):.80})"
            ) from error
    try:
        return build_ctcdecoder(
            texts,
            str(lm.path),
            None if words is None else list(words),
            alpha=lm.alpha,
            beta=lm.beta,
            unk_score_offset=lm.unk_score_offset,
            lm_score_boundary=lm.score_boundary,
        )
    except (ValueError, RuntimeError) as error:
        # KenLM's messages begin with locations in its source code.
        reason = str(error).splitlines()[-1].rsplit(f"{lm.path}: ", maxsplit=1)[-1]
        raise InputError(
            f"{lm.path}: KenLM cannot read it ({reason:.80}); make it again"
        ) from error


@contextmanager
def silent_kenlm() -> Iterator[None]:
    """Discard the progress bar of KenLM, which it draws on stderr, of the whole process."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


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


def choose_case(
    texts: Sequence[str], words: Iterable[str], *, distinct: bool = True
) -> Case | None:
    """Choose the case of labels in which they spell the most words.

    Args:
        texts: of the labels.
        words: of a language model.
        distinct: whether labels must stay distinct.

    Returns:
        `str` (unchanged), `str.lower` or `str.upper`; None if no word can be spelled.
    """
    letters = [frozenset(word) for word in words]
    best: Case | None = None
    most = 0
    # Labels of both cases that need not stay distinct take the one case of the words.
    for case in (str, str.lower, str.upper) if distinct else (str.lower, str.upper, str):
        changed = [case(text) for text in texts]
        spelled = set("".join(changed))
        count = sum(word <= spelled for word in letters)
        if count > most and (len(set(changed)) == len(texts) or not distinct):
            best, most = case, count
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
