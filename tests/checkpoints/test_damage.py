"""Untrusted files: any damage is an error of one line, never a crash."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from w2v_edge.checkpoints import load_source
from w2v_edge.cli.export import default_output

Make = Callable[..., Any]

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer_config.json"


@pytest.fixture
def asr(hf_folder: Make, write_processor: Make, tmp_path: Path) -> Path:
    """A folder of a CTC model with its vocabulary, which the test may change."""
    folder = Path(shutil.copytree(hf_folder("wav2vec2-ctc"), tmp_path / "asr"))
    write_processor(folder)
    return folder


@pytest.mark.parametrize(
    ("file", "changes", "word"),
    [
        (TOKENIZER, {"pad_token": ["x"]}, TOKENIZER),
        (TOKENIZER, {"pad_token": {"content": ["x"]}}, TOKENIZER),
        (TOKENIZER, {"word_delimiter_token": ["|"]}, TOKENIZER),
        (TOKENIZER, {"added_tokens_decoder": {"13": {"content": ["a"]}}}, TOKENIZER),
        (TOKENIZER, {"added_tokens_decoder": {"x": {"content": "a"}}}, TOKENIZER),
        ("config.json", {"architectures": ["HubertForCTC"]}, "HubertForCTC"),
        ("config.json", {"transformers_version": 5, "hidden_size": 1e9}, "hidden_size"),
    ],
)
def test_settings_of_the_wrong_kind(
    file: str, changes: dict[str, Any], word: str, asr: Path, edit: Make, refuses: Make
) -> None:
    """A value that no tokenizer or config has is named by its file or key."""
    edit(asr / file, **changes)
    refuses(asr, word)


def test_a_padding_that_is_no_label(asr: Path, edit: Make, refuses: Make) -> None:
    """An index that no output has is not taken as the blank."""
    edit(asr / TOKENIZER, pad_token=None)
    for pad in (-1, -100, 37):
        edit(asr / "config.json", pad_token_id=pad)
        head: Any = load_source(asr).model.config.head
        assert head.labels[head.blank] == "<pad>"
    edit(asr / "config.json", pad_token_id=[0])
    refuses(asr, "pad_token_id")


def test_tokens_beyond_the_models_labels(asr: Path) -> None:
    """Tokens that were added later, and that the model never gives, are left out."""
    (asr / "added_tokens.json").write_text(json.dumps({"<extra>": 37, "<more>": 38}))
    head: Any = load_source(asr).model.config.head
    assert len(head.labels) == head.size == 37


def test_a_phoneme_tokenizer_named_by_the_model(asr: Path, edit: Make) -> None:
    """Phonemes are separate words, whichever file names the phoneme tokenizer."""
    edit(asr / TOKENIZER, tokenizer_class=None, word_delimiter_token=None)
    edit(asr / "config.json", tokenizer_class="Wav2Vec2PhonemeCTCTokenizer")
    head: Any = load_source(asr).model.config.head
    assert head.separator == " "


def test_an_empty_preprocessor_is_one(hf_folder: Make, tmp_path: Path) -> None:
    """An empty preprocessor file has transformers' defaults; a missing one changes no audio."""
    folder = Path(shutil.copytree(hf_folder("hubert"), tmp_path / "m"))
    (remark,) = load_source(folder).remarks
    assert "not normalised" in remark
    (folder / "processor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')
    assert load_source(folder).remarks == (remark,)
    (folder / "preprocessor_config.json").write_text("{}")
    found = load_source(folder)
    assert found.remarks == ()
    assert found.model.config.normalise is not None


def test_an_adapter_with_more_than_an_adapter(
    hf_folder: Make, tmp_path: Path, refuses: Make
) -> None:
    """An adapter's file may not change the rest of the model."""
    folder = Path(shutil.copytree(hf_folder("mms"), tmp_path / "mms"))
    tensors = load_file(folder / WEIGHTS)
    adapter = {x: y for x, y in tensors.items() if ".adapter_layer." in x or "lm_head" in x}
    body = "wav2vec2.encoder.layers.0.attention.q_proj.weight"
    save_file({**adapter, body: tensors[body]}, folder / "adapter.fra.safetensors")
    refuses(folder, f"unexpected tensor '{body}'", language="fra")
    save_file({**adapter, "lm_head.weight": torch.tensor(1.0)}, folder / "adapter.fra.safetensors")
    refuses(folder, "lm_head.weight", language="fra")


def test_pointers_and_pages_are_not_weights(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """An LFS pointer or a web page in place of weights is an error that says so."""
    cases: list[bytes] = [b"version https://git-lfs.github.com/spec/v1\n", b"<html>", b""]
    for content in cases:
        shutil.copy(hf_folder("hubert") / "config.json", tmp_path)
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        refuses(tmp_path, "not a torch file")


def test_a_weight_under_both_its_names(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """A tensor under two names is refused."""
    folder = Path(shutil.copytree(hf_folder("hubert"), tmp_path / "m"))
    tensors = load_file(folder / WEIGHTS)
    new = next(name for name in tensors if name.endswith("original0"))
    old = new.replace("parametrizations.weight.original0", "weight_g")
    save_file({**tensors, old: tensors[new].clone()}, folder / WEIGHTS)
    refuses(folder, "twice")


def test_settings_that_contain_themselves(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """A small file that unfolds without end is given up."""
    laughs: list[Any] = [0]
    for _ in range(40):
        laughs = [laughs, laughs]
    tensors = load_file(hf_folder("wav2vec2") / WEIGHTS)
    path = tmp_path / "laughs.pt"
    torch.save({"args": None, "cfg": {"model": {"x": laughs}}, "model": tensors}, path)
    refuses(path, "settings, not a checkpoint")


def test_fairseq_settings_of_the_wrong_type(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """Settings of the wrong type are refused by name."""
    cases: list[dict[str, Any]] = [
        {"sample_rate": "16k"},
        {"sample_rate": [1]},
        {"normalize": "true"},
        {"normalize": [1]},
    ]
    for settings in cases:
        tensors = load_file(hf_folder("wav2vec2") / WEIGHTS)
        path = tmp_path / "m.pt"
        torch.save({"args": argparse.Namespace(**settings), "model": tensors}, path)
        refuses(path, *settings)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("acme/asr-v1.0", "asr-v1.0-fp32"),
        ("acme/asr@v1.0", "asr-fp32"),
        ("acme/asr@refs/pr/1", "asr-fp32"),
        ("ckpt.v2.pt", "ckpt.v2-fp32"),
    ],
)
def test_where_bundles_go(
    source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default output is the model's name, without owner and revision."""
    monkeypatch.chdir(tmp_path)
    assert default_output(source, "fp32") == Path(name)
