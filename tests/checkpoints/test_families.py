"""Converted checkpoints give the outputs of transformers with the same weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
)

from w2v_edge.checkpoints import load_source, write_folder
from w2v_edge.checkpoints.huggingface.names import key_table
from w2v_edge.checkpoints.huggingface.settings import model_config
from w2v_edge.checkpoints.key_table import convert
from w2v_edge.errors import CheckpointError
from w2v_edge.model import SpeechModel, preset
from w2v_edge.model.checkpoint import assemble_empty
from w2v_edge.model.config import TransformerContextConfig
from w2v_edge.model.speech_model import Wav2Vec2Model
from w2v_edge_export.selection import Selection, select

pytestmark = pytest.mark.usefixtures("no_gradients")

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]
PRETRAINED = ["wav2vec2-pretraining", "wav2vec2-pretraining-large"]
FORMS = ["wav2vec2-ctc", "hubert-batch-norm", "wavlm-ctc", "data2vec"]
"""Models whose tensors differ in name and place."""


def test_outputs_equal_transformers(
    family: str,
    hf: Make,
    hf_folder: Make,
    theirs: Make,
    ours: Make,
    equal: Make,
    same_as: Make,
    utterance: Make,
) -> None:
    """Outputs are batch-invariant and those of transformers, from one frame on; padding gives 0."""
    model, peer = _load(hf_folder(family)), hf(family)
    shortest = model.config.geometry.min_samples
    for samples in (shortest + 1, shortest + 320):
        same_as(model, peer, utterance(samples))
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, shortest, 3_999))]
    batch = ours(model, *waveforms, extra=1_234)
    for i, waveform in enumerate(waveforms):
        for name, expected in theirs(peer, waveform).items():
            found = batch[name][i]
            if found.ndim == 2:
                assert not found[len(expected) :].any()
                found = found[: len(expected)]
            equal(found, expected)


CONFORMERS = ["conformer", "conformer-rotary", "conformer-plain"]
BERTS = ["bert", "bert-relative", "bert-rotary", "bert-plain", "bert-adapter"]


@pytest.mark.parametrize("name", [*CONFORMERS, *BERTS])
@pytest.mark.parametrize("seconds", [1, 10])
def test_positions(
    name: str, seconds: int, hf: Make, hf_folder: Make, same_as: Make, utterance: Make
) -> None:
    """Beyond the distances that share a vector, and where angles are large, positions agree."""
    same_as(_load(hf_folder(name)), hf(name), utterance(16_000 * seconds))


@pytest.mark.parametrize("name", ["bert", "conformer-rotary"])
def test_hidden_states(
    name: str, hf: Make, hf_folder: Make, prepared: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """Each block's output is the hidden state of its number in transformers."""
    peer, waveform = hf(name), utterance(9_000)
    states = peer(prepared(peer, waveform), output_hidden_states=True).hidden_states
    model = select(_load(hf_folder(name)), Selection(layers="all"))
    found = ours(model, waveform, waveform[:3_000])
    assert len(states) == 4
    for i, state in enumerate(states):
        equal(found[f"layer_{i}"][0], state[0])
    cut = select(_load(hf_folder(name)), Selection(layer=2))
    equal(ours(cut, waveform)["context"], states[2])


@pytest.mark.parametrize("name", [*PRETRAINED, "unispeech-pretraining"])
@pytest.mark.parametrize("samples", [400, 16_001])
def test_codes_and_projections(
    name: str, samples: int, hf: Make, hf_folder: Make, equal: Make, utterance: Make
) -> None:
    """The quantizer chooses transformers' entries, and both projections give its vectors."""
    peer, model = hf(name), _pretraining(hf_folder(name))
    waveform = torch.from_numpy(utterance(samples))[None]
    features = model.features(waveform, torch.tensor([samples]))
    quantized = model.quantizer(features)
    extracted = peer.base_model(waveform).extract_features
    vectors, perplexity = peer.quantizer(extracted)
    logits = peer.quantizer.weight_proj(extracted).unflatten(-1, (2, 40))
    best = logits.topk(2, dim=-1).values
    clear = best[..., 0] - best[..., 1] > 1e-4 * logits.std()
    assert clear.float().mean() > 0.99
    assert torch.equal(quantized.codes[clear], logits.argmax(dim=-1)[clear])
    if samples > 10_000:
        assert len(quantized.codes[0].unique(dim=0)) > 2
    equal(model.quantizer.logits(features.values), logits)
    if clear.all():
        equal(quantized.vectors, vectors)
        torch.testing.assert_close(quantized.code_perplexity.sum(), perplexity)
    if model.config.objective is None:
        return
    objective = peer(waveform)
    equal(model.prediction_projection(model.context(features)), objective.projected_states)
    equal(model.target_projection(vectors), objective.projected_quantized_states)


