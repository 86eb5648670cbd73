"""Checkpoints are bit-exact and plain; damaged ones are refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.errors import CheckpointError, UnsafeCheckpointError
from w2v_edge.model import ModelConfig, build_model, load_checkpoint, save_checkpoint

NAMES = ["tutorial-small", "base-small", "large-small", "tiny"]
Change = Callable[[dict[str, Any]], None]


class Payload:
    """Creates the file `path` when it is unpickled."""

    def __init__(self, path: Path, how: str) -> None:
        self.path, self.how = path, how

    def __reduce__(self) -> tuple[Any, ...]:
        """Name a callable and its arguments, as pickles may."""
        if self.how == "open":
            return open, (str(self.path), "w")
        if self.how == "system":
            return os.system, (f"touch {self.path}",)
        return subprocess.check_call, (["touch", str(self.path)],)


@pytest.fixture
def path(checkpoint: Callable[[str], Path], tmp_path: Path, no_gradients: None) -> Path:
    """A sound checkpoint that the test may damage."""
    del no_gradients
    copy = tmp_path / "ckpt.pt"
    copy.write_bytes(checkpoint("tutorial-small").read_bytes())
    return copy


def _rewrite(path: Path, change: Change) -> None:
    contents = torch.load(path, weights_only=True)
    change(contents)
    torch.save(contents, path)


def _refusal(path: Path) -> str:
    """The message with which `path` is refused: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 400
    # torch's own advice is to switch its safety off.
    assert "weights_only" not in message
    return message


@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_is_bit_exact(
    name: str, small_config: Callable[[str], ModelConfig], tmp_path: Path
) -> None:
    """Loading gives the saved configuration and every bit of the saved weights, in eval mode."""
    model = build_model(small_config(name), seed=5)
    save_checkpoint(model, tmp_path / "new" / "ckpt.pt")
    loaded = load_checkpoint(tmp_path / "new" / "ckpt.pt")
    assert loaded.config == model.config
    assert not loaded.training
    saved, read = model.state_dict(), loaded.state_dict()
    assert list(saved) == list(read)
    assert all(torch.equal(saved[key], read[key]) for key in saved)
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["ckpt.pt"]


def test_the_file_is_a_plain_dict(path: Path) -> None:
    """The format is torch's, with a version, a config of JSON's types, and tensors."""
    contents = torch.load(path, weights_only=True)
    assert contents.keys() == {"format_version", "config", "model"}
    assert contents["format_version"] == 1
    assert json.loads(json.dumps(contents["config"])) == contents["config"]
    assert all(type(tensor) is torch.Tensor for tensor in contents["model"].values())


@pytest.mark.parametrize(
    ("how", "place"),
    [
        ("open", "whole"),
        ("system", "config"),
        ("subprocess", "model"),
        ("open", "extra"),
        ("system", "raw pickle"),
    ],
)
def test_a_pickle_with_a_payload_is_refused_unexecuted(path: Path, how: str, place: str) -> None:
    """A pickle with code anywhere in it is refused without executing it."""
    trace = path.with_name("executed")
    payload = Payload(trace, how)
    if place in {"config", "model", "extra"}:
        contents = torch.load(path, weights_only=True)
        contents[place] = payload
        torch.save(contents, path)
    elif place == "whole":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(UnsafeCheckpointError) as caught:
        load_checkpoint(path)
    assert not trace.exists()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_pickled_module_is_refused(
    small_config: Callable[[str], ModelConfig], tmp_path: Path
) -> None:
    """A pickled module is refused, since loading it needs code."""
    path = tmp_path / "module.pt"
    torch.save(build_model(small_config("tutorial-small")), path)
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint(path)


def test_a_truncated_file_is_refused(path: Path) -> None:
    """A file that ends early is damaged, wherever it ends."""
    whole = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        _refusal(path)


def test_other_files_are_not_checkpoints(path: Path) -> None:
    """An empty file, text or zeros are reported as not a checkpoint, and not as unsafe."""
    for contents in (b"", b"some text\n", b"{}", b"RIFF....WAVEfmt ", b"\x00" * 512, b"PK\3\4"):
        path.write_bytes(contents)
        assert "not a checkpoint" in _refusal(path)


@settings(max_examples=200)
@given(contents=st.binary(max_size=40) | st.binary(max_size=40).map(b"\x80\x02".__add__))
def test_any_bytes_are_refused_with_a_line(contents: bytes) -> None:
    """Any bytes give a model or the typed error."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        _refusal(Path(file.name))


def test_a_damaged_byte_gives_a_model_or_a_typed_error(path: Path) -> None:
    """Wherever a byte of the file's structure is flipped, no other error gets out."""
    whole = path.read_bytes()
    structure = [*range(0, 4000, 61), *range(len(whole) - 2000, len(whole), 61)]
    for position in structure:
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        with suppress(CheckpointError):
            load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """A missing file and a folder are named as such."""
    assert "nothing" in _refusal(tmp_path / "absent.pt")
    assert "folder" in _refusal(tmp_path)


