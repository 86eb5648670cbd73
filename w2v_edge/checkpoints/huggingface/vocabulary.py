"""Labels of CTC checkpoints, from the files of a tokenizer, read as transformers reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from w2v_edge.errors import CheckpointError
from w2v_edge.model.head_config import CtcHeadConfig

VOCABULARY, ADDED, TOKENIZER, SPECIAL, FAST_TOKENIZER = (
    "vocab.json",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
)
DEFAULT_NAMES = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
"""Special tokens where no file names them."""

MORE_SPECIAL = ("additional_special_tokens", "extra_special_tokens")
"""Lists of special tokens; the second is transformers 5's name, and may be a mapping."""

SPECIAL_KEYS = tuple(DEFAULT_NAMES)
NUMBERED = ("bos_token", "eos_token", "unk_token", "pad_token")
"""Order in which transformers numbers special tokens that the vocabulary lacks."""

BLANKS = ("<blank>", "[BLANK]", "<blk>", "<ctc_blank>")
"""Labels that name themselves the blank, whatever the padding token is."""

PADS = ("<pad>", "[PAD]")
"""Usual names of the padding token, where no file names it."""

PHONEMES = "Wav2Vec2PhonemeCTCTokenizer"
FEW = 6
"""Most labels or indices that a remark names."""

JsonFiles = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Labels:
    """The labels of a head's rows.

    Attributes:
        head: configuration of the head.
        doubts: what the files leave open about the blank, and how it was decided.
        remarks: what is odd about the labels.
    """

    head: CtcHeadConfig
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def read_labels(
    path: Path | str, files: JsonFiles, size: int, pad: int | None, language: str | None
) -> Labels:
    """Return the head of a CTC checkpoint; without a vocabulary it has no labels.

    Which label is the blank: one called `<blank>`; else the tokenizer's padding token; else the
    label of `pad_token_id`, if an output has it; else the first.

    Args:
        path: the folder, for errors.
        files: its JSON files.
        size: number of labels, by the weights.
        pad: index of the padding token, by the model's config; None if it states none.
        language: selects a vocabulary of a multilingual model.

    Raises:
        CheckpointError: the vocabulary is damaged, or lacks the language.
    """
    if pad is not None and not 0 <= pad < size:
        pad = None
    if VOCABULARY not in files and FAST_TOKENIZER not in files:
        return Labels(CtcHeadConfig(size, (), pad or 0, None, (), language))
    tokenizer = files.get(TOKENIZER, {})
    language, tokens = _tokens(path, files, language)
    named = _named(path, {**files.get(SPECIAL, {}), **tokenizer})
    rows = _Rows(size)
    rows.add_all(tokens)
    rows.add_free(_added(path, files))
    if not any(rows.labels):
        raise CheckpointError(
            f"{path}: {VOCABULARY}: expected labels of the model's {size} outputs, found none; "
            "export without labels: --no-labels"
        )
    for key in NUMBERED:
        token = named[key]
        if token is not None and token not in rows.index:
            rows.add_missing(token)
    blank, doubts = _blank(rows, named["pad_token"], pad)
    kind = tokenizer.get("tokenizer_class") or files.get("config.json", {}).get("tokenizer_class")
    phonemes = kind == PHONEMES
    delimiter = _content(path, tokenizer.get("word_delimiter_token", None if phonemes else "|"))
    never = [rows.labels[blank], *named.values(), *_special(path, files), *rows.blanks]
    between = " " if phonemes else tokenizer.get("replace_word_delimiter_char", " ")
    if not between:
        delimiter, never = None, [*never, delimiter]
    special = dict.fromkeys(x for x in never if x in rows.labels and x != delimiter)
    head = CtcHeadConfig(
        size,
        tuple(rows.labels),
        blank,
        delimiter if delimiter in rows.labels else None,
        tuple(x for x in special if x),
        language,
        separator=" " if phonemes else "",
        lowercase=tokenizer.get("do_lower_case") is True,
    )
    remarks = list(rows.remarks())
    if delimiter in rows.labels and between != " ":
        remarks.append(f"words are parted by spaces, not by {between!r:.20} as {TOKENIZER} says")
    return Labels(head, tuple(doubts), tuple(remarks))


@dataclass
class _Rows:
    """The label of each row; of two labels for one row, the later."""

    size: int
    labels: list[str] = field(init=False)
    index: dict[str, int] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.labels = [""] * self.size

    @property
    def blanks(self) -> list[str]:
        return [x for x in BLANKS if x in self.labels]

    def add_all(self, tokens: Mapping[str, int]) -> None:
        for token, index in tokens.items():
            self.index[token] = index
            if not 0 <= index < self.size:
                self.beyond.append(token)
                continue
            before = self.labels[index]
            if before not in {"", token}:
                self.shared.append(f"{before!r} and {token!r} ({index})")
            self.labels[index] = token

    def add_free(self, tokens: Mapping[str, int]) -> None:
        """Give tokens their rows unless these have labels: the vocabulary's come first."""
        for token, index in tokens.items():
            taken = 0 <= index < self.size and self.labels[index] not in {"", token}
            if taken:
                self.index.setdefault(token, index)
                self.shared.append(f"{token!r} and {self.labels[index]!r} ({index})")
            else:
                self.add_all({token: index})

    def add_missing(self, token: str) -> None:
        """Give a token the next index, as a tokenizer does, if its row exists and has no label."""
        index = len(self.index)
        self.index[token] = index
        if index < self.size and not self.labels[index]:
            self.labels[index] = token

    def remarks(self) -> Iterator[str]:
        if self.shared:
            yield f"labels of one index: {_few(self.shared)}; the second is used"
        nameless = [str(i) for i, label in enumerate(self.labels) if not label]
        if nameless:
            yield f"outputs without a label, which spell nothing: {_few(nameless)}"
        if self.beyond:
            yield f"labels that no output has: {_few([repr(x) for x in self.beyond])}"


