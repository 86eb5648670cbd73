"""Unsupported checkpoints are refused in one line with the cause; nothing is executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from w2v_edge.checkpoints import load_source
from w2v_edge.errors import CheckpointError, UnsafeCheckpointError

Make = Callable[..., Any]

WEIGHTS = "model.safetensors"
LAYER = "wav2vec2.encoder.layers"

CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer layers": ({"num_hidden_layers": 2}, f"unexpected tensor '{LAYER}.2."),
    "more layers": ({"num_hidden_layers": 4}, f"missing tensor '{LAYER}.3."),
    "another width": ({"hidden_size": 40}, "by its config, found (48, 32)"),
    "another norm": ({"feat_extract_norm": "layer"}, "conv_layers.1.layer_norm"),
    "an adapter": ({"add_adapter": True}, "missing tensor 'wav2vec2.adapter.layers.0.conv.bias'"),
    "heads": ({"num_attention_heads": 5}, "context.dim by context.heads"),
    "lists": ({"conv_kernel": [10, 3, 3, 3, 3, 2]}, "conv_dim, conv_kernel and conv_stride"),
    "strides": ({"conv_stride": [5, 2, 2, 2, 2, 2, 0]}, "conv_dim, conv_kernel and conv_stride"),
    "activation": ({"hidden_act": "mish"}, "hidden_act: expected one of gelu"),
    "activation of the encoder": (
        {"feat_extract_activation": "relu"},
        "feat_extract_activation: expected 'gelu'",
    ),
    "a text for a number": ({"hidden_size": "48"}, "hidden_size: expected int"),
    "a truth for a number": ({"num_hidden_layers": True}, "num_hidden_layers: expected int"),
    "norm": ({"feat_extract_norm": "batch"}, "feat_extract_norm: expected 'group' or 'layer'"),
    "no type": ({"model_type": None}, "model_type"),
    "a class of no name": ({"architectures": "Wav2Vec2ForCTC"}, "architectures"),
}


@pytest.fixture
def copied(hf_folder: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`copied(name)`: a copy of a transformers folder, which the test may change."""
    return lambda name: shutil.copytree(hf_folder(name), tmp_path / name, dirs_exist_ok=True)


def test_configs_that_contradict_the_weights(copied: Make, edit: Make, refuses: Make) -> None:
    """A setting that contradicts the weights is refused with its name or the first tensor's."""
    for changes, message in CONTRADICTIONS.values():
        folder = copied("wav2vec2-ctc")
        edit(folder / "config.json", **changes)
        refuses(folder, str(folder), message)


@pytest.mark.parametrize("name", ["wavlm-frames", "data2vec-ctc", "bert-ctc"])
def test_any_value_of_any_setting(name: str, copied: Make, edit: Make) -> None:
    """A model with any value in any setting is read or refused in one line."""
    folder = copied(name)
    path = folder / "config.json"
    original = path.read_text(encoding="utf-8")
    refusals = []
    values: list[Any] = ["x", -1, 10**12, float("nan"), [1]]
    for key in json.loads(original):
        for value in values:
            path.write_text(original, encoding="utf-8")
            edit(path, **{key: value})
            try:
                load_source(folder)
            except CheckpointError as error:
                refusals.append((key, value, str(error)))
    assert len(refusals) > 50
    for key, value, message in refusals:
        assert str(folder) in message, (key, value)
        assert "\n" not in message, (key, value)


def test_families_that_are_not_supported(tmp_path: Path, refuses: Make) -> None:
    """Another model family is refused with its type and the supported ones."""
    transformers.SpeechT5Config().save_pretrained(tmp_path)
    refuses(tmp_path, "model_type 'speecht5' is not supported", "wav2vec2, hubert, wavlm, data2vec")


def test_classes_that_are_not_supported(
    tmp_path: Path, hf: Make, refuses: Make, edit: Make
) -> None:
    """An unsupported class is refused, even if its body could be read."""
    config = hf("wavlm").config
    transformers.WavLMModel(config).save_pretrained(tmp_path)
    edit(tmp_path / "config.json", architectures=["WavLMForMusic"])
    refuses(tmp_path, "class 'WavLMForMusic' is not supported", "ForSequenceClassification")


def test_names_of_tensors(copied: Make, refuses: Make) -> None:
    """Missing and unexpected tensors are named and counted."""
    folder = copied("hubert-ctc")
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "hubert.extra": torch.zeros(1)}, folder / WEIGHTS)
    refuses(folder, "unexpected tensor 'hubert.extra'")
    gone = "hubert.encoder.layers.1.attention.k_proj.weight"
    save_file({key: x for key, x in tensors.items() if key != gone}, folder / WEIGHTS)
    refuses(folder, f"missing tensor '{gone}'")
    head = {key: x for key, x in tensors.items() if not key.startswith("lm_head")}
    save_file(head, folder / WEIGHTS)
    refuses(folder, "missing tensor 'lm_head.bias' and 1 more")