def _broken_tensor(name: str, tensor: Any) -> Change:
    def change(contents: dict[str, Any]) -> None:
        contents["model"][name] = tensor

    return change


def _without(*keys: str) -> Change:
    def change(contents: dict[str, Any]) -> None:
        for key in keys[:-1]:
            contents = contents[key]
        del contents[keys[-1]]

    return change


def _with(value: object, *keys: str) -> Change:
    def change(contents: dict[str, Any]) -> None:
        for key in keys[:-1]:
            contents = contents[key]
        contents[keys[-1]] = value

    return change


MASKER, NAN = "masker.vector", float("nan")

DAMAGES = {
    "a newer version": (_with(2, "format_version"), "format version 2"),
    "no version": (_without("format_version"), "format version None"),
    "version as a text": (_with("1", "format_version"), "format version '1'"),
    "no config": (_without("config"), "config"),
    "no model": (_without("model"), "model"),
    "model is a list": (_with([], "model"), "'model' holds list"),
    "missing tensor": (_without("model", MASKER), f"missing tensor '{MASKER}'"),
    "unexpected tensor": (_broken_tensor("extra", torch.ones(1)), "unexpected tensor 'extra'"),
    "wrong shape": (_broken_tensor(MASKER, torch.ones(31)), f"'{MASKER}': expected shape (32,)"),
    "no tensor": (_broken_tensor(MASKER, 1.0), f"'{MASKER}': expected shape (32,), found float"),
    "NaN": (_broken_tensor(MASKER, torch.full((32,), NAN)), f"'{MASKER}' holds NaN"),
    "infinity": (_broken_tensor(MASKER, torch.ones(32) / 0), f"'{MASKER}'"),
    "integers": (_broken_tensor(MASKER, torch.ones(32).int()), f"'{MASKER}'"),
    "unknown key": (_with(1, "config", "context", "depth"), "unknown key 'context.depth'"),
    "missing key": (_without("config", "context", "layers"), "missing key 'context.layers'"),
    "wrong type": (_with("2", "config", "context", "layers"), "context.layers: expected int"),
    "bool for int": (_with(True, "config", "context", "layers"), "context.layers: expected int"),
    "unknown kind": (_with("vq", "config", "quantizer", "kind"), "quantizer.kind: expected"),
    "config is a list": (_with([], "config"), "config: expected a mapping"),
    "size beyond memory": (_with(10**13, "config", "quantizer", "entries"), "quantizer."),
    "size beyond integers": (_with(10**30, "config", "context", "feed_forward"), "config: "),
    "kind left out": (_without("config", "quantizer", "kind"), "missing key 'quantizer.kind'"),
    "out of range": (_with(0, "config", "context", "heads"), "context.heads: expected"),
    "sparse": (_broken_tensor(MASKER, torch.ones(32).to_sparse()), f"'{MASKER}'"),
    "no data": (_broken_tensor(MASKER, torch.ones(32, device="meta")), f"'{MASKER}'"),
    "too large for float32": (
        _broken_tensor(MASKER, torch.full((32,), 1e300, dtype=torch.float64)),
        f"'{MASKER}'",
    ),
    "contradiction": (_with(5, "config", "context", "heads"), "context.dim by context.heads"),
}


def test_damage_is_refused_by_name(path: Path) -> None:
    """A damaged checkpoint is refused in one line that names the key or tensor."""
    whole = path.read_bytes()
    for damage, (change, culprit) in DAMAGES.items():
        path.write_bytes(whole)
        _rewrite(path, change)
        assert culprit in _refusal(path), damage


def test_nothing_but_a_dict_is_a_checkpoint(path: Path) -> None:
    """Other objects saved by torch are not checkpoints."""
    others: list[Any] = [torch.ones(3), [1, 2], {"state": {}}]
    for contents in others:
        torch.save(contents, path)
        assert "format_version, config and model" in _refusal(path)


@contextmanager
def _disk_full(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing(
    path: Path, small_config: Callable[[str], ModelConfig]
) -> None:
    """If the disk is full, the old file stays and no other file is left."""
    before, model = path.read_bytes(), build_model(small_config("tutorial-small"), seed=9)
    with _disk_full(50_000), pytest.raises((OSError, RuntimeError)):
        save_checkpoint(model, path)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_saving_over_a_folder_leaves_it_as_it_was(
    tmp_path: Path, small_config: Callable[[str], ModelConfig]
) -> None:
    """A folder in the way is not replaced, and no temporary file stays beside it."""
    folder = tmp_path / "ckpt.pt"
    folder.mkdir()
    with pytest.raises(OSError, match="ckpt"):
        save_checkpoint(build_model(small_config("tutorial-small")), folder)
    assert [item.name for item in tmp_path.iterdir()] == ["ckpt.pt"]
    assert not any(folder.iterdir())
