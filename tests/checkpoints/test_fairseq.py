"""Checkpoints of fairseq give the outputs of transformers with the same weights."""

from __future__ import annotations

import argparse
import datetime as dt
import enum
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import torch
from torch import Tensor

from w2v_edge.checkpoints import load_source
from w2v_edge.errors import CheckpointError, UnsafeCheckpointError

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

LAYOUT = "file of fairseq"

# From transformers' names to fairseq's.
BLOCK = r"^encoder\.layers\.(\d+)\."
FAIRSEQ = {
    r"^(wav2vec2|hubert|data2vec_audio)\.": "",
    r"conv_layers\.(\d+)\.conv\.": r"conv_layers.\1.0.",
    r"^encoder\.pos_conv_embed\.layers\.(\d+)\.conv": r"encoder.pos_conv.\1.0",
    r"^feature_projection\.layer_norm": "layer_norm",
    r"^feature_projection\.projection": "post_extract_proj",
    r"^masked_spec_embed": "mask_emb",
    r"^encoder\.pos_conv_embed\.conv": "encoder.pos_conv.0",
    rf"{BLOCK}attention": r"encoder.layers.\1.self_attn",
    rf"{BLOCK}layer_norm": r"encoder.layers.\1.self_attn_layer_norm",
    rf"{BLOCK}feed_forward\.intermediate_dense": r"encoder.layers.\1.fc1",
    rf"{BLOCK}feed_forward\.output_dense": r"encoder.layers.\1.fc2",
    r"^quantizer\.codevectors": "quantizer.vars",
    r"^project_hid": "final_proj",
    r"parametrizations\.weight\.original0": "weight_g",
    r"parametrizations\.weight\.original1": "weight_v",
}
MODEL: dict[str, Any] = {
    "extractor_mode": "default",
    "encoder_layers": 3,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 72,
    "encoder_attention_heads": 4,
    "activation_fn": "gelu",
    "conv_feature_layers": "[(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2",
    "conv_bias": False,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "layer_norm_first": False,
    "latent_vars": 40,
    "latent_groups": 2,
    "latent_dim": 24,
    "latent_temp": [2.0, 0.25, 0.999],
    "final_dim": 20,
    "logit_temp": 0.1,
    "mask_prob": 0.65,
    "mask_length": 10,
}
LARGE: dict[str, Any] = {"extractor_mode": "layer_norm", "layer_norm_first": True}
PRETRAINING: dict[str, Any] = {"_name": "audio_pretraining", "sample_rate": 16_000}


def _fairseq(tensors: dict[str, Tensor], *, layer_norm: bool) -> dict[str, Tensor]:
    """Tensors under fairseq's names."""
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, others in FAIRSEQ.items():
            name = re.sub(theirs, others, name)  # noqa: PLW2901 - one name on its way
        norm = r"\1.2.1" if layer_norm else r"\1.2"
        name = re.sub(r"(conv_layers\.\d+)\.layer_norm", norm, name)  # noqa: PLW2901 - likewise
        renamed[name] = tensor
    return renamed


