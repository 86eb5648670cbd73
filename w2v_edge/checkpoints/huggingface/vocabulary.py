"""Labels of CTC checkpoints, from the files of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import CtcHeadConfig

VOCABULARY, ADDED, TOKENIZER, SPECIAL = (
    "vocab.json",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
SPECIAL_KEYS = ("pad_token", "bos_token", "eos_token", "unk_token")
PHONEMES = "Wav2Vec2PhonemeCTCTokenizer"


def ctc_head(
    path: Path | str,
    files: Mapping[str, Mapping[str, Any]],
    size: int,
    pad: int,
    language: str | None,
) -> CtcHeadConfig:
    """Return the head of a CTC checkpoint; without a vocabulary it has no labels.

    Args:
        path: the folder, for errors.
        files: its JSON files.
        size: number of labels, by the weights.
        pad: index of the padding token, by the model's config.
        language: selects a vocabulary of a multilingual model.

    Raises:
        CheckpointError: the vocabulary has another size, or lacks the language.
    """
    if VOCABULARY not in files:
        return CtcHeadConfig(size, (), pad, None, (), language)
    tokenizer = files.get(TOKENIZER, {})
    language, tokens = _of_language(path, files[VOCABULARY], language, tokenizer)
    # Tokens added beyond the model's outputs cannot occur in its transcriptions.
    tokens |= {token: i for token, i in _added(path, files).items() if type(i) is int and i < size}
    labels = _in_order(path, tokens, size)
    special = {**files.get(SPECIAL, {}), **tokenizer}
    named = [_content(path, special.get(key)) for key in SPECIAL_KEYS]
    blank = named[0] if named[0] in tokens else labels[pad] if 0 <= pad < size else None
    if blank is None:
        raise CheckpointError(f"{path}: pad_token_id: expected an index below {size}, found {pad}")
    kind = tokenizer.get("tokenizer_class") or files.get("config.json", {}).get("tokenizer_class")
    phonemes = kind == PHONEMES
    delimiter = _content(path, tokenizer.get("word_delimiter_token", None if phonemes else "|"))
    return CtcHeadConfig(
        size,
        labels,
        tokens[blank],
        delimiter if delimiter in tokens else None,
        _unique(blank, *named, tokens=tokens, delimiter=delimiter),
        language,
        separator=" " if phonemes else "",
        lowercase=tokenizer.get("do_lower_case") is True,
    )


def languages(vocabulary: Mapping[str, Any]) -> list[str]:
    """Return the languages of a multilingual vocabulary; empty for a plain one."""
    nested = vocabulary and all(isinstance(x, Mapping) for x in vocabulary.values())
    return sorted(vocabulary) if nested else []


def _of_language(
    path: Path | str,
    vocabulary: Mapping[str, Any],
    language: str | None,
    tokenizer: Mapping[str, Any],
) -> tuple[str | None, dict[str, Any]]:
    choices = languages(vocabulary)
    if not choices:
        return language, dict(vocabulary)
    language = language or tokenizer.get("target_lang")
    if language not in choices:
        few = ", ".join(choices[:8]) + (" ..." if len(choices) > 8 else "")  # noqa: PLR2004
        found = "no language" if language is None else f"language {language!r:.20}"
        raise CheckpointError(
            f"{path}: {found}, expected one of the {len(choices)} in {VOCABULARY} ({few}); "
            "choose with --language"
        )
    return language, dict(vocabulary[language])


def _added(path: Path | str, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tokens added to the vocabulary."""
    added = dict(files.get(ADDED, {}))
    decoder = files.get(TOKENIZER, {}).get("added_tokens_decoder", {})
    try:
        added |= {_content(path, token): int(index) for index, token in decoder.items()}
    except (AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: {TOKENIZER}: added_tokens_decoder: expected tokens by index"
        ) from error
    return added


def _in_order(path: Path | str, tokens: Mapping[str, Any], size: int) -> tuple[str, ...]:
    by_index = {index: token for token, index in tokens.items() if type(index) is int}
    if len(by_index) != len(tokens) or by_index.keys() != set(range(size)):
        largest = max(by_index, default=-1)
        raise CheckpointError(
            f"{path}: {VOCABULARY}: expected a token for each of the {size} outputs of the model, "
            f"found {len(tokens)} tokens, numbered up to {largest}"
        )
    return tuple(by_index[i] for i in range(size))


def _content(path: Path | str, token: Any) -> Any:
    """Return the text of a token, which may be a mapping with its settings; None for no token."""
    text = token.get("content") if isinstance(token, Mapping) else token
    if text is not None and not isinstance(text, str):
        raise CheckpointError(f"{path}: {TOKENIZER}: expected a token, found {text!r:.60}")
    return text


def _unique(*names: Any, tokens: Mapping[str, Any], delimiter: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(x for x in names if x in tokens and x != delimiter))
