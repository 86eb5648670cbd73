"""Checkpoints: one `.pt` file that holds a plain config and tensors, and can run no code.

torch.save({"format_version": 1, "config": {...}, "model": state_dict})

A converted one also has "origin": what its source said of itself, as plain values.
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
"""How torch's files begin, and how pickles do; a pickle that is not plain tensors is a threat."""

_FORBIDDEN = re.compile(r"Unsupported (global|class)|GLOBAL|reduce|not an allowed|blocked")
"""How torch's restricted reader says that a pickle wants to run something."""


def save_checkpoint(model: SpeechModel, path: str | Path) -> None:
    """Write `model` to `path`; the file appears whole or not at all."""
    payload = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "model": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
    }
    if model.origin is not None:
        payload["origin"] = model.origin
    write_tensors(payload, Path(path))


def write_tensors(payload: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain values; the file appears whole or not at all.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    with replacing(path) as temporary:
        try:
            torch.save(payload, temporary)
        except RuntimeError as error:
            # All that torch says of a full disk is at which byte it was.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def load_checkpoint(path: str | Path) -> SpeechModel:
    """Read a model, in eval mode.

    Raises:
        UnsafeCheckpointError: the pickle asks for anything but tensors and plain values.
        CheckpointError: the file is missing, damaged, of another format, or contradicts itself.
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
    return model


def fill(path: Path | str, model: SpeechModel, tensors: Mapping[str, Tensor]) -> SpeechModel:
    """Return a model without memory behind its tensors as one with `tensors`, in eval mode.

    Raises:
        CheckpointError: a tensor of another shape or type, or with numbers that are none.
    """
    _check_tensors(path, model.state_dict(), tensors)
    model = model.to_empty(device="cpu")
    model.load_state_dict(tensors)
    return model.eval()


def assemble_empty(path: Path | str, config: object) -> SpeechModel:
    """Build the model of a config with no memory behind its tensors, whatever sizes it claims.

    Raises:
        CheckpointError: no model can be built from `config`, plain values or a `ModelConfig`.
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
            f"{path}: config: no model can be built from it: {_line(error)}"
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
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The reader meets bytes that nobody vouches for: whatever it stumbles over is damage.
        unsafe = bare or _FORBIDDEN.search(str(error))
        if isinstance(error, pickle.UnpicklingError) and unsafe:
            raise UnsafeCheckpointError(
                f"{path}: refused unexecuted, its pickle asks for more than tensors and plain "
                "values; save it as {'format_version', 'config', 'model'} with plain contents"
            ) from error
        raise CheckpointError(f"{path}: damaged, or not a checkpoint") from error
    if not isinstance(payload, dict) or not {"config", "model"} <= payload.keys():
        keys = sorted(map(str, payload))[:5] if isinstance(payload, dict) else [type(payload)]
        raise CheckpointError(
            f"{path}: expected the keys format_version, config and model, found {keys!r:.100}"
        )
    return payload


def check_names(path: Path | str, expected: Iterable[str], found: object, advice: str = "") -> None:
    """Refuse tensors that are not the ones expected; `advice` ends the error.

    Raises:
        CheckpointError: one is missing or unexpected; it is named.
    """
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path}: 'model' holds {type(found).__name__}, expected tensors")
    wanted, there = set(expected), set(found)
    for kind, names in (("missing", wanted - there), ("unexpected", there - wanted)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{path}: {kind} tensor {min(map(str, names))!r}{more}{advice}")


def _check_tensors(
    path: Path | str, expected: Mapping[str, Tensor], found: Mapping[str, Any]
) -> None:
    """Compare shapes and types, and refuse numbers that are none."""
    for name, tensor in expected.items():
        value = found[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{path}: tensor {name!r}: expected shape {tuple(tensor.shape)}, found {shape}"
            )
        check_numbers(path, name, value, floats=tensor.is_floating_point())


def check_numbers(path: Path | str, name: str, value: Tensor, *, floats: bool) -> None:
    """Refuse a tensor of another type than floats, or integers, and numbers that are none.

    Raises:
        CheckpointError: it is one of these.
    """
    fits = value.is_floating_point() == floats and not value.is_complex()
    if value.is_meta or not fits or value.layout != torch.strided:
        what = "no data" if value.is_meta else f"{value.dtype}, {value.layout}"
        expected = "floats" if floats else "integers"
        raise CheckpointError(f"{path}: tensor {name!r} holds {what}; expected dense {expected}")
    if not torch.isfinite(value.float()).all():
        raise CheckpointError(
            f"{path}: tensor {name!r} holds NaN, infinity or numbers beyond float32"
        )


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
