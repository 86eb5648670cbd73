"""Writes our models as folders that transformers reads.

A model that came from such a folder gets its JSON files back as they were, as long as they still
say what the model is; others get new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_edge.checkpoints.huggingface.describe import class_kind, describe
from w2v_edge.checkpoints.huggingface.folder import FORMAT, JSON_FILES
from w2v_edge.checkpoints.huggingface.names import table
from w2v_edge.checkpoints.huggingface.settings import model_config
from w2v_edge.checkpoints.huggingface.vocabulary import TOKENIZER
from w2v_edge.checkpoints.key_table import revert
from w2v_edge.checkpoints.tensors import SAFETENSORS
from w2v_edge.errors import CheckpointError, MissingExtraError
from w2v_edge.files import refuse_foreign, replacing_folder
from w2v_edge.model.speech_model import SpeechModel

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def write_folder(model: SpeechModel, folder: Path, *, force: bool = False) -> None:
    """Write `model` to a new folder; it appears whole or not at all.

    Raises:
        CheckpointError: transformers has no class for such a model.
        OutputExistsError: the folder is there and `force` is false, or it holds other files.
    """
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtraError("writing safetensors", "safetensors", "export") from error
    refuse_foreign(folder, {*JSON_FILES, SAFETENSORS}, "what is written here")
    kind = class_kind(model.config)
    state = model.state_dict()
    tensors = revert(table(model.config, state, bare=kind == "body"), state)
    files = _original(model, tensors) or describe(model.config, kind)
    with replacing_folder(folder, force=force) as temporary:
        for name, content in files.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (temporary / name).write_text(text, encoding="utf-8")
        as_before = _in_types_before(model.origin or {}, tensors)
        save_file(as_before, temporary / SAFETENSORS, metadata={"format": "pt"})


def _original(model: SpeechModel, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the JSON files that a model came with, if they still say what it is."""
    origin = model.origin or {}
    if origin.get("format") != FORMAT or not isinstance(origin.get("files"), Mapping):
        return None
    language = origin.get("language")
    files = dict(origin["files"])
    if language is not None and TOKENIZER in files:
        files[TOKENIZER] = {**files[TOKENIZER], "target_lang": language}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        same = model_config("origin", files, shapes, language) == model.config
    except (CheckpointError, KeyError, TypeError, AttributeError):
        return None
    return files if same else None


def _in_types_before(origin: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in the types that they came in, where nothing is lost by it."""
    given = {}
    for name, tensor in tensors.items():
        dtype = DTYPES.get(origin.get("types", {}).get(name), tensor.dtype)
        smaller = tensor.to(dtype)
        given[name] = smaller if torch.equal(smaller.to(tensor.dtype), tensor) else tensor
    return given
