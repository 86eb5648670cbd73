"""A LoRA folder is exported as transformers runs the model with its weights merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from w2v_edge.checkpoints import load_source
from w2v_edge.model import save_checkpoint

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

LAYOUT = "LoRA folder and its base"

RANK, ALPHA = 4, 8
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": ALPHA,
    "target_modules": ["q_proj", "v_proj"],
    "modules_to_save": ["lm_head"],
}


@pytest.fixture
def lora(fresh: Make, tmp_path: Path) -> Make:
    """`lora(scale, **config)`: a base folder, a LoRA folder, and the merged model."""

    def make(scale: float = ALPHA / RANK, **config: Any) -> tuple[Path, Path, Any]:
        base, folder = tmp_path / "base", tmp_path / "lora"
        model = fresh("wav2vec2-ctc")
        model.save_pretrained(base)
        generator = torch.Generator().manual_seed(3)
        tensors: dict[str, torch.Tensor] = {}
        for name, module in model.named_modules():
            if name.rpartition(".")[2] not in CONFIG["target_modules"]:
                continue
            down = torch.randn(RANK, 48, generator=generator) / 7
            up = torch.randn(48, RANK, generator=generator) / 7
            tensors[f"base_model.model.{name}.lora_A.weight"] = down
            tensors[f"base_model.model.{name}.lora_B.weight"] = up
            module.weight += scale * up @ down
        model.lm_head.weight += 0.1 * torch.randn(37, 48, generator=generator)
        tensors["base_model.model.lm_head.weight"] = model.lm_head.weight.clone()
        tensors["base_model.model.lm_head.bias"] = model.lm_head.bias.clone()
        folder.mkdir()
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
        return folder, base, model

    return make


@pytest.mark.parametrize(
    ("scale", "config"), [(2.0, {}), (4.0, {"use_rslora": True}), (5.0, {"lora_alpha": 20})]
)
def test_a_lora_is_merged(
    scale: float, config: dict[str, Any], lora: Make, same_as: Make, utterance: Make
) -> None:
    """Low-rank updates are added to the base's weights, and saved modules replace the base's."""
    folder, base, merged = lora(scale, **config)
    found = load_source(folder, base=base)
    assert "a LoRA, merged into base" in found.remarks
    assert found.name == "lora"
    same_as(found.model, merged, utterance(5_000))
    (folder / "config.json").write_text((base / "config.json").read_text())
    same_as(load_source(folder, base=base).model, merged, utterance(5_000))


def test_the_base_that_its_config_names(lora: Make, same_as: Make, utterance: Make) -> None:
    """Without --base it is read from where the config says, beside the LoRA too."""
    folder, base, merged = lora(base_model_name_or_path="../base")
    same_as(load_source(folder).model, merged, utterance(5_000))
    before = load_source(folder).sha256
    shutil.copytree(base, folder / "inside")
    assert load_source(folder, base=folder / "inside").sha256 == before


def test_a_lora_brings_its_vocabulary(lora: Make, write_processor: Make) -> None:
    """The tokenizer beside it is read in place of the base's."""
    folder, base, _ = lora()
    write_processor(folder)
    head = load_source(folder, base=base).model.config.head
    assert head is not None
    assert head.labels[5] == "'"


def test_loras_that_cannot_be_merged(lora: Make, hf_folder: Make, refuses: Make) -> None:
    """Other methods, other bases and missing tensors are refused with the way out."""
    folder, base, _ = lora()
    refuses(folder, "does not say which model", "--base")
    refuses(folder, "which is not there", "--base", base="./nowhere")
    refuses(folder, "is not in the base", base=hf_folder("wavlm"))
    refuses(base, "found no LoRA", base=base)
    path = folder / "adapter_config.json"
    for wrong in ({"peft_type": "IA3"}, {"use_dora": True}):
        path.write_text(json.dumps({**CONFIG, **wrong}))
        refuses(folder, "expected a plain LoRA", "merge_and_unload", base=base)
    path.write_text(json.dumps({**CONFIG, "lora_alpha": "many"}))
    refuses(folder, "lora_alpha", base=base)
    path.write_text(json.dumps(CONFIG))
    (folder / "adapter_model.safetensors").unlink()
    refuses(folder, "adapter_model.safetensors or adapter_model.bin", base=base)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache of the Hub, which cannot be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_a_base_on_the_hub(
    lora: Make, offline: Path, cached: Make, same_as: Make, refuses: Make, utterance: Make
) -> None:
    """The base is read by its name and revision; where it cannot be, --base is the way out."""
    folder, base, merged = lora(base_model_name_or_path="owner/base")
    refuses(folder, "a LoRA, whose base owner/base: cannot be downloaded", "--base")
    cached(offline, "owner/base", base)
    found = load_source(folder)
    assert "a LoRA, merged into owner/base" in found.remarks
    same_as(found.model, merged, utterance(5_000))
    path = folder / "adapter_config.json"
    config = {**CONFIG, "base_model_name_or_path": "owner/base"}
    path.write_text(json.dumps({**config, "revision": "v2"}))
    refuses(folder, "owner/base@v2", "--base")
    references = offline / "models--owner--base/refs"
    shutil.copy(references / "main", references / "v2")
    assert "a LoRA, merged into owner/base@v2" in load_source(folder).remarks


def test_a_lora_on_the_hub(
    lora: Make, offline: Path, cached: Make, same_as: Make, utterance: Make, tmp_path: Path
) -> None:
    """A LoRA is read by its name, and so is its base; the saved model says so too."""
    folder, base, merged = lora(base_model_name_or_path="owner/base")
    cached(offline, "owner/base", base)
    cached(offline, "owner/lora", folder)
    found = load_source("owner/lora")
    assert found.name == "owner/lora"
    assert "a LoRA, merged into owner/base" in found.remarks
    same_as(found.model, merged, utterance(5_000))
    cached(offline, "owner/other", base)
    other = load_source("owner/lora", base="owner/other")
    assert "a LoRA, merged into owner/other" in other.remarks
    save_checkpoint(other.model, tmp_path / "saved.pt")
    assert "a LoRA, merged into owner/other" in load_source(tmp_path / "saved.pt").remarks
