"""Reads tensors from safetensors and torch files, whole or sharded.

torch files are read with `weights_only=True`: their pickles run no code.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeGuard, overload

from torch import Tensor

from w2v_edge.errors import CheckpointError, MissingExtraError, UnsafeCheckpointError
from w2v_edge.model.checkpoint import BARE_PICKLE, ZIP, read_torch

SAFETENSORS, BIN = "model.safetensors", "pytorch_model.bin"
MAX_JSON_BYTES = 64 * 2**20

LENGTH, DIRECTION = (f".parametrizations.weight.original{i}" for i in (0, 1))
OLD_ENDINGS = {
    ".weight_g": LENGTH,
    ".weight_v": DIRECTION,
    ".gamma": ".weight",
    ".beta": ".bias",
}
"""Early names: of weight norm before torch had parametrizations, and of TensorFlow's norms."""

WRAPPERS = ("module.", "_orig_mod.", "model.")
"""Beginnings of all names in files of data-parallel, compiled and Lightning modules."""

READABLE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
FOREIGN = (".h5", ".msgpack", ".gguf")
OF_TRAINERS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|adapter)\b.*")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
FEW = 3
"""Most files that an error names."""

NESTED = ("state_dict", "model_state_dict")
"""Where files of training loops have their tensors."""


def weight_files(folder: Path, named: Path | None = None) -> list[Path]:
    """Return the weight files of a folder; of sharded weights, the index first.

    Args:
        folder: the folder.
        named: one of its files, to read no other; None goes by the usual names.

    Raises:
        CheckpointError: no weights, or a shard is missing; `named` is one of several shards.
    """
    if named is not None:
        if SHARD.search(named.name):
            raise CheckpointError(f"{named}: found one of several shards, expected their folder")
        return [named, *_shards(named)] if named.suffix == ".json" else [named]
    for name in (SAFETENSORS, BIN):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return [index, *_shards(index)]
    raise CheckpointError(
        f"{folder}: expected weights, {SAFETENSORS} or {BIN}, found {_instead(folder)}"
    )


def _instead(folder: Path) -> str:
    """Return what a folder has in place of the usual weight files."""
    names = sorted(x.name for x in folder.iterdir() if not OF_TRAINERS.match(x.name))
    readable = [x for x in names if Path(x).suffix in READABLE]
    if readable:
        return f"{', '.join(readable[:FEW])}; give the path of the file to read"
    foreign = [x for x in names if Path(x).suffix in FOREIGN]
    if foreign:
        return f"{', '.join(foreign[:FEW])}, which PyTorch does not read; save it with PyTorch"
    return "neither"


def read_weights(folder: Path, named: Path | None = None) -> dict[str, Tensor]:
    """Read all tensors of a folder, or of a file of it that is `named`.

    Raises:
        CheckpointError: a file is missing or damaged, or the index does not match the shards.
        UnsafeCheckpointError: a pickle needs more than tensors; it was not run.
    """
    tensors: dict[str, Tensor] = {}
    files = weight_files(folder, named)
    shards = [path for path in files if path.suffix != ".json"]
    for path in shards:
        found = read_tensors(path)
        twice = tensors.keys() & found.keys()
        if twice:
            raise CheckpointError(f"{path}: tensor {min(twice)!r} is in another shard too")
        tensors |= found
    if len(files) > len(shards):
        _check_index(files[0], tensors)
    return modern_names(unwrapped(tensors))


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without what a wrapper puts before all of their names."""
    for wrapper in WRAPPERS * 2:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): x for name, x in tensors.items()}
    return dict(tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of one file, `.safetensors` or torch's.

    Raises:
        CheckpointError: it is damaged or has other content.
        UnsafeCheckpointError: a pickle needs more than tensors; it was not run.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    with path.open("rb") as stream:
        if not stream.read(2).startswith((ZIP, BARE_PICKLE)):
            raise CheckpointError(
                f"{path}: not a torch file (a git-lfs pointer, or a web page?); download it again"
            )
    try:
        found = read_torch(path)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f"{path}: refused without running it: its pickle needs more than tensors; save it "
            "as safetensors"
        ) from error
    except Exception as error:
        # The bytes are untrusted: any other error of the unpickler means a damaged file.
        raise CheckpointError(f"{path}: damaged, or not a torch file") from error
    if isinstance(found, Mapping):
        found = next((found[key] for key in NESTED if isinstance(found.get(key), Mapping)), found)
    if not is_tensors(found):
        raise CheckpointError(f"{path}: expected tensors by name, found something else")
    return dict(found)


def holds_tensor(payload: object, ending: str) -> bool:
    """Tell whether a torch file's content has a tensor whose name ends so."""
    if not isinstance(payload, Mapping):
        return False
    places = (payload, *(payload.get(key) for key in NESTED))
    return any(
        isinstance(name, str) and name.endswith(ending)
        for place in places
        if isinstance(place, Mapping)
        for name in place
    )


def is_tensors(found: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Tell whether `found` maps names to tensors."""
    return isinstance(found, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    )


def modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors called as torch calls them today."""
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in OLD_ENDINGS.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new  # noqa: PLW2901 - a name has one ending
        if name in renamed:
            raise CheckpointError(f"tensor {name!r} is there twice, under its old and its new name")
        renamed[name] = tensor
    return renamed


def with_weight_norm(tensors: Mapping[str, Tensor], needed: Collection[str]) -> dict[str, Tensor]:
    """Return tensors with a convolution's weight split in two where weight norm needs its parts.

    Tools that remove weight norm save the product of the parts alone.
    """
    split = dict(tensors)
    for direction in needed:
        module = direction.removesuffix(DIRECTION)
        weight = tensors.get(f"{module}.weight")
        if module == direction or direction in tensors or weight is None:
            continue
        if weight.ndim != 3 or not weight.is_floating_point():  # noqa: PLR2004 - out, in, kernel
            continue
        del split[f"{module}.weight"]
        # In float32, since squares of float16 overflow.
        split[direction] = weight.float()
        split[module + LENGTH] = split[direction].square().sum(dim=(0, 1), keepdim=True).sqrt()
    return split


@overload
def read_json(path: Path) -> dict[str, Any]: ...
@overload
def read_json(path: Path, *, lists: bool) -> dict[str, Any] | list[Any]: ...
def read_json(path: Path, *, lists: bool = False) -> dict[str, Any] | list[Any]:
    """Read a JSON object.

    Args:
        path: the file.
        lists: whether it may be a list.

    Raises:
        CheckpointError: it is damaged or something else.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_JSON_BYTES} bytes, not a config")
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged, not JSON ({error!s:.80})") from error
    if not isinstance(data, dict) and not (lists and isinstance(data, list)):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError("reading safetensors", "safetensors", "export") from error
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        what = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: damaged or truncated ({what:.80}); download it again"
        ) from error


def _shards(index: Path) -> list[Path]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(x, str) for x in named.values()):
        raise CheckpointError(f"{index}: expected a 'weight_map' of tensors to files")
    paths = [index.parent / name for name in sorted(set(named.values()))]
    for path in paths:
        if path.parent != index.parent or not path.is_file():
            raise CheckpointError(f"{index}: names {path.name!r:.80}, which is not beside it")
    return paths


def _check_index(index: Path, tensors: Mapping[str, Tensor]) -> None:
    missing = read_json(index)["weight_map"].keys() - tensors.keys()
    if missing:
        raise CheckpointError(f"{index}: tensor {min(missing)!r} is in none of its shards")