def _fine_tuned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as of a model with a CTC head around the pre-trained one."""
    return {
        name.replace("lm_head", "w2v_encoder.proj")
        if name.startswith("lm_head")
        else f"w2v_encoder.w2v_model.{name}": tensor
        for name, tensor in tensors.items()
    }


def _settings(form: str, model: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """Settings in one of the forms that fairseq has kept them in."""
    if form == "namespace":
        plain = {key: value for key, value in {**task, **model}.items() if key != "_name"}
        return {"args": argparse.Namespace(arch=model["_name"], **plain), "cfg": None}
    config = {"model": model, "task": task, "common": {"seed": 1}}
    return {"args": None, "cfg": config if form == "dict" else omegaconf.OmegaConf.create(config)}


FORMS = ["namespace", "dict", "omegaconf"]


@pytest.mark.parametrize("form", FORMS)
def test_pretrained(
    form: str, hf: Make, same_as: Make, utterance: Make, tmp_path: Path, equal: Make
) -> None:
    """A pre-trained model has its quantizer, its projections and its settings."""
    peer, path = hf("wav2vec2-pretraining"), tmp_path / "checkpoint_best.pt"
    state = _fairseq(peer.state_dict(), layer_norm=False)
    assert "quantizer.vars" in state
    payload = {
        **_settings(form, {"_name": "wav2vec2", **MODEL}, PRETRAINING),
        "model": state,
        "optimizer_history": [{"num_updates": 3}],
        "extra_state": {"epoch": 1},
    }
    torch.save(payload, path)
    found = load_source(path)
    assert (found.format, found.name) == ("fairseq", "checkpoint_best.pt")
    same_as(found.model, peer, utterance(9_000))
    quantizer, objective = found.model.config.quantizer, found.model.config.objective
    assert quantizer is not None
    assert objective is not None
    assert quantizer.kind == "gumbel"
    assert (quantizer.temperature.end, quantizer.temperature.decay) == (0.25, 0.999)
    assert (objective.projection_dim, objective.logit_temperature) == (20, 0.1)
    model: Any = found.model
    features = model.features(torch.from_numpy(utterance(9_000))[None], torch.tensor([9_000]))
    extracted = peer.wav2vec2(torch.from_numpy(utterance(9_000))[None]).extract_features
    vectors, _ = peer.quantizer(extracted)
    equal(model.target_projection(model.quantizer(features).vectors), peer.project_q(vectors))


@pytest.mark.parametrize("form", FORMS)
def test_fine_tuned(
    form: str, hf: Make, utterance: Make, tmp_path: Path, theirs: Make, ours: Make, equal: Make
) -> None:
    """A CTC model is read with its nested pre-training settings and the dictionary beside it."""
    peer = hf("wav2vec2-ctc-large")
    inner = {"_name": "wav2vec2", **MODEL, **LARGE}
    outer: dict[str, Any] = {"_name": "wav2vec_ctc", "dropout": 0.0}
    task = {"_name": "audio_finetuning", "normalize": True, "labels": "ltr"}
    if form == "namespace":
        outer["w2v_args"] = argparse.Namespace(arch="wav2vec2", **inner)
    else:
        outer["w2v_args"] = {"model": inner, "task": {**PRETRAINING, "normalize": True}}
    state = _fine_tuned(_fairseq(peer.state_dict(), layer_norm=True))
    path = tmp_path / "fine_tuned.pt"
    torch.save({**_settings(form, outer, task), "model": state}, path)
    letters = ["|", *(chr(ord("A") + i) for i in range(32))]
    dictionary = tmp_path / "dict.ltr.txt"
    dictionary.write_text("".join(f"{x} {1000 - i}\n" for i, x in enumerate(letters)))
    model = load_source(path).model
    assert model.config.normalise is not None
    assert model.config.normalise.eps == 1e-5
    waveform = 0.001 * utterance(9_000) + 0.01
    exact = torch.from_numpy(waveform).double()
    normed = torch.nn.functional.layer_norm(exact, exact.shape).float().numpy()
    expected, found = theirs(peer, normed), ours(model, waveform)
    for name, values in expected.items():
        equal(found[name][0], values)
    head = model.config.head
    assert head is not None
    assert head.kind == "ctc"
    assert head.labels == ("<s>", "<pad>", "</s>", "<unk>", *letters)
    assert (head.blank, head.word_delimiter) == (0, "|")
    dictionary.write_text("| 1\n")
    with pytest.raises(ValueError, match=r"dictionary of 37 labels, found 5"):
        load_source(path)
    dictionary.unlink()
    head = load_source(path).model.config.head
    assert head is not None
    assert head.labels == ()


def test_hubert(hf: Make, same_as: Make, utterance: Make, tmp_path: Path) -> None:
    """HuBERT's prediction head is left out, with a remark."""
    peer, path = hf("hubert-large"), tmp_path / "hubert.pt"
    state = _fairseq(peer.state_dict(), layer_norm=True)
    state |= {"label_embs_concat": torch.randn(9, 20)}
    state |= {"final_proj.weight": torch.randn(20, 48), "final_proj.bias": torch.randn(20)}
    settings = {"_name": "hubert", **MODEL, **LARGE, "conv_bias": True}
    torch.save({**_settings("dict", settings, PRETRAINING), "model": state}, path)
    found = load_source(path)
    assert found.model.config.architecture == "hubert"
    assert found.coverage is not None
    left_out = {"label_embs_concat", "final_proj.weight", "final_proj.bias"}
    assert set(found.coverage.ignored) == left_out
    same_as(found.model, peer, utterance(9_000))


