"""Reads a transformers folder: JSON files and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_edge.checkpoints.huggingface.families import (
    NEVER_READ,
    POOLED,
    UNUSED,
    family_for,
    family_of,
    model_kind,
)
from w2v_edge.checkpoints.huggingface.lora import LORA_CONFIG, lora_weights, merge
from w2v_edge.checkpoints.huggingface.names import key_table
from w2v_edge.checkpoints.huggingface.pooled_heads import HeadChoice, pooled_heads, rename_heads
from w2v_edge.checkpoints.huggingface.rotary import with_rounding
from w2v_edge.checkpoints.huggingface.settings import CONFIG, PREPROCESSOR, PROCESSOR, model_config
from w2v_edge.checkpoints.huggingface.vocabulary import (
    ADDED,
    FAST_TOKENIZER,
    SPECIAL,
    TOKENIZER,
    VOCABULARY,
    languages,
)
from w2v_edge.checkpoints.key_table import MISMATCH, Coverage, convert, with_projection
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

TOKENIZER_FILES = (VOCABULARY, ADDED, TOKENIZER, SPECIAL, FAST_TOKENIZER)
JSON_FILES = (CONFIG, PREPROCESSOR, PROCESSOR, *TOKENIZER_FILES)
BODY = r"(feature_extractor|feature_projection|encoder|adapter|intermediate_ffn)"
FIRST = ("feature_extractor.conv_layers.0.conv.weight", "feature_projection.projection.weight")
"""Tensors of a body, of which each has one; they tell the beginning of its names."""
UNSURE = (
    "; its class is in no library: read heads of it by their names, such as --head classifier, or "
    "what it has in common with known classes: --as body"
)
ADAPTERS = ("adapter.{}.safetensors", "adapter.{}.bin")


def read_folder(
    folder: Path,
    language: str | None = None,
    *,
    kind: str | None = None,
    processor: Path | None = None,
    projection: bool = False,
    lora: Path | None = None,
    labels: bool = True,
    heads: Sequence[HeadChoice] = (),
    weights: Path | None = None,
) -> tuple[SpeechModel, Coverage]:
    """Read the model of a folder.

    Args:
        folder: has `config.json` and weights.
        language: selects an adapter and a vocabulary of a multilingual model.
        kind: what to read the model as, of `families.KINDS`; None goes by class and tensors.
        processor: another folder, with the files of preprocessor and tokenizer.
        projection: read the final projection of the context.
        lora: folder of a LoRA to merge in; its tokenizer is read in place of the base's.
        labels: whether to read the labels of a CTC head.
        heads: pooled heads to read, whatever the class; all else but the body is left out.
        weights: one of its weight files; None goes by their names, as transformers does.

    Raises:
        CheckpointError: the family is not supported, or files are damaged or inconsistent.
        UnsafeCheckpointError: a pickle needs more than tensors; it was not run.
    """
    files = {path.name: _read_file(path) for path in _json_files(folder, processor, lora)}
    if not labels:
        files = {name: x for name, x in files.items() if name not in {VOCABULARY, FAST_TOKENIZER}}
    family = family_of(folder, files[CONFIG])
    tensors = read_weights(folder, weights)
    if lora is not None:
        tensors = merge(lora, tensors, family.tensor_prefix)
        if kind is None and "lm_head.weight" in tensors:
            kind = "ctc"
    adapter = None if language is None else _adapter_file(folder, language)
    if adapter is not None:
        tensors |= _read_adapter(adapter, tensors)
        files[CONFIG] = {**files[CONFIG], "vocab_size": len(tensors["lm_head.weight"])}
    model, coverage = _convert(
        folder, files, tensors, language, kind, projection=projection, heads=heads
    )
    types = {
        name: str(tensor.dtype).removeprefix("torch.")
        for name, tensor in tensors.items()
        if tensor.dtype != torch.float32
    }
    model.origin = {"format": FORMAT, "files": files, "language": language, "types": types}
    if language is not None and adapter is None:
        model.origin["adapter"] = False
    return model, coverage


def _convert(
    folder: Path,
    files: dict[str, dict[str, Any]],
    tensors: dict[str, Tensor],
    language: str | None,
    chosen: str | None,
    *,
    projection: bool,
    heads: Sequence[HeadChoice],
) -> tuple[SpeechModel, Coverage]:
    """Build the model of a folder's JSON files and tensors."""
    chosen = POOLED if heads else chosen
    kind = chosen or model_kind(folder, files[CONFIG], tensors)
    if kind == POOLED:
        heads = heads or pooled_heads(tensors)
        tensors = rename_heads(folder, tensors, heads)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = model_config(folder, files, shapes, language, kind, heads)
        if projection:
            config = with_projection(folder, config, shapes)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    prefix = _prefix(tensors, f"{family_for(config.architecture).tensor_prefix}.", kind, chosen)
    config = with_rounding(folder, config, tensors, prefix)
    empty = assemble_empty(folder, config)
    expected = empty.state_dict()
    unused = {**UNUSED[kind], **NEVER_READ, **family_of(folder, files[CONFIG]).unused}
    if chosen is not None:
        unused |= {rf"(?!{re.escape(prefix)}{BODY}\.).*": f"not of the model read as {chosen}"}
    table = key_table(config, expected, prefix)
    advice = UNSURE if kind == POOLED and chosen is None else MISMATCH
    converted, coverage = convert(folder, table, expected, tensors, unused, advice)
    return fill(folder, empty, converted), coverage