@pytest.mark.parametrize("name", PRETRAINED)
def test_predictions_and_targets_of_pretraining(
    name: str, hf: Make, hf_folder: Make, equal: Make, utterance: Make
) -> None:
    """Given where the spans are, masked context and unmasked targets are transformers'."""
    model = _pretraining(hf_folder(name))
    seen: dict[nn.Module, Tensor] = {}
    parts = model.prediction_projection, model.target_projection
    for part in parts:
        part.register_forward_hook(lambda part, _, output: seen.update({part: output}))
    waveform = torch.from_numpy(np.stack([utterance(16_000), utterance(16_000, 60_000)]))
    torch.manual_seed(2)
    indices = model(waveform, torch.tensor([16_000, 16_000])).mask_indices
    mask = torch.zeros(2, model.config.geometry.frames(16_000), dtype=torch.bool)
    mask[indices.unbind(dim=1)] = True
    assert 0 < mask.float().mean() < 1
    expected = hf(name)(waveform, mask_time_indices=mask)
    equal(seen[parts[0]], expected.projected_states)
    equal(seen[parts[1]], expected.projected_quantized_states)


@pytest.mark.parametrize("size", ["base", "large"])
def test_published_sizes(size: str) -> None:
    """At full size each tensor of transformers' has its counterpart, and the config is ours."""
    expected = preset(size)
    context, quantizer, objective = expected.context, expected.quantizer, expected.objective
    assert quantizer is not None
    assert objective is not None
    assert isinstance(context, TransformerContextConfig)
    config = Wav2Vec2Config(
        hidden_size=context.dim,
        num_hidden_layers=context.layers,
        num_attention_heads=context.heads,
        intermediate_size=context.feed_forward,
        hidden_dropout=context.dropout,
        layerdrop=context.layer_drop,
        codevector_dim=quantizer.vector_dim,
        proj_codevector_dim=objective.projection_dim,
        do_stable_layer_norm=size == "large",
        feat_extract_norm="layer" if size == "large" else "group",
        conv_bias=size == "large",
        architectures=["Wav2Vec2ForPreTraining"],
    )
    with torch.device("meta"):
        peer: Any = Wav2Vec2ForPreTraining(config)
    # One of them has memory all the same, and nothing in it.
    tensors = {name: x.to("meta") for name, x in peer.state_dict().items()}
    shapes = {name: tuple(x.shape) for name, x in tensors.items()}
    found = model_config(size, {"config.json": config.to_dict()}, shapes)
    assert (found.feature_encoder, found.context) == (expected.feature_encoder, context)
    empty = assemble_empty(size, expected).state_dict()
    converted, coverage = convert(size, key_table(found, empty, "wav2vec2."), empty, tensors, {})
    assert {key: x.shape for key, x in converted.items()} == {k: x.shape for k, x in empty.items()}
    assert coverage.used + len(coverage.training) == len(tensors)


def test_published_size_of_bert() -> None:
    """At the size of facebook/w2v-bert-2.0, each tensor has its counterpart."""
    config = Wav2Vec2BertConfig(architectures=["Wav2Vec2BertModel"])
    with torch.device("meta"):
        peer: Any = Wav2Vec2BertModel(config)
    tensors = {name: x.to("meta") for name, x in peer.state_dict().items()}
    found = model_config("bert", {"config.json": config.to_dict()}, {"masked_spec_embed": (1024,)})
    empty = assemble_empty("bert", found).state_dict()
    converted, coverage = convert("bert", key_table(found, empty, ""), empty, tensors, {})
    assert sum(x.numel() for x in converted.values()) == 580_493_120
    assert coverage.training == ("masked_spec_embed",)


