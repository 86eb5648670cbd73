"""Tensors under the names that wrappers, training loops and early releases give them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from w2v_edge.checkpoints import load_source

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]


@pytest.mark.parametrize(
    "wrapper", ["module.", "model.", "_orig_mod.", "model.module.", "model._orig_mod."]
)
def test_wrapped_names(
    wrapper: str, hf_folder: Make, tmp_path: Path, hf: Make, utterance: Make, same_as: Make
) -> None:
    """A prefix that a wrapper's module gives all tensor names is removed, a nested prefix too."""
    folder = shutil.copytree(hf_folder("wav2vec2-ctc"), tmp_path / "wrapped")
    path = folder / "model.safetensors"
    expected = load_source(folder).coverage
    wrapped = {f"{wrapper}{name}": tensor for name, tensor in load_file(path).items()}
    save_file(wrapped, path)
    found = load_source(folder)
    assert found.coverage == expected
    same_as(found.model, hf("wav2vec2-ctc"), utterance(5_000))
    path.unlink()
    for key in ("state_dict", "model_state_dict"):
        torch.save({key: wrapped, "epoch": 3}, folder / "pytorch_model.bin")
        same_as(load_source(folder).model, hf("wav2vec2-ctc"), utterance(5_000))


@pytest.mark.parametrize("name", ["wav2vec2-ctc-large", "sew-d"])
def test_names_of_tensorflow(
    name: str, hf_folder: Make, tmp_path: Path, hf: Make, utterance: Make, same_as: Make
) -> None:
    """Norms may have gamma and beta, as in early releases."""
    folder = shutil.copytree(hf_folder(name), tmp_path / "old")
    path = folder / "model.safetensors"
    renamed = {}
    for key, tensor in load_file(path).items():
        norm, _, part = key.rpartition(".")
        normed = norm.lower().endswith(("layer_norm", "layernorm"))
        renamed[f"{norm}.{ {'weight': 'gamma', 'bias': 'beta'}[part] }" if normed else key] = tensor
    assert any(key.endswith(".gamma") for key in renamed)
    save_file(renamed, path)
    same_as(load_source(folder).model, hf(name), utterance(5_000))