def _prefix(tensors: Mapping[str, Tensor], usual: str, kind: str, chosen: str | None) -> str:
    """Return the beginning of the names of the body's tensors; a body alone has none."""
    found = {
        name.removesuffix(first) for first in FIRST for name in tensors if name.endswith(first)
    }
    if usual in found or not found:
        return usual
    if kind == "body" and "" in found:
        return ""
    # A class that is in no library calls its body as it likes.
    return min(found) if chosen is not None or kind == POOLED else usual


def _json_files(folder: Path, processor: Path | None, lora: Path | None = None) -> list[Path]:
    """Return the JSON files; `processor`, if given, has the preprocessor's and tokenizer's."""
    if processor is None and lora is not None and (lora / VOCABULARY).is_file():
        processor = lora
    if processor is None:
        return [folder / x for x in JSON_FILES if (folder / x).is_file()]
    found = [processor / x for x in JSON_FILES if x != CONFIG and (processor / x).is_file()]
    if not found:
        raise CheckpointError(
            f"{processor}: expected a folder with {PREPROCESSOR} or {VOCABULARY}, found neither"
        )
    return [folder / CONFIG, *found]


def _read_file(path: Path) -> dict[str, Any]:
    """Read a JSON object; a list in `vocab.json` gives tokens in the order of their indices."""
    if path.name != VOCABULARY:
        return read_json(path)
    found = read_json(path, lists=True)
    if isinstance(found, list):
        if not all(isinstance(x, str) for x in found):
            raise CheckpointError(f"{path}: expected a list of tokens, found other values")
        return {token: i for i, token in enumerate(found)}
    return found


def used_files(
    folder: Path,
    language: str | None = None,
    processor: Path | None = None,
    lora: Path | None = None,
    weights: Path | None = None,
) -> list[Path]:
    """Return the files that `read_folder` reads."""
    files = _json_files(folder, processor, lora)
    files += [] if lora is None else [lora / LORA_CONFIG, lora_weights(lora)]
    adapter = None if language is None else _adapter_file(folder, language)
    return [*files, *weight_files(folder, weights), *([] if adapter is None else [adapter])]


def _read_adapter(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    found = modern_names(read_tensors(path))
    wanted = {x for x in tensors if ".adapter_layer." in x or x.startswith("lm_head.")}
    missing, unknown = wanted - found.keys(), found.keys() - wanted
    for kind, names in (("missing", missing), ("unexpected", unknown)):
        if names:
            raise CheckpointError(f"{path}: {kind} tensor {min(names)!r}; not this model's adapter")
    if "lm_head.weight" not in found or not found["lm_head.weight"].ndim:
        raise CheckpointError(f"{path}: missing tensor 'lm_head.weight'; not a CTC model's adapter")
    return found


def _adapter_file(folder: Path, language: str) -> Path | None:
    """Return the file of a language's adapter.

    None if the folder has no adapters and its weights are of the language: its tokenizer says so,
    or it has a vocabulary of the language, and no layers that another adapter would replace.

    Raises:
        CheckpointError: there is no such adapter.
    """
    for name in ADAPTERS:
        path = folder / name.format(language)
        if path.parent == folder and path.is_file():
            return path
    known = sorted(
        path.name.split(".")[1] for path in folder.glob("adapter.*") if path.name.count(".") > 1
    )
    if not known and (folder / VOCABULARY).is_file():
        known = languages(_read_file(folder / VOCABULARY))
        path = folder / TOKENIZER
        own = read_json(path).get("target_lang") if path.is_file() else None
        if own is not None or read_json(folder / CONFIG).get("adapter_attn_dim") is not None:
            known = [x for x in known if x == own]
        if language in known:
            return None
    have = f"expected one of: {', '.join(known[:8])}" if known else "this model has no adapters"
    raise CheckpointError(f"{folder}: no adapter for language {language!r:.20}; {have}")