@pytest.mark.parametrize("name", FORMS)
def test_old_names_of_normed_weights(
    name: str, hf_folder: Make, tmp_path: Path, hf: Make, utterance: Make, same_as: Make
) -> None:
    """Weight norm's parts may be called weight_g and weight_v, as until torch 2."""
    folder = shutil.copytree(hf_folder(name), tmp_path / "old")
    path = folder / "model.safetensors"
    old = {"parametrizations.weight.original0": "weight_g"}
    old["parametrizations.weight.original1"] = "weight_v"
    tensors = load_file(path)
    renamed = {}
    for key, tensor in tensors.items():
        for new, ancient in old.items():
            key = key.replace(new, ancient)  # noqa: PLW2901 - either or none is in it
        renamed[key] = tensor
    assert (renamed.keys() == tensors.keys()) == (name in {"hubert-batch-norm", "data2vec"})
    save_file(renamed, path)
    same_as(_load(folder), hf(name), utterance(5_000))


@pytest.mark.parametrize("name", ["wav2vec2-ctc", "hubert-batch-norm"])
def test_torch_files(
    name: str, hf_folder: Make, tmp_path: Path, hf: Make, utterance: Make, same_as: Make
) -> None:
    """Weights may lie in pytorch_model.bin, in either of torch's formats."""
    folder = shutil.copytree(hf_folder(name), tmp_path / "bin")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for zipped in (True, False):
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        same_as(_load(folder), hf(name), utterance(5_000))


@pytest.mark.parametrize("name", ["wavlm-ctc"])
def test_shards(name: str, tmp_path: Path, hf: Make, utterance: Make, same_as: Make) -> None:
    """Weights may be shared out among files with an index."""
    hf(name).save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    same_as(_load(tmp_path), hf(name), utterance(5_000))


@pytest.mark.parametrize(
    ("name", "dtype"), [("wav2vec2-ctc", torch.float16), ("data2vec", torch.bfloat16)]
)
def test_half_precision(
    name: str, dtype: torch.dtype, fresh: Make, tmp_path: Path, utterance: Make, same_as: Make
) -> None:
    """16-bit weights give the outputs of transformers in float32."""
    peer = fresh(name)
    peer.to(dtype).save_pretrained(tmp_path)
    same_as(_load(tmp_path), peer.float(), utterance(5_000))


@pytest.mark.parametrize(
    ("name", "do_normalize"), [*((name, True) for name in FORMS), ("wavlm-ctc", False)]
)
def test_normalised_waveforms(
    name: str,
    do_normalize: bool,
    hf_folder: Make,
    tmp_path: Path,
    hf: Make,
    theirs: Make,
    ours: Make,
    equal: Make,
    utterance: Make,
) -> None:
    """With a normalising preprocessor, quiet and shifted waveforms give transformers' outputs."""
    folder = shutil.copytree(hf_folder(name), tmp_path / "preprocessed")
    extractor: Any = Wav2Vec2FeatureExtractor(  # type: ignore[no-untyped-call]
        do_normalize=do_normalize
    )
    extractor.save_pretrained(folder)
    model = _load(folder)
    assert (model.config.normalise is not None) == do_normalize
    for waveform in (utterance(16_001), 0.001 * utterance(700) + np.float32(0.05)):
        prepared = extractor(waveform, sampling_rate=16_000, return_tensors="np").input_values[0]
        assert np.allclose(prepared, waveform) != do_normalize
        expected = theirs(hf(name), prepared)
        found = ours(model, waveform, waveform[:500], extra=70)
        for key, values in expected.items():
            part = found[key][0]
            equal(part[: len(values)] if part.ndim == 2 else part, values)


