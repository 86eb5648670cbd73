"""Finds the language model in a transformers folder, as `Wav2Vec2ProcessorWithLM` saves it.

`language_model/` has a KenLM model of any name, `attrs.json` with its weights and `unigrams.txt`
with its words; `alphabet.json` beside it has the labels that its decoder was built for. The format
is that of pyctcdecode's `BeamSearchDecoderCTC.save_to_dir`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_edge.bundle.language_model import UNIGRAMS, WEIGHTS, LanguageModelInfo
from w2v_edge.checkpoints.tensors import read_json
from w2v_edge.errors import CheckpointError

FOLDER = "language_model"
ATTRIBUTES = "attrs.json"
ALPHABET = "alphabet.json"
README = "README.md"
PROCESSOR = "Wav2Vec2ProcessorWithLM"

DEFAULTS = {"alpha": 0.5, "beta": 1.5, "unk_score_offset": -10.0, "score_boundary": True}
"""pyctcdecode's."""

BOUNDARY = "score_boundary"
QUOTES = "\"'"

KENLM = b"mmap lm http://kheafield.com/code"
FORMATS = (
    (KENLM, "language_model.bin"),
    (b"\x1f\x8b", "language_model.arpa.gz"),
)
"""How files begin, and their names in a bundle; the text of an `.arpa` has no fixed beginning."""

UNREADABLE = (
    (b"\xfd7zXZ", "a file packed by xz; unpack it"),
    (b"BZh", "a file packed by bzip2; unpack it"),
    (b"PK", "a zip archive; unpack it"),
    (b"\xd6\xfd\xb2\x7e", "a transducer of OpenFst; build a KenLM model of the same text"),
)
"""How files that KenLM does not read begin, what they are, and the way out."""

HEAD_BYTES = 2**16
"""Bytes read to tell a file's format, or its licence."""


@dataclass(frozen=True)
class FoundLanguageModel:
    """A language model in a folder.

    Attributes:
        model: the KenLM model.
        unigrams: file of its words, if there is one.
        info: its name in a bundle, its weights and its licence.
        alphabet: labels that its decoder was built for, in its spelling; None if not stated.
        remarks: what the folder leaves open.
    """

    model: Path
    unigrams: Path | None
    info: LanguageModelInfo
    alphabet: tuple[str, ...] | None
    remarks: tuple[str, ...]


def models_in(folder: Path) -> list[Path]:
    """Return the files in `language_model/` that may be its model."""
    inner = folder / FOLDER
    if not inner.is_dir():
        return []
    others = {ATTRIBUTES, UNIGRAMS, ALPHABET, README}
    return sorted(
        path
        for path in inner.iterdir()
        if path.is_file()
        and path.name not in others
        and not path.name.startswith((".", "__", "LICENSE", "LICENCE"))
    )


def read_language_model(folder: Path) -> FoundLanguageModel:
    """Read the language model of a folder.

    Raises:
        CheckpointError: there is none or more than one, of an unknown format, or its settings are
            damaged.
    """
    models = models_in(folder)
    if not models:
        raise CheckpointError(
            f"{folder}: found no language model, expected {FOLDER}/ with a KenLM model, as "
            f"{PROCESSOR} saves it; leave out --with-lm, or give w2v-edge transcribe an --lm"
        )
    if len(models) > 1:
        names = ", ".join(path.name for path in models[:4])
        raise CheckpointError(
            f"{folder / FOLDER}: found {len(models)} files that may be the language model "
            f"({names}), expected one; leave one there"
        )
    (model,) = models
    attributes, remarks = _attributes(folder / FOLDER / ATTRIBUTES)
    unigrams = folder / FOLDER / UNIGRAMS
    has_words = unigrams.is_file()
    info = LanguageModelInfo(
        file=_name_in_bundle(model),
        name=model.name,
        unigrams=has_words,
        licence=_licence(folder / FOLDER) or _licence(folder),
        **attributes,
    )
    return FoundLanguageModel(
        model, unigrams if has_words else None, info, _alphabet(folder / ALPHABET), remarks
    )


def _name_in_bundle(model: Path) -> str:
    """Return a file's name in a bundle, by its content.

    Raises:
        CheckpointError: KenLM does not read it.
    """
    with model.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    for magic, name in FORMATS:
        if head.startswith(magic):
            return name
    if b"\\data\\" in head:
        return "language_model.arpa"
    known = [what for magic, what in UNREADABLE if head.startswith(magic)]
    what = known[0] if known else "a file of another kind; convert it, or leave out --with-lm"
    raise CheckpointError(
        f"{model}: expected a language model that KenLM reads, .arpa, .arpa.gz or its binary, "
        f"found {what}"
    )


def _attributes(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read `attrs.json`; return the weights, and a remark if there is no such file."""
    if not path.is_file():
        shown = ", ".join(
            f"{name} {value:g}" for name, value in DEFAULTS.items() if name != BOUNDARY
        )
        return dict(DEFAULTS), (f"no {FOLDER}/{ATTRIBUTES}: {shown}, pyctcdecode's defaults",)
    found = DEFAULTS | {name: x for name, x in read_json(path).items() if name in DEFAULTS}
    for name in WEIGHTS:
        value = found[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise CheckpointError(f"{path}: {name}: expected a finite number, found {value!r:.40}")
        found[name] = float(value)
    if not isinstance(found[BOUNDARY], bool):
        raise CheckpointError(f"{path}: {BOUNDARY}: expected true or false")
    return found, ()


def _alphabet(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    labels = read_json(path).get("labels")
    if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
        raise CheckpointError(f"{path}: expected a list of 'labels'")
    return tuple(labels)


def _licence(folder: Path) -> str | None:
    """Return the licence that a folder states, with the file: a model card, or a licence file."""
    card = folder / README
    if card.is_file():
        front = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", _head(card), re.DOTALL)
        stated = front and re.search(r"^licen[sc]e:[ \t]*\n?[ \t-]*(\S.*)$", front[1], re.MULTILINE)
        if stated:
            return f"{stated[1].strip().strip(QUOTES):.80} ({card.name})"
    for path in sorted(folder.glob("LICEN[SC]E*")):
        if path.is_file():
            lines = (line.strip() for line in _head(path).splitlines())
            return f"{next(filter(None, lines), 'empty'):.80} ({path.name})"
    return None


def _head(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")


def lies_there(folder: Path, files: dict[str, Any]) -> str | None:
    """Return a remark if a folder has a language model, or its processor expects one.

    Args:
        folder: of the checkpoint.
        files: contents of its JSON files, by name.
    """
    models = models_in(folder)
    if models:
        size = sum(path.stat().st_size for path in models) / 1e6
        what = f"{FOLDER}/{models[0].name}, {size:.1f} MB"
    elif any(isinstance(x, dict) and x.get("processor_class") == PROCESSOR for x in files.values()):
        what = f"the one of a {PROCESSOR}"
    else:
        return None
    return f"a language model is left out ({what}); w2v-edge export --with-lm takes it"