CALLS: list[str] = []


class _Payload:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return CALLS.append, ("run",)


def test_objects_that_are_not_on_the_list(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """A pickle with any other object is refused without executing it."""
    for value in [_Payload(), dt.date(2020, 1, 1)]:
        for form in FORMS:
            state = _fairseq(hf("wav2vec2-pretraining").state_dict(), layer_norm=False)
            settings = _settings(form, {"_name": "wav2vec2", **MODEL}, PRETRAINING)
            if form == "dict":
                settings["cfg"]["model"]["hook"] = value
            elif form == "namespace":
                settings["args"].hook = value
            else:
                settings["hook"] = value
            path = tmp_path / "evil.pt"
            torch.save({**settings, "model": state}, path)
            with pytest.raises(UnsafeCheckpointError):
                load_source(path)
            refuses(path, "refused without running it")
            assert not CALLS


def test_convolutions_that_are_no_list(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """The convolutions are written as Python, and read without running any."""
    cases: list[str] = [
        "__import__('os').system('true')",
        "[(32, 10, 5)] * 999999999999",
        "[(32, 10, 5)] * 64 * 64 * 64",
        "[(32, 10, 5)] * 9 ** 9 ** 9",
        "[(32, 10, 5)] * True",
        "[(32, 10, 5)] * -1",
        "[(32, 10)]",
        "[(32, 10, '5')]",
        "[(32, 10, 5.0)]",
        "[" * 5_000,
        "(" * 100 + ")" * 100,
        "[x for x in [(32, 10, 5)]]",
        "{}",
        "",
        "\x00",
        "[(32, 0, 5)]",
        "[(-32, 10, 5)]",
    ]
    for text in cases:
        state = _fairseq(hf("wav2vec2-pretraining").state_dict(), layer_norm=False)
        settings = {"_name": "wav2vec2", **MODEL, "conv_feature_layers": text}
        path = tmp_path / "evil.pt"
        torch.save({**_settings("dict", settings, PRETRAINING), "model": state}, path)
        refuses(path, "evil.pt", "layers")


def test_settings_that_contradict_the_weights(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """A setting that contradicts the weights is refused with its name or the tensor's."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"encoder_layers": 4}, "missing tensor 'encoder.layers.3."),
        ({"encoder_layers": 2}, "unexpected tensor 'encoder.layers.2."),
        ({"encoder_layers": "3"}, "encoder_layers: expected int"),
        ({"activation_fn": "relu"}, "activation_fn: expected 'gelu'"),
        ({"encoder_attention_heads": 5}, "context.dim by context.heads"),
        ({"encoder_embed_dim": 40}, "expected shape"),
    ]
    for changes, message in cases:
        state = _fairseq(hf("wav2vec2-pretraining").state_dict(), layer_norm=False)
        settings = {"_name": "wav2vec2", **MODEL, **changes}
        path = tmp_path / "wrong.pt"
        torch.save({**_settings("dict", settings, PRETRAINING), "model": state}, path)
        refuses(path, message)


def test_labels_with_spaces(hf: Make, tmp_path: Path) -> None:
    """Spaces around a label in a dictionary are no part of it, beside the file or inside."""
    state = _fine_tuned(_fairseq(hf("wav2vec2-ctc-large").state_dict(), layer_norm=True))
    inner = {"_name": "wav2vec2", **MODEL, **LARGE}
    settings = _settings("dict", {"_name": "wav2vec_ctc", "w2v_args": {"model": inner}}, {})
    path = tmp_path / "model.pt"
    torch.save({**settings, "model": state}, path)
    letters = ["|", *(chr(ord("A") + i) for i in range(32))]
    (tmp_path / "dict.ltr.txt").write_text("".join(f"{x}  {i}\n" for i, x in enumerate(letters)))
    head = load_source(path).model.config.head
    assert head is not None
    assert head.kind == "ctc"
    assert head.labels[4:] == tuple(letters)
    assert head.word_delimiter == "|"


def test_enums_in_settings(hf: Make, tmp_path: Path, same_as: Make, utterance: Make) -> None:
    """A setting that was pickled as an enum of fairseq is read, and unknown values are refused."""
    module = types.ModuleType("fairseq.dataclass.constants")
    Choices = enum.Enum(  # noqa: N806 - the name that is pickled
        "Choices",
        {"default": "default", "layer_norm": "layer_norm", "other": "other"},
        module=module.__name__,
    )
    vars(module)["Choices"] = Choices
    peer, path = hf("wav2vec2-pretraining-large"), tmp_path / "model.pt"
    state = _fairseq(peer.state_dict(), layer_norm=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fairseq", "fairseq.dataclass"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        model = {"_name": "wav2vec2", **MODEL, **LARGE, "conv_bias": True}
        for mode in (Choices["layer_norm"], Choices["other"]):
            settings = _settings("dict", {**model, "extractor_mode": mode}, PRETRAINING)
            torch.save({**settings, "model": state}, tmp_path / f"{mode.value}.pt")
    path = tmp_path / "layer_norm.pt"
    same_as(load_source(path).model, peer, utterance(5_000))
    with pytest.raises(CheckpointError, match="extractor_mode: expected 'default' or 'layer_norm'"):
        load_source(tmp_path / "other.pt")


def test_files_that_s3prl_converted(
    hf: Make, tmp_path: Path, same_as: Make, utterance: Make
) -> None:
    """They have the settings and the tensors under other keys."""
    peer, path = hf("hubert-large"), tmp_path / "hubert.pt"
    state = _fairseq(peer.state_dict(), layer_norm=True)
    state |= {"final_proj.weight": torch.ones(3, 3), "label_embs_concat": torch.ones(3, 3)}
    payload: dict[str, Any] = {
        "task_cfg": {"normalize": False, "sample_rate": 16_000},
        "model_cfg": {"_name": "hubert", **MODEL, **LARGE, "conv_bias": True},
        "model_weight": state,
    }
    torch.save(payload, path)
    found = load_source(path)
    assert found.format == "fairseq"
    same_as(found.model, peer, utterance(5_000))
    payload["task_cfg"]["normalize"] = True
    torch.save(payload, path)
    assert load_source(path).model.config.normalise is not None


@pytest.mark.parametrize("name", ["wavlm-large", "wavlm-few"])
def test_files_of_wavlm(
    name: str, hf: Make, tmp_path: Path, same_as: Make, utterance: Make
) -> None:
    """WavLM's own files have fairseq's names, and a relative position bias."""
    peer, path = hf(name), tmp_path / "WavLM.pt"
    state = _fairseq(peer.state_dict(), layer_norm=name == "wavlm-large")
    renamed = {
        re.sub("rel_attn_embed", "relative_attention_bias", key)
        .replace("gru_rel_pos_linear", "grep_linear")
        .replace("gru_rel_pos_const", "grep_a"): x
        for key, x in state.items()
    }
    config = peer.config
    settings = {
        **MODEL,
        **(LARGE if name == "wavlm-large" else {}),
        "relative_position_embedding": True,
        "num_buckets": config.num_buckets,
        "max_distance": config.max_bucket_distance,
        "gru_rel_pos": True,
    }
    torch.save({"cfg": settings, "model": renamed}, path)
    found = load_source(path)
    assert found.model.config.architecture == "wavlm"
    same_as(found.model, peer, utterance(5_000))
    torch.save({"cfg": {**settings, "normalize": True}, "model": renamed}, path)
    assert load_source(path).model.config.normalise is not None
    torch.save({"cfg": {**settings, "gru_rel_pos": False}, "model": renamed}, path)
    with pytest.raises(CheckpointError, match="gru_rel_pos"):
        load_source(path)


def test_a_projection_of_the_context(
    hf: Make, tmp_path: Path, ours: Make, theirs: Make, equal: Make, utterance: Make, refuses: Make
) -> None:
    """HuBERT's `final_proj` is read on request, and is named as left out otherwise."""
    peer, path = hf("hubert-large"), tmp_path / "hubert.pt"
    state = _fairseq(peer.state_dict(), layer_norm=True)
    settings = _settings("dict", {"_name": "hubert", **MODEL, **LARGE, "conv_bias": True}, {})
    torch.save({**settings, "model": state}, path)
    refuses(path, "found no projection of the context", projection=True)
    weight, bias = torch.randn(20, 48, generator=torch.Generator().manual_seed(1)), torch.ones(20)
    state |= {"final_proj.weight": weight, "final_proj.bias": bias}
    torch.save({**settings, "model": state}, path)
    left_out = load_source(path).coverage
    assert left_out is not None
    assert set(left_out.ignored) == {"final_proj.weight", "final_proj.bias"}
    waveform = utterance(5_000)
    found = ours(load_source(path, projection=True).model, waveform)
    expected = torch.nn.functional.linear(theirs(peer, waveform)["context"], weight, bias)
    equal(found["projected"][0], expected)


DATA2VEC: dict[str, Any] = {**MODEL, "extractor_mode": "layer_norm", "pos_conv_depth": 3}


def test_data2vec(hf: Make, same_as: Make, utterance: Make, tmp_path: Path) -> None:
    """A stack of positional convolutions shares its width; the teacher's tensors are left out."""
    peer, path = hf("data2vec"), tmp_path / "audio_base_ls.pt"
    state: dict[str, Any] = _fairseq(peer.state_dict(), layer_norm=True)
    state |= {"final_proj.weight": torch.ones(48, 48), "final_proj.bias": torch.ones(48)}
    state["_ema"] = {"layers.0.fc1.weight": torch.ones(2, 2)}
    settings = {"_name": "data2vec_audio", **DATA2VEC, "conv_pos": 23}
    torch.save({**_settings("dict", settings, {"normalize": True}), "model": state}, path)
    found = load_source(path)
    config: Any = found.model.config
    assert (config.architecture, config.normalise.eps) == ("data2vec", 1e-5)
    # A third of 23, rounded down.
    assert (config.context.position_kernel, config.context.position_layers) == (7, 3)
    torch.save({**_settings("dict", settings, {}), "model": state}, path)
    same_as(load_source(path).model, peer, utterance(9_000))


def test_data2vec_with_ctc(hf: Make, same_as: Make, utterance: Make, tmp_path: Path) -> None:
    """A fine-tuned data2vec is read like a wav2vec 2.0, kernels of even width too."""
    peer, path = hf("data2vec-ctc"), tmp_path / "fine_tuned.pt"
    inner = {"_name": "data2vec_audio", **DATA2VEC, "conv_pos": 12, "pos_conv_depth": 2}
    outer = {"_name": "wav2vec_ctc", "w2v_args": {"model": {**inner, "conv_bias": True}}}
    state = _fine_tuned(_fairseq(peer.state_dict(), layer_norm=True))
    torch.save({**_settings("dict", outer, {}), "model": state}, path)
    found = load_source(path)
    assert found.model.config.architecture == "data2vec"
    same_as(found.model, peer, utterance(9_000))


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"_name": "data2vec_multi"}, "a model of data2vec 2.0"),
    ({"_name": "multires_hubert"}, "multi-resolution HuBERT"),
    ({"layer_type": "conformer"}, "layer_type: expected 'transformer'"),
    ({"crop_seq_to_multiple": 4}, "crop_seq_to_multiple: expected 1"),
    ({"pos_conv_depth": 5, "layer_norm_first": True}, "pos_conv_depth: expected 1 unless"),
    ({"pos_conv_depth": 5, "extractor_mode": "default"}, "pos_conv_depth: expected 1 unless"),
]