@pytest.mark.parametrize("name", ["wav2vec2-classes-mixed", "hubert-classes-mixed", "wavlm-frames"])
def test_mixes_of_layers_of_older_releases(
    name: str,
    hf_folder: Make,
    tmp_path: Path,
    hf: Make,
    ours: Make,
    equal: Make,
    edit: Make,
    utterance: Make,
) -> None:
    """Before version 5, a weighted layer sum includes the final norm on the last layer."""
    folder = shutil.copytree(hf_folder(name), tmp_path / "older")
    edit(folder / "config.json", transformers_version="4.57.1")
    waveform, peer = utterance(9_000), hf(name)
    body = peer.base_model(torch.from_numpy(waveform)[None], output_hidden_states=True)
    states = torch.stack([*body.hidden_states[:-1], body.last_hidden_state])
    mixed = (states * peer.layer_weights.softmax(-1).view(-1, 1, 1, 1)).sum(dim=0)
    if name == "wavlm-frames":
        expected = peer.classifier(mixed)[0]
    else:
        expected = peer.classifier(peer.projector(mixed).mean(dim=1))[0]
    equal(ours(_load(folder), waveform)["logits"][0], expected)
    newer = ours(_load(hf_folder(name)), waveform)["logits"][0]
    assert (newer - expected).abs().max() > 0.01 * expected.std()


def test_the_class_is_known_without_its_name(
    hf_folder: Make, tmp_path: Path, edit: Make, hf: Make, utterance: Make, same_as: Make
) -> None:
    """Where a config names no class, its tensors tell."""
    for name in ("wav2vec2", "wav2vec2-pretraining", "hubert-ctc", "wavlm-classes", "wavlm-frames"):
        folder = shutil.copytree(hf_folder(name), tmp_path / name)
        edit(folder / "config.json", architectures=None)
        same_as(_load(folder), hf(name), utterance(5_000))


def test_weights_of_a_file_beside_its_config(hf_folder: Make) -> None:
    """A weights file is read like its folder, and every tensor is accounted for."""
    folder = hf_folder("wav2vec2-pretraining")
    found, same = load_source(folder), load_source(folder / "model.safetensors")
    assert (found.name, found.sha256) == (same.name, same.sha256)
    assert (found.name, found.format) == ("wav2vec2-pretraining", "huggingface")
    assert found.coverage is not None
    training = {"wav2vec2.masked_spec_embed"}
    training |= {f"project_{x}.{side}" for x in ("q", "hid") for side in ("weight", "bias")}
    assert set(found.coverage.training) == training
    tensors = load_file(folder / "model.safetensors")
    assert found.coverage.used == len(tensors) - len(training)
    assert not found.coverage.ignored
    assert not found.model.training


def _load(folder: Path) -> SpeechModel:
    return load_source(folder).model


def _pretraining(folder: Path) -> Any:
    model = _load(folder)
    assert isinstance(model, Wav2Vec2Model)
    return model


def test_the_body_of_a_pre_training_class(hf: Make, hf_folder: Make) -> None:
    """Where transformers runs no quantizer, the body is read, and all else is listed."""
    name = "unispeech-sat-pretraining"
    coverage = load_source(hf_folder(name)).coverage
    assert coverage is not None
    others = {key for key in hf(name).state_dict() if not key.startswith("unispeech")}
    assert {"quantizer.codevectors", "project_q.bias"} < others == coverage.ignored.keys()


def test_another_objective(hf_folder: Make, tmp_path: Path) -> None:
    """UniSpeech's quantizer is read without its objective, and written as a body alone."""
    source = load_source(hf_folder("unispeech-pretraining"))
    assert source.coverage is not None
    assert {x.partition(".")[0] for x in source.coverage.ignored} == {
        *("project_q", "project_hid", "ctc_proj")
    }
    with pytest.raises(CheckpointError, match="--as body"):
        write_folder(source.model, tmp_path / "back")
    body = load_source(hf_folder("unispeech-pretraining"), kind="body")
    assert body.model.config.quantizer is None


@pytest.mark.parametrize(
    ("changes", "meaning"),
    [
        ({}, "one_of"),
        ({"problem_type": "single_label_classification"}, "one_of"),
        ({"problem_type": "multi_label_classification"}, "any_of"),
        ({"problem_type": "regression"}, "values"),
        ({"id2label": {0: "arousal"}}, "values"),
    ],
)
def test_what_logits_mean(
    changes: dict[str, Any], meaning: str, fresh: Any, tmp_path: Path
) -> None:
    """A classifier states whether one label holds, any may, or logits are plain values."""
    fresh("hubert-classes", **changes).save_pretrained(tmp_path / "m")
    head: Any = load_source(tmp_path / "m").model.config.head
    assert head.meaning == meaning
