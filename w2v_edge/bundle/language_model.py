"""A language model in a bundle: its files, and how it is weighed against the acoustic model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from w2v_edge.errors import ConfigError

MODELS = ("language_model.arpa", "language_model.arpa.gz", "language_model.bin")
"""File of the language model, by its format."""

UNIGRAMS = "unigrams.txt"
"""Words of the language model, one a line."""

WEIGHTS = ("alpha", "beta", "unk_score_offset")


@dataclass(frozen=True)
class LanguageModelInfo:
    """A KenLM language model; see `w2v_edge.text.language_model` for the weights.

    Attributes:
        file: one of `MODELS`.
        name: name of the file that it was.
        unigrams: whether the bundle has `UNIGRAMS`.
        alpha, beta, unk_score_offset: weights.
        score_boundary: whether the beginning and the end of a text are scored.
        licence: as its folder states it, with the file that does; None if none does.
    """

    file: str
    name: str
    unigrams: bool
    alpha: float
    beta: float
    unk_score_offset: float
    score_boundary: bool
    licence: str | None = None

    def __post_init__(self) -> None:
        """Check the file's name and the weights."""
        if self.file not in MODELS:
            raise ConfigError(
                f"language_model.file: expected one of {', '.join(MODELS)}, found {self.file!r:.40}"
            )
        for name in WEIGHTS:
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"language_model.{name}: expected a finite number")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files in the bundle."""
        return (self.file, UNIGRAMS) if self.unigrams else (self.file,)
