"""What files leave open is said, or refused; nothing is guessed in silence."""

from __future__ import annotations

import json
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


@pytest.fixture
def copied(hf_folder: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`copied(name)`: a copy of a transformers folder, which the test may change."""
    return lambda name: shutil.copytree(hf_folder(name), tmp_path / name, dirs_exist_ok=True)


def test_several_classes(copied: Make, edit: Make, refuses: Make) -> None:
    """Of several classes the one is read whose tensors are there; the first may be another."""
    folder = copied("wav2vec2-ctc")
    for classes in (["Wav2Vec2Model", "Wav2Vec2ForCTC"], ["Wav2Vec2ForCTC"] * 2):
        edit(folder / "config.json", architectures=classes)
        head = load_source(folder).model.config.head
        assert head is not None
        assert head.kind == "ctc"
    edit(folder / "config.json", architectures=["Wav2Vec2ForCTC", "Wav2Vec2Everything"])
    refuses(folder, "class 'Wav2Vec2Everything' is not supported", "--as")
    weights = load_file(folder / "model.safetensors")
    more = {"quantizer.codevectors": torch.ones(1, 80, 12)}
    save_file({**weights, **more}, folder / "model.safetensors")
    edit(folder / "config.json", architectures=["Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining"])
    refuses(folder, "expected one class", "tensors of ctc, pretraining", "--as ctc")
    body = copied("wav2vec2")
    edit(body / "config.json", architectures=["Wav2Vec2ForCTC", "Wav2Vec2Model"])
    assert load_source(body).model.config.head is None
    edit(body / "config.json", architectures=["Wav2Vec2Model", 5])
    refuses(body, "architectures: expected a list of class names")


@pytest.mark.parametrize(
    ("version", "normed"),
    [("v4.30.1", True), ("4", True), (" 4.57.0.dev0", True), ("5.1.0rc1", False), (4.41, True)],
)
def test_odd_versions(version: Any, *, normed: bool, copied: Make, edit: Make) -> None:
    """The major version is read from every form in which it is written."""
    folder = copied("wav2vec2-classes-mixed")
    edit(folder / "config.json", transformers_version=version)
    found = load_source(folder)
    head: Any = found.model.config.head
    assert head.normed_mix is normed
    assert not [x for x in found.remarks if "final norm" in x]


@pytest.mark.parametrize("version", ["", "main", "four", None, "1" * 5_000])
def test_versions_that_are_none(version: Any, copied: Make, edit: Make) -> None:
    """Where no version says how layers are mixed, a remark says what is assumed."""
    folder = copied("wav2vec2-classes-mixed")
    edit(folder / "config.json", transformers_version=version)
    found = load_source(folder)
    assert [x for x in found.remarks if "mixed without the final norm" in x]
    other = copied("wav2vec2-frames-mixed")
    edit(other / "config.json", transformers_version=version)
    assert not [x for x in load_source(other).remarks if "final norm" in x]


@pytest.mark.parametrize("key", ["num_attention_heads", "conv_stride", "layer_norm_eps"])
def test_null_where_no_tensor_tells(key: str, copied: Make, refuses: Make) -> None:
    """A number that no tensor confirms is not guessed in place of null."""
    folder = copied("wav2vec2-ctc")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: None}))
    refuses(folder, f"{key}: expected a value, found None")


@pytest.mark.parametrize("key", ["conv_dim", "conv_kernel", "conv_stride"])
def test_null_in_lists(key: str, copied: Make, edit: Make, refuses: Make) -> None:
    """A list with null in it is no list of numbers."""
    folder = copied("wav2vec2-ctc")
    edit(folder / "config.json", **{key: [5, None, 2, 2, 2, 2, 2]})
    refuses(folder, "expected lists of positive integers")


def test_preprocessors_of_something_else(copied: Make) -> None:
    """An extractor of mel energies, or of two channels, is read for what it says of waveforms."""
    folder = copied("wav2vec2-ctc")
    path = folder / "preprocessor_config.json"
    for settings, word in (
        ({"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80}, "a Whisper"),
        ({"feature_size": 2}, "feature_size 2"),
        ({"feature_size": 1, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}, None),
    ):
        path.write_text(json.dumps({"do_normalize": False, "sampling_rate": 8000.0, **settings}))
        found = load_source(folder)
        assert found.model.config.sample_rate == 8000
        said = [x for x in found.remarks if "read" in x]
        assert len(said) == (word is not None)
        assert not word or word in said[0]
