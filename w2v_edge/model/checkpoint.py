"""Checkpoints: a `.pt` file of a plain config and tensors, read without running any code.

    torch.save({"format_version": 1, "config": {...}, "model": state_dict})

A converted checkpoint also has "origin": metadata of its source, as plain values.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_edge import strict
from w2v_edge.errors import CheckpointError, ConfigError, UnsafeCheckpointError
from w2v_edge.files import replacing
from w2v_edge.model.build import assemble
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.speech_model import SpeechModel

FORMAT_VERSION = 1

ZIP, BARE_PICKLE = b"PK", b"\x80"
"""First bytes of torch's zip files, and of bare pickles (torch's old format, or an attack)."""

_FORBIDDEN = re.compile(r"Unsupported (global|class)|GLOBAL|reduce|not an allowed|blocked")
"""Messages of torch's restricted unpickler about a pickle that would run code."""


def save_checkpoint(model: SpeechModel, path: str | Path) -> None:
    """Write `model` to `path` atomically."""
    payload = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "model": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    if model.origin is not None:
        payload["origin"] = model.origin
    write_tensors(payload, Path(path))


def write_tensors(payload: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values to `path` atomically.

    Raises:
        OSError: the disk is full or not writable.
    """
    with replacing(path) as temporary:
        try:
            torch.save(payload, temporary)
        except RuntimeError as error:
            # torch reports a full disk as a RuntimeError that names only the byte position.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def load_checkpoint(path: str | Path, *, mapped: bool = False) -> SpeechModel:
    """Read a model and put it in eval mode.

    Args:
        path: the `.pt` file.
        mapped: leave the weights in the file, which must not change as long as the model is used;
            pages are read when they are needed, and can be dropped again.

    Raises:
        UnsafeCheckpointError: the pickle needs more than tensors and plain values; it was not run.
        CheckpointError: the file is missing, damaged, of another format, or inconsistent.
    """
    path = Path(path)
    payload = _read(path)
    version = payload.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version!r:.40}, this release reads {FORMAT_VERSION}; "
            "update w2v-edge or save the checkpoint again"
        )
    model = assemble_empty(path, payload["config"])
    check_names(path, model.state_dict(), payload["model"])
    model = fill(path, model, payload["model"])
    origin = payload.get("origin")
    if origin is not None and not isinstance(origin, dict):
        raise CheckpointError(f"{path}: 'origin' holds {type(origin).__name__}, expected a dict")
    model.origin = origin
    return model if mapped else own_weights(model)


def own_weights(model: SpeechModel) -> SpeechModel:
    """Copy a model's weights to memory of their own, so that no file is needed any more."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model


def read_torch(path: Path) -> Any:
    """Read a torch file without running code; the tensors of zip files stay in the file.

    Raises:
        Exception: any error of torch's restricted unpickler on a refused or damaged file.
    """
    with path.open("rb") as stream:
        is_zip = stream.read(len(ZIP)) == ZIP
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def fill(path: Path | str, model: SpeechModel, tensors: Mapping[str, Tensor]) -> SpeechModel:
    """Make `tensors` the weights of a model on the meta device, and put it in eval mode.

    Raises:
        CheckpointError: a tensor has another shape or type, or non-finite values.
    """
    expected = model.state_dict()
    _check_tensors(path, expected, tensors)
    weights = {name: tensors[name].to(x.dtype).contiguous() for name, x in expected.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def assemble_empty(path: Path | str, config: object) -> SpeechModel:
    """Build the model of a config on the meta device: no memory is allocated for any size.

    Args:
        path: the checkpoint, for errors.
        config: a `ModelConfig`, or its plain values.

    Raises:
        CheckpointError: the config is invalid.
    """
    try:
        with torch.device("meta"):
            if not isinstance(config, ModelConfig):
                config = strict.from_plain(ModelConfig, config)
            return assemble(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: config: {error}") from error
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: config: found values that no model can be built from: {_line(error)}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"{path}: expected a checkpoint file, found {found}")
    with path.open("rb") as stream:
        beginning = stream.read(2)
        bare = beginning.startswith(BARE_PICKLE)
        if not bare and beginning != ZIP:
            raise CheckpointError(f"{path}: not a checkpoint; make one: w2v-edge init")
    try:
        payload = read_torch(path)
    except Exception as error:
        # The bytes are untrusted: any other error of the unpickler means a damaged file.
        unsafe = bare or _FORBIDDEN.search(str(error))
        if isinstance(error, pickle.UnpicklingError) and unsafe:
            raise UnsafeCheckpointError(
                f"{path}: refused without running it: its pickle needs more than tensors and "
                "plain values; save it as {'format_version', 'config', 'model'} with plain contents"
            ) from error
        raise CheckpointError(f"{path}: damaged, or not a checkpoint") from error
    if not isinstance(payload, dict) or not {"config", "model"} <= payload.keys():
        keys = sorted(map(str, payload))[:5] if isinstance(payload, dict) else [type(payload)]
        raise CheckpointError(
            f"{path}: expected the keys format_version, config and model, found {keys!r:.100}"
        )
    return payload


def check_names(path: Path | str, expected: Iterable[str], found: object, advice: str = "") -> None:
    """Check that tensors have the expected names.

    Args:
        path: the checkpoint, for errors.
        expected: the names.
        found: tensors by name.
        advice: appended to the error.

    Raises:
        CheckpointError: a tensor is missing or unexpected; the first is named.
    """
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: 'model' holds {type(found).__name__}, expected tensors")
    wanted, present = set(expected), set(found)
    for kind, names in (("missing", wanted - present), ("unexpected", present - wanted)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{path}: {kind} tensor {min(map(str, names))!r}{more}{advice}")


def _check_tensors(
    path: Path | str, expected: Mapping[str, Tensor], found: Mapping[str, Any]
) -> None:
    """Check shapes, types and finiteness."""
    for name, tensor in expected.items():
        value = found[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{path}: tensor {name!r}: expected shape {tuple(tensor.shape)}, found {shape}"
            )
        check_values(path, name, value, floats=tensor.is_floating_point())


def check_values(path: Path | str, name: str, value: Tensor, *, floats: bool) -> None:
    """Check that a tensor is dense and finite, of floats or of integers.

    Raises:
        CheckpointError: it is not.
    """
    fits = value.is_floating_point() == floats and not value.is_complex()
    if value.is_meta or not fits or value.layout != torch.strided:
        what = "no data" if value.is_meta else f"{value.dtype}, {value.layout}"
        expected = "floats" if floats else "integers"
        raise CheckpointError(f"{path}: tensor {name!r} holds {what}, expected dense {expected}")
    if not torch.isfinite(value.float()).all():
        raise CheckpointError(
            f"{path}: tensor {name!r} holds NaN, infinity or values beyond float32"
        )


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
