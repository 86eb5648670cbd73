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

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

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