def _few(found: list[str]) -> str:
    more = f" and {len(found) - FEW} more" if len(found) > FEW else ""
    return ", ".join(found[:FEW]) + more


def _blank(rows: _Rows, named: str | None, pad: int | None) -> tuple[int, list[str]]:
    """Return the index of the blank, and a remark if the files disagree or say nothing."""

    def shown(index: int) -> str:
        return f"{rows.labels[index]!r} ({index})"

    other = "; if it was trained with another, export with --blank"
    padding = rows.labels.index(named) if named in rows.labels else None
    if padding is None:
        padding = next((rows.labels.index(x) for x in PADS if x in rows.labels), None)
    if rows.blanks:
        blank = rows.labels.index(rows.blanks[0])
        if padding is None or padding == blank:
            return blank, []
        remark = f"the blank is {shown(blank)}, not the padding token {shown(padding)}{other}"
        return blank, [remark]
    if padding is not None:
        if pad is None or pad == padding:
            return padding, []
        remark = (
            f"the blank is the tokenizer's padding token {shown(padding)}, where config.json's "
            f"pad_token_id names {shown(pad)}{other}"
        )
        return padding, [remark]
    if pad is not None:
        return pad, []
    return 0, [f"nothing says which label is the blank: the first is taken, {shown(0)}{other}"]


def _named(path: Path | str, special: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the special tokens by key; those that no file mentions have their usual names."""
    return {
        key: _content(path, special[key]) if key in special else name
        for key, name in DEFAULT_NAMES.items()
    }


def _special(path: Path | str, files: JsonFiles) -> list[str]:
    """Return the tokens that are special besides the named ones.

    Added tokens that are marked as special are no text, also where transformers spells them
    because no list of special tokens has them.
    """
    decoder = files.get(TOKENIZER, {}).get("added_tokens_decoder", {})
    added = [*decoder.values(), *files.get(FAST_TOKENIZER, {}).get("added_tokens", [])]
    found = [x for x in added if isinstance(x, Mapping) and x.get("special") is True]
    for file in (TOKENIZER, SPECIAL):
        for key in MORE_SPECIAL:
            more = files.get(file, {}).get(key) or []
            found += more.values() if isinstance(more, Mapping) else more
    return [_content(path, token) or "" for token in found]


def languages(vocabulary: Mapping[str, Any]) -> list[str]:
    """Return the languages of a multilingual vocabulary; empty for a plain one."""
    nested = vocabulary and all(isinstance(x, Mapping) for x in vocabulary.values())
    return sorted(vocabulary) if nested else []


def _tokens(
    path: Path | str, files: JsonFiles, language: str | None
) -> tuple[str | None, dict[str, int]]:
    """Return the language and the tokens with their indices."""
    if VOCABULARY not in files:
        return language, _checked(path, FAST_TOKENIZER, _fast_tokens(path, files[FAST_TOKENIZER]))
    vocabulary = files[VOCABULARY]
    choices = languages(vocabulary)
    if not choices:
        return language, _checked(path, VOCABULARY, vocabulary)
    language = language or files.get(TOKENIZER, {}).get("target_lang")
    if language not in choices:
        few = ", ".join(choices[:8]) + (" ..." if len(choices) > 8 else "")  # noqa: PLR2004
        found = "no language" if language is None else f"language {language!r:.20}"
        raise CheckpointError(
            f"{path}: {found}, expected one of the {len(choices)} in {VOCABULARY} ({few}); "
            "choose with --language"
        )
    return language, _checked(path, VOCABULARY, vocabulary[language])


def _fast_tokens(path: Path | str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tokens of a `tokenizer.json`: a mapping, or pairs with scores (Unigram)."""
    model = content.get("model")
    tokens = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(tokens, Mapping):
        return dict(tokens)
    if isinstance(tokens, list) and all(isinstance(x, list) and x for x in tokens):
        return {token[0]: i for i, token in enumerate(tokens)}
    raise CheckpointError(f"{path}: {FAST_TOKENIZER}: expected tokens in model.vocab")


def _checked(path: Path | str, name: str, tokens: Mapping[Any, Any]) -> dict[str, int]:
    for token, index in tokens.items():
        if not isinstance(token, str) or type(index) is not int:
            raise CheckpointError(
                f"{path}: {name}: expected an index for each token, found {index!r:.40} for "
                f"{token!r:.40}"
            )
    return dict(tokens)


def _added(path: Path | str, files: JsonFiles) -> dict[str, int]:
    """Return the tokens added to the vocabulary."""
    added = {x: i for x, i in files.get(ADDED, {}).items() if type(i) is int}
    decoder = files.get(TOKENIZER, {}).get("added_tokens_decoder", {})
    fast = files.get(FAST_TOKENIZER, {}).get("added_tokens", [])
    try:
        found = [(token["id"], token) for token in fast] + list(decoder.items())
        added |= {_content(path, token) or "": int(index) for index, token in found}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: {TOKENIZER}: added_tokens_decoder: expected tokens by index"
        ) from error
    return {token: index for token, index in added.items() if token}


def _content(path: Path | str, token: Any) -> str | None:
    """Return the text of a token, which may be a mapping with its settings; None for no token."""
    text = token.get("content") if isinstance(token, Mapping) else token
    if text is not None and not isinstance(text, str):
        raise CheckpointError(f"{path}: {TOKENIZER}: expected a token, found {text!r:.60}")
    return text
