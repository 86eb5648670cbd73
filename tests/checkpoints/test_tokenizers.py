"""Labels spell what transformers' tokenizers spell, wherever a folder keeps its tokens.

Where they differ on purpose:

- Added tokens that are marked as special are no text; transformers spells those that no list of
  special tokens names.
- A row behind all tokens spells nothing; transformers 5 takes the first such row for a word
  delimiter that the vocabulary lacks.
- `special_tokens_map.json` is read; transformers leaves it out where `tokenizer_config.json` has
  `added_tokens_decoder`, so that the latter names all special tokens here.
- The word delimiter of `tokenizer_config.json` is used; transformers 5 reads that file but keeps
  its default, so that tokenizers with another one are made by their constructor here.
- Lower case is taken label by label: a sigma at the end of a word stays a common one.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.bundle import CtcInfo
from w2v_edge.checkpoints.huggingface.vocabulary import Labels, read_labels
from w2v_edge.text.spelling import Spelling

Files = dict[str, dict[str, Any]]

FIRST, LAST = "x", "y"
"""Letters on both sides of every token that is looked at."""

LETTERS = ("a", "b", "é", "ch", "ß", "B", "'")
KEYS = ("pad_token", "bos_token", "eos_token", "unk_token")
STYLES = (
    ("<pad>", "<s>", "</s>", "<unk>"),
    ("[PAD]", "<s>", "</s>", "[UNK]"),
    ("-", "<s>", "</s>", "?"),
)
PLAIN = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}

TOKENIZER, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"


@dataclass
class Folder:
    """The files of a tokenizer.

    Attributes:
        files: by name.
        rows: outputs of the model.
        language: of a multilingual vocabulary.
    """

    files: Files
    rows: int
    language: str | None = None

    def read(self) -> tuple[Labels, Spelling]:
        """Return what is read from the files."""
        found = read_labels("folder", self.files, self.rows, None, self.language)
        head = found.head
        info = CtcInfo(
            head.blank,
            head.word_delimiter,
            head.special,
            head.language,
            head.separator,
            head.lowercase,
        )
        return found, Spelling.of(head.labels, info)

    def load(self, name: str = "Wav2Vec2CTCTokenizer") -> Any:
        """Return transformers' tokenizer of the files."""
        with tempfile.TemporaryDirectory() as folder:
            for file, content in self.files.items():
                Path(folder, file).write_text(json.dumps(content), encoding="utf-8")
            return getattr(transformers, name).from_pretrained(folder)


def _token(draw: st.DrawFn, text: str) -> Any:
    """A token as text or with its settings."""
    return text if draw(st.booleans()) else {"content": text, **PLAIN, "__type": "AddedToken"}


@st.composite
def contiguous(draw: st.DrawFn) -> Folder:
    """A vocabulary without gaps; special tokens in it, added to it, or implied."""
    names = dict(zip(KEYS, draw(st.sampled_from(STYLES)), strict=True))
    inside = draw(st.sets(st.sampled_from(sorted(names.values()))))
    letters = draw(st.sets(st.sampled_from(LETTERS)))
    tokens = draw(st.permutations(sorted({FIRST, LAST, "|", *inside, *letters})))
    rest = draw(st.permutations(sorted({*names.values(), "<extra>", "<more>"} - set(inside))))
    added = dict(enumerate(rest[: draw(st.integers(0, len(rest)))], len(tokens)))
    files: Files = {"vocab.json": {token: i for i, token in enumerate(tokens)}}
    settings: dict[str, Any] = {"do_lower_case": draw(st.booleans())}
    if draw(st.booleans()):
        files["added_tokens.json"] = {token: i for i, token in added.items()}
    elif added:
        listed = {
            i: {"content": x, **PLAIN, "special": x in names.values()} for i, x in added.items()
        }
        if draw(st.booleans()):
            index = tokens.index("|")
            listed[index] = {"content": "|", **PLAIN, "special": True}
        settings["added_tokens_decoder"] = {str(i): x for i, x in listed.items()}
    places = [TOKENIZER, "both"] if "added_tokens_decoder" in settings else [SPECIAL, "both"]
    where = draw(st.sampled_from([TOKENIZER, *places]))
    for file, content in ((TOKENIZER, settings), (SPECIAL, files.setdefault(SPECIAL, {}))):
        if where in {file, "both"}:
            content |= {key: _token(draw, text) for key, text in names.items()}
            if file == TOKENIZER and draw(st.booleans()):
                content["additional_special_tokens"] = ["<extra>"]
    files[TOKENIZER] = settings
    implied = set(names.values()) - set(inside) - set(added.values())
    rows = len(tokens) + len(added) + len(implied) + draw(st.integers(0, 3))
    language = draw(st.sampled_from([None, "fra"]))
    if language is not None:
        english = {"x": 0, "y": 1, "|": 2, "<pad>": 3}
        files["vocab.json"] = {"eng": english, "fra": files["vocab.json"]}
        settings["target_lang"] = language
    return Folder(files, rows, language)


