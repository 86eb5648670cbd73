"""Reads a transformers folder: JSON files and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_edge.checkpoints.huggingface.families import family_for, family_of, model_kind
from w2v_edge.checkpoints.huggingface.names import key_table
from w2v_edge.checkpoints.huggingface.settings import CONFIG, PREPROCESSOR, PROCESSOR, model_config
from w2v_edge.checkpoints.huggingface.vocabulary import (
    ADDED,
    SPECIAL,
    TOKENIZER,
    VOCABULARY,
    languages,
)
from w2v_edge.checkpoints.key_table import Coverage, convert
from w2v_edge.checkpoints.tensors import (
    modern_names,
    read_json,
    read_tensors,
    read_weights,
    weight_files,
)
from w2v_edge.errors import CheckpointError, ConfigError
from w2v_edge.model.checkpoint import assemble_empty, fill
from w2v_edge.model.speech_model import SpeechModel

FORMAT = "huggingface"
JSON_FILES = (CONFIG, PREPROCESSOR, PROCESSOR, VOCABULARY, ADDED, TOKENIZER, SPECIAL)
ADAPTERS = ("adapter.{}.safetensors", "adapter.{}.bin")


def read_folder(folder: Path, language: str | None = None) -> tuple[SpeechModel, Coverage]:
    """Read the model of a folder.

    Args:
        folder: has `config.json` and weights.
        language: selects an adapter and a vocabulary of a multilingual model.

    Raises:
        CheckpointError: the family is not supported, or files are damaged or inconsistent.
        UnsafeCheckpointError: a pickle needs more than tensors; it was not run.
    """
    files = {x: read_json(folder / x) for x in JSON_FILES if (folder / x).is_file()}
    family_of(folder, files[CONFIG])
    tensors = read_weights(folder)
    if language is not None:
        tensors |= _read_adapter(folder, language, tensors)
        files[CONFIG] = {**files[CONFIG], "vocab_size": len(tensors["lm_head.weight"])}
    model, coverage = _convert(folder, files, tensors, language)
    types = {
        name: str(tensor.dtype).removeprefix("torch.")
        for name, tensor in tensors.items()
        if tensor.dtype != torch.float32
    }
    model.origin = {"format": FORMAT, "files": files, "language": language, "types": types}
    return model, coverage


def _convert(
    folder: Path, files: dict[str, dict[str, Any]], tensors: dict[str, Tensor], language: str | None
) -> tuple[SpeechModel, Coverage]:
    """Build the model of a folder's JSON files and tensors."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = model_config(folder, files, shapes, language)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    empty = assemble_empty(folder, config)
    expected = empty.state_dict()
    prefix = f"{family_for(config.architecture).tensor_prefix}."
    body = model_kind(folder, files[CONFIG], tensors) == "body"
    bare = body and not any(name.startswith(prefix) for name in tensors)
    converted, coverage = convert(
        folder, key_table(config, expected, bare=bare), expected, tensors, {}
    )
    return fill(folder, empty, converted), coverage


def used_files(folder: Path, language: str | None = None) -> list[Path]:
    """Return the files that `read_folder` reads."""
    files = [folder / name for name in JSON_FILES if (folder / name).is_file()]
    adapters = [] if language is None else [_adapter_file(folder, language)]
    return [*files, *weight_files(folder), *adapters]


def _read_adapter(folder: Path, language: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    path = _adapter_file(folder, language)
    found = modern_names(read_tensors(path))
    wanted = {x for x in tensors if ".adapter_layer." in x or x.startswith("lm_head.")}
    missing, unknown = wanted - found.keys(), found.keys() - wanted
    for kind, names in (("missing", missing), ("unexpected", unknown)):
        if names:
            raise CheckpointError(f"{path}: {kind} tensor {min(names)!r}; not this model's adapter")
    if "lm_head.weight" not in found or not found["lm_head.weight"].ndim:
        raise CheckpointError(f"{path}: missing tensor 'lm_head.weight'; not a CTC model's adapter")
    return found


def _adapter_file(folder: Path, language: str) -> Path:
    for name in ADAPTERS:
        path = folder / name.format(language)
        if path.parent == folder and path.is_file():
            return path
    known = sorted(
        path.name.split(".")[1] for path in folder.glob("adapter.*") if path.name.count(".") > 1
    )
    if not known and (folder / VOCABULARY).is_file():
        known = languages(read_json(folder / VOCABULARY))
    have = f"expected one of: {', '.join(known[:8])}" if known else "this model has no adapters"
    raise CheckpointError(f"{folder}: no adapter for language {language!r:.20}; {have}")
