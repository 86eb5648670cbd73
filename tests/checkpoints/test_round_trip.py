"""Conversion from transformers to our checkpoints and back loses and overwrites nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from w2v_edge.checkpoints import load_source
from w2v_edge.checkpoints.huggingface.writer import write_folder
from w2v_edge.cli.group import run
from w2v_edge.errors import CheckpointError, OutputExistsError
from w2v_edge.model import build_model, load_checkpoint, preset, save_checkpoint
from w2v_edge_export.selection import Selection, select

Make = Callable[..., Any]

WEIGHTS = "model.safetensors"

MODELS = (
    *("wav2vec2-stable", "wav2vec2-pretraining-large", "wav2vec2-classes-mixed", "wav2vec2-frames"),
    *("wav2vec2-adapter-ctc", "mms", "hubert-batch-norm", "hubert-classes-mixed", "wavlm-ctc"),
    *("wavlm-frames", "data2vec-ctc", "data2vec-classes", "unispeech-ctc", "unispeech-sat-frames"),
    *("sew-ctc", "sew-d", "sew-d-ctc"),
    *("bert", "bert-relative", "bert-ctc", "bert-frames-mixed"),
)
"""Each family, head and optional module at least once."""

pytestmark = pytest.mark.usefixtures("no_gradients")


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        x.dtype == expected[name].dtype and torch.equal(x, expected[name])
        for name, x in found.items()
    )


@pytest.mark.parametrize("name", MODELS)
def test_import_and_export_restore_every_file(name: str, hf_folder: Make, tmp_path: Path) -> None:
    """Converted to a checkpoint and back, every tensor and every settings file is the same."""
    source = hf_folder(name)
    assert run(["import", str(source), "-o", str(tmp_path / "ckpt.pt")]) == 0
    back = tmp_path / "back"
    assert run(["import", str(tmp_path / "ckpt.pt"), "--to", "huggingface", str(back)]) == 0
    assert _same(load_file(back / WEIGHTS), load_file(source / WEIGHTS))
    for path in back.glob("*.json"):
        assert json.loads(path.read_bytes()) == json.loads((source / path.name).read_bytes())


@pytest.mark.parametrize("name", MODELS)
def test_settings_are_written_without_the_source(name: str, hf: Make, tmp_path: Path) -> None:
    """Settings derived from our configuration give transformers the same model."""
    peer = hf(name)
    peer.save_pretrained(tmp_path / "source")
    model = load_source(tmp_path / "source").model
    model.origin = None
    write_folder(model, tmp_path / "back")
    again, info = type(peer).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values())
    assert _same(again.state_dict(), peer.state_dict())
    assert load_source(tmp_path / "back").model.config == model.config


@pytest.mark.parametrize("name", ["conformer-rotary", "conformer-ctc", "conformer-pretraining"])
def test_conformers_lose_only_what_no_output_depends_on(
    name: str, hf: Make, tmp_path: Path, theirs: Make, equal: Make, utterance: Make
) -> None:
    """Without the positional convolution that transformers builds and never runs, all is equal."""
    peer = hf(name)
    peer.save_pretrained(tmp_path / "source")
    model = load_source(tmp_path / "source").model
    assert run(["import", str(tmp_path / "source"), "-o", str(tmp_path / "ckpt.pt")]) == 0
    for origin in (model.origin, None):
        model.origin = origin
        write_folder(model, tmp_path / "back", force=True)
        again, info = type(peer).from_pretrained(tmp_path / "back", output_loading_info=True)
        missing = info.pop("missing_keys")
        assert all("pos_conv_embed" in x or "inv_freq" in x for x in missing)
        assert not any(info.values())
        assert load_source(tmp_path / "back").model.config == model.config
        waveform = utterance(5_000)
        for key, values in theirs(peer, waveform).items():
            equal(theirs(again.eval(), waveform)[key], values)


def test_a_conformer_of_an_odd_width(fresh: Make, tmp_path: Path) -> None:
    """Settings without the source build the class, whatever divides the width."""
    peer = fresh("conformer", hidden_size=24, num_conv_pos_embedding_groups=4)
    peer.save_pretrained(tmp_path / "source")
    model = load_source(tmp_path / "source").model
    model.origin = None
    write_folder(model, tmp_path / "back")
    type(peer).from_pretrained(tmp_path / "back")
    assert load_source(tmp_path / "back").model.config == model.config


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_types_come_back(dtype: torch.dtype, hf: Make, tmp_path: Path) -> None:
    """Half-precision weights keep their type, whether or not the config names it."""
    hf("hubert").save_pretrained(tmp_path / "source")
    path = tmp_path / "source" / WEIGHTS
    save_file({name: x.to(dtype) for name, x in load_file(path).items()}, path)
    save_checkpoint(load_source(tmp_path / "source").model, tmp_path / "ckpt.pt")
    write_folder(load_checkpoint(tmp_path / "ckpt.pt"), tmp_path / "back")
    assert _same(load_file(tmp_path / "back" / WEIGHTS), load_file(path))


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_presets_become_folders(name: str, tmp_path: Path) -> None:
    """Our presets convert to transformers and back."""
    model = build_model(preset(name), seed=1)
    write_folder(model, tmp_path / "folder")
    found = load_source(tmp_path / "folder").model
    assert _same(found.state_dict(), model.state_dict())
    assert found.config.context == model.config.context


def test_models_without_a_class_are_refused(hf_folder: Make, tmp_path: Path) -> None:
    """A model that transformers has no class for is refused, and nothing is written."""
    whole = load_source(hf_folder("hubert-large")).model
    for model in (select(whole, Selection(layer=1)), build_model(preset("tutorial"), seed=None)):
        with pytest.raises(CheckpointError, match="transformers"):
            write_folder(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_files_are_kept(hf_folder: Make, tmp_path: Path) -> None:
    """Even with --force, a folder with other files is not replaced."""
    source = str(hf_folder("wav2vec2"))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years")
    assert run(["import", source, "--to", "huggingface", str(foreign), "--force"]) == 1
    assert (foreign / "thesis.txt").read_text() == "years"
    assert run(["import", source, "--to", "huggingface", source, "--force"]) == 1
    assert (Path(source) / WEIGHTS).is_file()
    model = load_source(source).model
    write_folder(model, tmp_path / "own")
    with pytest.raises(OutputExistsError):
        write_folder(model, tmp_path / "own")
    write_folder(model, tmp_path / "own", force=True)


def test_a_source_is_not_its_own_output(hf_folder: Make, tmp_path: Path) -> None:
    """A checkpoint never replaces the file it was read from."""
    path = tmp_path / "ckpt.pt"
    assert run(["import", str(hf_folder("hubert")), "-o", str(path)]) == 0
    before = path.read_bytes()
    assert run(["import", str(path), "-o", str(path), "--force"]) == 1
    assert path.read_bytes() == before


def test_an_imported_model_trains(hf_folder: Make, speech: dict[str, Any]) -> None:
    """An imported pre-training checkpoint trains; one without an objective is a named error."""
    waveform = torch.from_numpy(next(iter(speech.values()))[None, :16_000])
    lengths = torch.tensor([16_000])
    with torch.enable_grad():
        model = load_source(hf_folder("wav2vec2-pretraining-large")).model.train()
        output = model(waveform, lengths)
        output.loss.backward()
    assert torch.isfinite(output.loss)
    assert model.state_dict()["feature_projection.weight"].shape == (48, 32)
    other = load_source(hf_folder("hubert")).model
    with pytest.raises(ValueError, match="without a pre-training objective"):
        other(waveform, lengths)