def test_values_of_tensors(copied: Make, refuses: Make) -> None:
    """A tensor with unusable values or shape is named, with the reason."""
    cases: list[tuple[torch.Tensor, str]] = [
        (torch.full((48,), torch.nan), "NaN"),
        (torch.zeros(48, dtype=torch.float64) + 1e300, "beyond float32"),
        (torch.zeros(48, dtype=torch.int64), "int64"),
        (torch.zeros(47), "expected shape (48,) by its config, found (47,)"),
        (torch.zeros(48, 1), "found (48, 1)"),
    ]
    for value, message in cases:
        folder = copied("data2vec")
        tensors = load_file(folder / WEIGHTS)
        key = next(key for key in tensors if key.endswith("encoder.layer_norm.weight"))
        save_file({**tensors, key: value}, folder / WEIGHTS)
        refuses(folder, f"tensor '{key}'", message)


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin"])
@given(data=st.data())
def test_truncated_weights(
    name: str, data: st.DataObject, hf_folder: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Weights truncated at any byte are refused."""
    source = hf_folder("wav2vec2")
    folder = tmp_path_factory.mktemp("truncated")
    shutil.copy(source / "config.json", folder)
    if name == WEIGHTS:
        shutil.copy(source / WEIGHTS, folder)
    else:
        torch.save(load_file(source / WEIGHTS), folder / name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=rf"{name}: .*") as caught:
        load_source(folder)
    assert "\n" not in str(caught.value)


def test_shards(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Missing shards, and an index with other paths or unknown names, are refused."""
    hf("wavlm").save_pretrained(tmp_path, max_shard_size="100KB")
    path = tmp_path / f"{WEIGHTS}.index.json"
    original = path.read_text()
    index = json.loads(original)
    shards = sorted(set(index["weight_map"].values()))
    (tmp_path / shards[1]).rename(tmp_path / "aside")
    refuses(tmp_path, shards[1], "not beside it")
    (tmp_path / "aside").rename(tmp_path / shards[1])
    index["weight_map"]["encoder.more"] = shards[0]
    path.write_text(json.dumps(index))
    refuses(tmp_path, "tensor 'encoder.more' is in none of its shards")
    outside = tmp_path.parent / f"{tmp_path.name}.safetensors"
    shutil.copy(tmp_path / shards[0], outside)
    for elsewhere in (f"../{outside.name}", str(outside)):
        path.write_text(original.replace(shards[0], elsewhere))
        refuses(tmp_path, "not beside it")
    path.write_text(json.dumps({"weight_map": [1]}))
    refuses(tmp_path, "weight_map")
    shutil.copy(tmp_path / shards[0], tmp_path / "again.safetensors")
    index = json.loads(original)
    index["weight_map"]["encoder.more"] = "again.safetensors"
    path.write_text(json.dumps(index))
    refuses(tmp_path, "is in another shard too")


class _Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "run")


def test_a_pickle_with_a_payload(copied: Make, refuses: Make, tmp_path: Path) -> None:
    """A pickle that would run code is refused, and the code does not run."""
    folder = copied("wav2vec2")
    tensors: dict[str, Any] = dict(load_file(folder / WEIGHTS))
    (folder / WEIGHTS).unlink()
    tensors["payload"] = _Payload(tmp_path / "run")
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpointError):
        load_source(folder)
    refuses(folder, "pytorch_model.bin", "refused without running it", "safetensors")
    assert not (tmp_path / "run").exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "run").exists()


def test_weights_that_are_no_tensors(copied: Make, refuses: Make) -> None:
    """A weights file with anything but named tensors is refused."""
    folder = copied("wav2vec2")
    (folder / WEIGHTS).unlink()
    for content in ([torch.zeros(1)], {"model": {"a": torch.zeros(1)}}, {1: torch.zeros(1)}, 3):
        torch.save(content, folder / "pytorch_model.bin")
        refuses(folder, "expected tensors by name")


@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "vocab.json", "tokenizer_config.json"]
)
def test_broken_json(file: str, copied: Make, write_processor: Make, refuses: Make) -> None:
    """A JSON file that is damaged, or no object, is named."""
    folder = copied("wav2vec2-ctc")
    write_processor(folder)
    for text in ("{", "[1]", "", '"text"', "\x00", "[" * 100_000):
        (folder / file).write_text(text)
        refuses(folder, file)


@pytest.mark.parametrize(
    "content",
    [{"do_normalize": "yes"}, {"sampling_rate": "16k"}, {"sampling_rate": 0}],
)
def test_preprocessors(content: dict[str, Any], copied: Make, refuses: Make) -> None:
    """Invalid preprocessor settings are refused."""
    folder = copied("wav2vec2")
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    refuses(folder, "preprocessor_config.json")


@pytest.mark.parametrize("index", ["36", 3.0, None, [1], True])
def test_vocabularies_without_indices(
    index: Any, copied: Make, write_processor: Make, refuses: Make
) -> None:
    """A token whose index is no integer is named."""
    folder = copied("hubert-ctc")
    write_processor(folder)
    path = folder / "vocab.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "z": index}))
    refuses(folder, "vocab.json: expected an index for each token", "'z'")


def test_folders_that_are_no_models(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """A folder that lacks files of a model is refused with their names."""
    refuses(tmp_path, "config.json")
    refuses(tmp_path / "nothing.safetensors", "found nothing")
    shutil.copy(hf_folder("wav2vec2") / WEIGHTS, tmp_path)
    refuses(tmp_path, "config.json")
    refuses(tmp_path / WEIGHTS, "config.json")
    (tmp_path / WEIGHTS).unlink()
    shutil.copy(hf_folder("wav2vec2") / "config.json", tmp_path)
    refuses(tmp_path, "expected weights, model.safetensors or pytorch_model.bin")


def test_a_language_of_a_file(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """Only folders have languages."""
    torch.save({}, tmp_path / "model.pt")
    refuses(tmp_path / "model.pt", "found a single file", language="fra")
    refuses(hf_folder("wav2vec2-ctc"), "has no adapters", language="fra")


@pytest.mark.parametrize("case", ["fewer layers", "activation", "lists"])
def test_the_command_line(
    case: str, copied: Make, edit: Make, command: Make, tmp_path: Path
) -> None:
    """Exporting an unsupported checkpoint is exit code 1, one line, and no output."""
    folder = copied("wav2vec2-ctc")
    changes, message = CONTRADICTIONS[case]
    edit(folder / "config.json", **changes)
    code, _, err = command("export", folder)
    assert code == 1
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert [x.name for x in tmp_path.iterdir()] == [folder.name]
