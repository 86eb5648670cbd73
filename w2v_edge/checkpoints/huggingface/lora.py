"""Merges a LoRA folder of the library peft into the model that it was trained on.

W becomes W + scale * B A, with a scale of alpha / r (Hu et al., "LoRA", 2021, section 4.1), or of
alpha / sqrt(r) with `use_rslora` (Kalajdzievski, "rsLoRA", 2023). Modules that were trained whole,
such as a head, replace the base's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from w2v_edge.checkpoints.tensors import (
    BIN,
    SAFETENSORS,
    modern_names,
    read_json,
    read_tensors,
)
from w2v_edge.errors import CheckpointError

LORA_CONFIG = "adapter_config.json"
LORA_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
SAVED = ("modules_to_save.default.", "modules_to_save.", "base_layer.")


def is_lora(folder: Path) -> bool:
    """Tell whether a folder holds a LoRA, and no weights of a model of its own."""
    whole = (folder / f"{name}{end}" for name in (SAFETENSORS, BIN) for end in ("", ".index.json"))
    return (folder / LORA_CONFIG).is_file() and not any(path.is_file() for path in whole)


def lora_weights(folder: Path) -> Path:
    """Return the weight file of a LoRA folder.

    Raises:
        CheckpointError: there is none.
    """
    for name in LORA_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: expected {' or '.join(LORA_WEIGHTS)}, found neither")


def base_of(folder: Path) -> tuple[str, str | None]:
    """Return the model that a LoRA was trained on: a folder or a name on the Hub, and a revision.

    Raises:
        CheckpointError: its config does not say.
    """
    config = read_json(folder / LORA_CONFIG)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{folder}: a LoRA that does not say which model it was trained on; name it: --base"
        )
    return name, revision if isinstance(revision, str) and revision else None


def merge(folder: Path, base: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a base model with a LoRA merged in.

    Args:
        folder: of the LoRA.
        base: tensors by name.
        prefix: of the body's tensors in the base's family, which a body alone leaves out.

    Raises:
        CheckpointError: another method than LoRA, or tensors that do not fit the base.
    """
    path, config = lora_weights(folder), read_json(folder / LORA_CONFIG)
    _check(folder, config)
    found = {
        name.removeprefix(PREFIX).replace(".default.", "."): x
        for name, x in read_tensors(path).items()
    }
    merged = dict(base)
    for name, tensor in found.items():
        if name.endswith(DOWN):
            module = name.removesuffix(DOWN)
            up = found.get(module + UP)
            if up is None:
                raise CheckpointError(f"{path}: missing tensor {module + UP!r}")
            target = _named(path, f"{module}.weight", merged, prefix)
            change = _scale(folder, config, module, len(tensor)) * (up.float() @ tensor.float())
            change = change.T if config.get("fan_in_fan_out") else change
            if merged[target].shape != change.shape:
                raise CheckpointError(
                    f"{path}: {module!r} is {tuple(change.shape)}, the base's is "
                    f"{tuple(merged[target].shape)}; name the model it was trained on: --base"
                )
            merged[target] = merged[target].float() + change
        elif not name.endswith(UP):
            if ".lora_" in name:
                raise CheckpointError(
                    f"{path}: found {name!r}, of a kind of LoRA that is not supported; merge it "
                    "with peft (merge_and_unload) and save the model"
                )
            whole = name
            for part in SAVED:
                whole = whole.replace(part, "")
            merged[next(iter(modern_names({whole: tensor})))] = tensor
    return merged


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type", "LORA")
    variant = next((x for x in ("use_dora", "use_qalora") if config.get(x)), None)
    if kind != "LORA" or variant is not None:
        raise CheckpointError(
            f"{folder}: found {variant or kind!r:.40}, expected a plain LoRA; merge it with peft "
            "(merge_and_unload) and save the model"
        )


def _scale(folder: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = config.get("lora_alpha", 8)
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = other
    if not isinstance(alpha, int | float):
        raise CheckpointError(f"{folder}: lora_alpha: expected a number, found {alpha!r:.40}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _named(path: Path, name: str, base: Mapping[str, Tensor], prefix: str) -> str:
    """Return the name of a tensor in the base, whose body may have no prefix."""
    for found in (name, name.removeprefix(f"{prefix}.")):
        if found in base:
            return found
    raise CheckpointError(
        f"{path}: {name!r} is not in the base; name the model it was trained on: --base"
    )
