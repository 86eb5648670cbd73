"""How many errors there are in what a model wrote: by characters (CER), by words (WER)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from w2v_edge.errors import MissingExtraError


class Errors(NamedTuple):
    """Characters or words to be replaced, left out or put in, and those of the references."""

    edits: int
    length: int

    @property
    def rate(self) -> float:
        """Errors for each one of the references; above 1 where too much was written."""
        return self.edits / max(1, self.length)


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """Count errors by characters, spaces between words counted.

    Args:
        references: what was said, none of it empty.
        hypotheses: what was written.

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    return _count("process_characters", references, hypotheses)


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    """Count errors by words; see `character_errors`."""
    return _count("process_words", references, hypotheses)


def _count(how: str, references: Sequence[str], hypotheses: Sequence[str]) -> Errors:
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtraError("fine-tuning", "jiwer", "train") from error
    if not references:
        return Errors(0, 0)
    found = getattr(jiwer, how)(list(references), list(hypotheses))
    return Errors(
        found.substitutions + found.deletions + found.insertions,
        found.hits + found.substitutions + found.deletions,
    )