@st.composite
def with_gaps(draw: st.DrawFn) -> Folder:
    """A vocabulary with unused and shared indices, its special tokens where transformers expects.

    Added tokens may share an index with the vocabulary's.
    """
    tokens = [FIRST, LAST, "|", *STYLES[0], *draw(st.sets(st.sampled_from(LETTERS)))]
    rows = len(tokens) + draw(st.integers(1, 4))
    indices = draw(st.permutations(range(rows)))
    vocabulary = dict(zip(tokens, indices, strict=False))
    shared = draw(st.sampled_from([None, "é", "ß"]))
    if shared in vocabulary:
        vocabulary[f"{shared}{shared}"] = vocabulary[shared]
    files: Files = {"vocab.json": vocabulary}
    if draw(st.booleans()):
        free = draw(st.sampled_from(range(rows)))
        taken = {vocabulary[FIRST], vocabulary[LAST]}
        files["added_tokens.json"] = {} if free in taken else {"<extra>": free}
    return Folder(files, rows)


def _differs(folder: Folder, tokenizer: Any, index: int) -> bool:
    """Whether a row is one of those that are spelled differently on purpose."""
    vocabulary = folder.files["vocab.json"]
    words = vocabulary[folder.language] if folder.language else vocabulary
    return tokenizer.convert_ids_to_tokens(index) == "|" and "|" not in words


def _check(folder: Folder, tokenizer: Any) -> None:
    """Compare the blank, and what every other row spells between two letters."""
    found, spelling = folder.read()
    assert found.head.blank == tokenizer.pad_token_id
    vocabulary = folder.files["vocab.json"]
    words = vocabulary[folder.language] if folder.language else vocabulary
    first, last = words[FIRST], words[LAST]
    for index in set(range(folder.rows)) - {first, last}:
        expected = tokenizer.decode([first, index, last], skip_special_tokens=True)
        texts = [spelling.texts[i] for i in (first, index, last)]
        if not _differs(folder, tokenizer, index):
            assert "".join(texts).strip() == expected, (index, found.head.labels[index])


@settings(deadline=None, max_examples=80)
@given(folder=contiguous())
def test_every_place_of_a_token(folder: Folder) -> None:
    """Labels, special labels and the blank are the tokenizer's, named in whichever file."""
    _check(folder, folder.load())


@settings(deadline=None, max_examples=40)
@given(folder=with_gaps())
def test_gaps_and_shared_indices(folder: Folder) -> None:
    """The later label of an index is spelled, the vocabulary's before an added one."""
    _check(folder, folder.load())
    found, _ = folder.read()
    assert any("spell nothing" in x for x in found.remarks) == ("" in found.head.labels)


@pytest.mark.parametrize("delimiter", ["|", " ", "_", "<space>", None])
@pytest.mark.parametrize("between", [" ", "", "_"])
@pytest.mark.parametrize("lower", [False, True])
def test_word_delimiters(delimiter: str | None, between: str, lower: bool) -> None:
    """Any label parts words; replaced by nothing it spells nothing; without one `|` is a letter."""
    labels = ["<pad>", "<s>", "</s>", "<unk>", "|", "_", " ", "<space>", FIRST, LAST, "É"]
    options = {
        "word_delimiter_token": delimiter,
        "replace_word_delimiter_char": between,
        "do_lower_case": lower,
    }
    files: Files = {"vocab.json": {x: i for i, x in enumerate(labels)}, TOKENIZER: options}
    folder = Folder(files, len(labels))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "vocab.json")
        path.write_text(json.dumps(files["vocab.json"]), encoding="utf-8")
        tokenizer = transformers.Wav2Vec2CTCTokenizer(str(path), **options)  # type: ignore[no-untyped-call]
    found, spelling = folder.read()
    used = delimiter is not None and bool(between)
    assert found.head.word_delimiter == (delimiter if used else None)
    for index in (*range(4, 8), 10):
        path_ids = [8, index, 9]
        expected = tokenizer.decode(path_ids, skip_special_tokens=True)
        if labels[index] == delimiter and between == "_":
            expected = expected.replace("_", " ")
            assert any("words are parted by spaces, not by '_'" in x for x in found.remarks)
        assert "".join(spelling.texts[i] for i in path_ids) == expected, labels[index]


@settings(deadline=None, max_examples=20)
@given(
    tokens=st.permutations([FIRST, LAST, "ts", "dʒ", "\u02d0", "<pad>", "<s>", "</s>", "<unk>"]),
    named=st.booleans(),
)
def test_phonemes(tokens: list[str], named: bool) -> None:
    """Phonemes are parted by spaces, as the phoneme tokenizer writes them."""
    files: Files = {"vocab.json": {x: i for i, x in enumerate(tokens)}}
    name = "Wav2Vec2PhonemeCTCTokenizer"
    files[TOKENIZER if named else "config.json"] = {"tokenizer_class": name}
    if named:
        files[TOKENIZER]["do_phonemize"] = False
    folder = Folder(files, len(tokens))
    tokenizer = Folder({k: x for k, x in files.items() if k != "config.json"}, 0).load(name)
    found, spelling = folder.read()
    assert found.head.blank == tokenizer.pad_token_id
    first, last = tokens.index(FIRST), tokens.index(LAST)
    for index in range(len(tokens)):
        if index not in {first, last}:
            texts = "".join(spelling.texts[i] for i in (first, index, last))
            expected = tokenizer.decode([first, index, last], skip_special_tokens=True)
            assert " ".join(texts.split()) == expected
