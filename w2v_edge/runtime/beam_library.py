"""Builds the decoder of the library `ctc-beam-decoder`; what it refuses becomes typed errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from w2v_edge.errors import BundleError, InputError, MissingExtraError
from w2v_edge.runtime.language_model import choose_case

SUBWORD_MARKS = ("##", "▁")
"""Labels that begin so are pieces of words to the library."""


def check_texts(texts: tuple[str, ...]) -> None:
    """Refuse labels that the library would read as something else.

    Raises:
        BundleError: a label is marked as a piece of a word or holds a space beside letters.
    """
    for text in texts:
        if text.strip() and (text.startswith(SUBWORD_MARKS) or text.split() != [text]):
            raise BundleError(
                f"found the label {text!r:.40}, which holds a space, stands apart or is marked as "
                "a piece of a word; beam search takes labels of letters: decode without it"
            )


def in_case_of(lm: Path, texts: tuple[str, ...], words: list[str]) -> list[str]:
    """Write labels in the case of a language model's words.

    Raises:
        InputError: they cannot spell one of its words in any case.
    """
    case = choose_case(texts, words)
    if case is None:
        raise InputError(
            f"{lm}: none of its words, such as {words[0]!r:.40}, can be spelled with this model's "
            f"labels, {''.join(texts[1:])!r:.60}; use a language model of the same language"
        )
    return [case(text) for text in texts]


def build_decoder(texts: list[str], lm: Path | None, **options: Any) -> Any:
    """Return the library's decoder of these labels.

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
        # KenLM's messages begin with places in its source.
        reason = str(error).splitlines()[-1].rsplit(f"{lm}: ", maxsplit=1)[-1]
        if lm is None:
            raise BundleError(
                f"beam search cannot use this model's labels ({reason:.80})"
            ) from error
        raise InputError(f"{lm}: KenLM cannot read it ({reason:.80}); make it again") from error