def test_other_arithmetic(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Models and settings that change the arithmetic are refused by name, whatever the tensors."""
    state = _fairseq(hf("wav2vec2-layer").state_dict(), layer_norm=True)
    for changes, message in OTHERS:
        settings = {"_name": "wav2vec2", **MODEL, "extractor_mode": "layer_norm", **changes}
        path = tmp_path / "model.pt"
        torch.save({**_settings("dict", settings, {}), "model": state}, path)
        refuses(path, message)


def test_files_of_a_distiller(
    hf: Make, tmp_path: Path, same_as: Make, utterance: Make, refuses: Make
) -> None:
    """DistilHuBERT's file of s3prl has fairseq's names, and no norm of the features."""
    peer, path = hf("distilhubert"), tmp_path / "distilhubert.ckpt"
    state = _fairseq(peer.state_dict(), layer_norm=False)
    state |= {"output_layer.0.weight": torch.ones(8, 48), "output_layer.2.bias": torch.ones(1, 1)}
    given = {key: x for key, x in MODEL.items() if key != "conv_feature_layers"}
    given |= {"extractor_conv_feature_layers": MODEL["conv_feature_layers"], "encoder_layers": 2}
    for changes, message in [
        ({}, ""),
        ({"task_emb_type": "add"}, "task_emb_type 'add'"),
        ({"attention_type": "sparse"}, "attention_type 'sparse'"),
    ]:
        config = {"distiller": {**given, **changes}, "task": {"sequence_length": 250_000}}
        optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}}
        args = argparse.Namespace(upstream="distiller")
        payload = {"Config": config, "Distiller": state, "Optimizer": optimizer, "Args": args}
        torch.save({**payload, "Step": 200_000}, path)
        if message:
            refuses(path, path.name, message)
            continue
        found = load_source(path)
        assert found.coverage is not None
        assert set(found.coverage.ignored) == {"output_layer.0.weight", "output_layer.2.bias"}
        same_as(found.model, peer, utterance(9_000))
    torch.save({"Config": {}, "Distiller": state}, path)
    refuses(path, "Config.distiller")


def test_a_dictionary_beside_the_file(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Labels that only lie beside the file are said to; of another number they are refused."""
    state = _fine_tuned(_fairseq(hf("wav2vec2-ctc-large").state_dict(), layer_norm=True))
    inner = {"_name": "wav2vec2", **MODEL, **LARGE}
    settings = _settings("dict", {"_name": "wav2vec_ctc", "w2v_args": {"model": inner}}, {})
    path = tmp_path / "model.pt"
    torch.save({**settings, "model": state}, path)
    letters = ["|", *(chr(ord("A") + i) for i in range(31)), "madeupword0000"]
    dictionary = tmp_path / "dict.ltr.txt"
    dictionary.write_text("".join(f"{x} 1\n" for x in letters))
    found = load_source(path)
    assert found.remarks == (
        "labels are those of dict.ltr.txt beside the file, which has none itself",
    )
    head: Any = found.model.config.head
    assert head.special == ("<s>", "<pad>", "</s>", "<unk>", "madeupword0000")
    dictionary.write_text("| 1\nA 1\n")
    refuses(path, "dictionary of 37 labels, found 6 in dict.ltr.txt", "--no-labels")
    assert load_source(path, labels=False).model.config.head is not None


def test_a_weight_of_the_blank(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Fairseq may add a constant to the blank's logit, which is refused."""
    state = _fine_tuned(_fairseq(hf("wav2vec2-ctc-large").state_dict(), layer_norm=True))
    inner = {"_name": "wav2vec2", **MODEL, **LARGE}
    outer = {"_name": "wav2vec_ctc", "w2v_args": {"model": inner}, "blank_weight": 0.5}
    path = tmp_path / "model.pt"
    torch.save({**_settings("dict", outer, {}), "model": state}, path)
    refuses(path, "blank_weight: expected 0, found 0.5")
