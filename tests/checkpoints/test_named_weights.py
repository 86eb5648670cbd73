"""A weight file given by its path, and folders whose weights have other names."""

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

Make = Callable[..., Any]
WEIGHTS = "model.safetensors"
BIAS = "lm_head.bias"

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def folder(hf_folder: Make, tmp_path: Path) -> Path:
    """A CTC model's folder, which the test may change."""
    return Path(shutil.copytree(hf_folder("wav2vec2-ctc"), tmp_path / "asr"))


def _bias(found: Any) -> torch.Tensor:
    bias: torch.Tensor = found.model.state_dict()["head.classifier.bias"]
    return bias


def _saved(folder: Path, name: str, value: float) -> Path:
    """Save the folder's weights under another name, with another bias."""
    tensors = load_file(folder / WEIGHTS)
    tensors[BIAS] = torch.full_like(tensors[BIAS], value)
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".ckpt":
        wrapped = {f"model.{key}": tensor for key, tensor in tensors.items()}
        torch.save({"epoch": 3, "state_dict": wrapped}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "epoch 3.safetensors", "best.pt", "last.ckpt", "weights.bin"]
)
def test_the_file_that_is_named(folder: Path, name: str) -> None:
    """The named file is read, also where its folder has another that would come first."""
    path = _saved(folder, name, 5.0)
    found = load_source(path)
    assert found.name == "asr"
    assert (_bias(found) == 5).all()
    whole = load_source(folder)
    assert not (_bias(whole) == 5).any()
    assert found.sha256 != whole.sha256


@pytest.mark.parametrize("family", ["sew", "sew-d", "bert", "hubert"])
def test_a_named_file_of_any_family(family: str, hf: Make, tmp_path: Path) -> None:
    """Weights of a body are told by what all families have."""
    model = hf(family)
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "best.pt")
    found, whole = (load_source(x).model.state_dict() for x in (tmp_path / "best.pt", tmp_path))
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in found)


def test_a_link_into_a_cache(folder: Path, tmp_path: Path) -> None:
    """A link to a file without a name, as in the Hub's cache, is read with what lies beside it."""
    (tmp_path / "blobs").mkdir()
    (folder / WEIGHTS).rename(tmp_path / "blobs" / "0a1b2c")
    (folder / WEIGHTS).symlink_to(Path("..") / "blobs" / "0a1b2c")
    assert load_source(folder / WEIGHTS).name == "asr"


def test_shards(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """An index may be named; one shard of several is refused."""
    hf("wav2vec2-ctc").save_pretrained(tmp_path, max_shard_size="50KB")
    index = tmp_path / f"{WEIGHTS}.index.json"
    torch.testing.assert_close(_bias(load_source(index)), _bias(load_source(tmp_path)))
    refuses(min(tmp_path.glob("*-of-*")), "one of several shards", "folder")


def test_without_settings(folder: Path, tmp_path: Path, refuses: Make) -> None:
    """Tensors alone are refused, with the file that is missing."""
    for name in ("best.pt", "other.safetensors"):
        path = Path(shutil.move(_saved(folder, name, 1.0), tmp_path / name))
        refuses(path, name, "without settings", "config.json beside it")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.fp16.safetensors", "training_args.bin"], ["found model.fp16", "path of the file"]),
        (["tf_model.h5"], ["found tf_model.h5", "PyTorch does not read"]),
        (["optimizer.pt", "rng_state.pth"], ["found neither"]),
    ],
)
def test_weights_of_other_names(
    folder: Path, names: list[str], words: list[str], refuses: Make
) -> None:
    """What a folder has in place of the usual files is named, without files of trainers."""
    for name in names:
        shutil.copy(folder / WEIGHTS, folder / name)
    (folder / WEIGHTS).unlink()
    refuses(folder, *words)


def test_a_folder_of_checkpoints(folder: Path, tmp_path: Path, refuses: Make) -> None:
    """A trainer's output names the folders in it that can be read."""
    for step in (500, 1000):
        shutil.copytree(folder, tmp_path / "run" / f"checkpoint-{step}")
    refuses(tmp_path / "run", "found no config.json", "in checkpoint-1000, checkpoint-500")


def test_two_files_of_a_preprocessor(folder: Path) -> None:
    """What the processor's file says comes first, as in transformers 5; a difference is said."""
    first, second = folder / "processor_config.json", folder / "preprocessor_config.json"
    nested = {"do_normalize": False, "sampling_rate": 8_000}
    for key in ("feature_extractor", "audio_processor"):
        first.write_text(json.dumps({key: nested, "processor_class": "Wav2Vec2Processor"}))
        second.write_text(json.dumps({"do_normalize": True, "sampling_rate": 16_000}))
        found = load_source(folder)
        config = found.model.config
        assert (config.normalise, config.sample_rate) == (None, 8_000)
        (remark,) = [x for x in found.remarks if "differ" in x]
        assert "do_normalize (False, True) and sampling_rate (8000, 16000)" in remark
        second.write_text(json.dumps(nested))
        assert not [x for x in load_source(folder).remarks if "differ" in x]


def test_an_unknown_kind(folder: Path, refuses: Make) -> None:
    """The kinds that there are are listed."""
    refuses(folder, "found kind 'text'", "body, pretraining, ctc", kind="text")
