"""Models with an adapter and a vocabulary for each language, as MMS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC

from w2v_edge.checkpoints import load_source

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "|"]
FRENCH = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyzéèêëàâçîïôûùüœ"]
ENGLISH = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz'01234"]


@pytest.fixture
def folder(fresh: Make, tmp_path: Path) -> Path:
    """A model with the English adapter in place, and the French one beside."""
    folder = tmp_path / "mms"
    english, french = fresh("mms"), fresh("mms", seed=5, vocab_size=len(FRENCH))
    english.save_pretrained(folder)
    for language, model in (("eng", english), ("fra", french)):
        weights = {name: x.detach().clone() for name, x in model._get_adapters().items()}
        save_file(weights, folder / f"adapter.{language}.safetensors")
    vocabulary = {"eng": ENGLISH, "fra": FRENCH}
    nested = {key: {x: i for i, x in enumerate(tokens)} for key, tokens in vocabulary.items()}
    (folder / "vocab.json").write_text(json.dumps(nested), encoding="utf-8")
    return folder


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_a_language(
    ending: str, folder: Path, ours: Make, theirs: Make, equal: Make, utterance: Make
) -> None:
    """Logits and labels are those of transformers once it has loaded the adapter."""
    peer: Any = Wav2Vec2ForCTC.from_pretrained(folder)
    before = theirs(peer, utterance(9_000))["logits"]
    peer.load_adapter("fra")
    if ending == "bin":
        path = folder / "adapter.fra.safetensors"
        torch.save(load_file(path), folder / "adapter.fra.bin")
        path.unlink()
    found = load_source(folder, "fra")
    expected = theirs(peer, utterance(9_000))
    assert expected["logits"].shape[1] == len(FRENCH) != before.shape[1]
    for name, values in ours(found.model, utterance(9_000)).items():
        equal(values[0], expected[name])
    head = found.model.config.head
    assert head is not None
    assert head.kind == "ctc"
    assert (head.labels, head.language, head.word_delimiter) == (tuple(FRENCH), "fra", "|")
    english = load_source(folder, "eng")
    equal(ours(english.model, utterance(9_000))["logits"][0], before)
    assert english.sha256 != found.sha256


def test_the_language_of_the_tokenizer(
    folder: Path, ours: Make, theirs: Make, equal: Make, utterance: Make, refuses: Make
) -> None:
    """The default language is the tokenizer's, if the weights have its adapter."""
    refuses(folder, "no language", "2 in vocab.json (eng, fra)", "--language")
    (folder / "tokenizer_config.json").write_text(json.dumps({"target_lang": "eng"}))
    found = load_source(folder)
    peer: Any = Wav2Vec2ForCTC.from_pretrained(folder)
    equal(
        ours(found.model, utterance(9_000))["logits"][0], theirs(peer, utterance(9_000))["logits"]
    )
    head = found.model.config.head
    assert head is not None
    assert head.kind == "ctc"
    assert (head.labels, head.language) == (tuple(ENGLISH), "eng")


@pytest.mark.parametrize("language", ["deu", "", "../mms/adapter.fra", "*"])
def test_languages_that_are_not_there(language: str, folder: Path, refuses: Make) -> None:
    """A missing language is an error of one line that lists the available ones."""
    refuses(folder, "no adapter for language", "expected one of: eng, fra", language=language)


def test_an_adapter_that_does_not_fit(folder: Path, refuses: Make, fresh: Make) -> None:
    """An adapter with missing, extra or misshaped tensors is refused with the tensor's name."""
    path = folder / "adapter.fra.safetensors"
    weights = load_file(path)
    gone = "wav2vec2.encoder.layers.1.adapter_layer.norm.bias"
    save_file({key: x for key, x in weights.items() if key != gone}, path)
    refuses(folder, path.name, f"missing tensor '{gone}'", language="fra")
    save_file({**weights, "more": torch.zeros(1)}, path)
    refuses(folder, path.name, "unexpected tensor 'more'", language="fra")
    save_file({**weights, gone: torch.zeros(7)}, path)
    refuses(folder, gone, "found (7,)", language="fra")
    save_file({**weights, "lm_head.weight": weights["lm_head.weight"][:-1].clone()}, path)
    refuses(folder, "tensor 'lm_head.bias'", language="fra")
    path.write_bytes(path.read_bytes()[:-10])
    refuses(folder, path.name, "truncated", language="fra")
    other = fresh("wav2vec2-ctc")
    other.save_pretrained(folder)
    refuses(folder, "not this model's adapter", language="eng")


def test_the_command_line(folder: Path, command: Make) -> None:
    """A missing language is exit code 1 and one line."""
    code, _, err = command("export", folder, "--language", "deu", "-o", folder.parent / "out")
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert "expected one of: eng, fra" in err
    assert not (folder.parent / "out").exists()


def test_a_vocabulary_of_languages_without_adapters(folder: Path, refuses: Make) -> None:
    """Without adapter files the weights are those of the tokenizer's language, and it is said."""
    for path in folder.glob("adapter.*"):
        path.unlink()
    refuses(folder, "no language", "--language")
    # Its layers are an adapter, of a language that nothing states.
    refuses(folder, "this model has no adapters", language="eng")
    (folder / "tokenizer_config.json").write_text(json.dumps({"target_lang": "eng"}))
    for language in (None, "eng"):
        found = load_source(folder, language)
        head: Any = found.model.config.head
        assert (head.labels, head.language) == (tuple(ENGLISH), "eng")
    assert "no adapter: the weights are taken as those of 'eng'" in found.remarks
    for language in ("fra", "deu"):
        refuses(folder, "no adapter", "expected one of: eng", language=language)


def test_a_vocabulary_of_languages_without_adapter_layers(folder: Path, fresh: Make) -> None:
    """Weights that no adapter would replace are those of the language that is named."""
    for path in folder.glob("adapter.*"):
        path.unlink()
    fresh("wav2vec2-ctc", vocab_size=len(FRENCH)).save_pretrained(folder)
    found = load_source(folder, "fra")
    assert "no adapter: the weights are taken as those of 'fra'" in found.remarks
    head: Any = found.model.config.head
    assert (head.labels, head.language) == (tuple(FRENCH), "fra")
