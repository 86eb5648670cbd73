"""Puts the language model of a transformers folder into a bundle, and opens it there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from w2v_edge.bundle.language_model import UNIGRAMS
from w2v_edge.checkpoints.huggingface.language_model import ALPHABET, FoundLanguageModel
from w2v_edge.errors import CheckpointError, InputError, MissingExtraError
from w2v_edge.runtime.model import Model
from w2v_edge.text.beam_search import BeamSearch
from w2v_edge.text.language_model import silent_kenlm
from w2v_edge.text.spelling import Spelling

MARKS = {"▁": " ", "##": ""}
"""How labels in an alphabet begin, and what that spells."""


def write_language_model(found: FoundLanguageModel, folder: Path) -> None:
    """Copy a language model and its words into the folder of a bundle."""
    shutil.copyfile(found.model, folder / found.info.file)
    if found.unigrams is not None:
        shutil.copyfile(found.unigrams, folder / UNIGRAMS)


def check_language_model(bundle: Model, found: FoundLanguageModel) -> tuple[str, ...]:
    """Open a bundle's language model for its labels, and return what is in doubt.

    Raises:
        CheckpointError: the library cannot read it, or labels cannot spell its words.
    """
    remarks = alphabet_doubts(found.alphabet or (), bundle.spelling)
    try:
        with silent_kenlm():
            BeamSearch(bundle.spelling, lm=bundle.language_model)
    except MissingExtraError as error:
        return (*remarks, f"the language model was copied but not opened: {error}; export again")
    except InputError as error:
        reason = str(error).removeprefix(f"{bundle.language_model.path}: ")
        raise CheckpointError(f"{found.model}: {reason}; or leave out --with-lm") from error
    return remarks


def alphabet_doubts(alphabet: Sequence[str], spelling: Spelling) -> tuple[str, ...]:
    """Return a remark if an alphabet differs from a model's labels, apart from case.

    Special labels are left out: the alphabet may name them or not.
    """
    for i, (label, text) in enumerate(zip(alphabet, spelling.texts, strict=False)):
        mark = next((x for x in MARKS if label.startswith(x) and label != x), "")
        spelled = MARKS.get(mark, "") + label.removeprefix(mark)
        if text and spelled.strip().lower() != text.strip().lower() and label not in MARKS:
            here = f"{label!r:.20}, in the vocabulary {text!r:.20}"
            return (f"{ALPHABET}: label {i} is {here}: the language model may be of others",)
    missing = [text for text in spelling.texts[len(alphabet) :] if text] if alphabet else []
    if missing:
        return (f"{ALPHABET}: {len(missing)} labels of the vocabulary are not in it",)
    return ()
