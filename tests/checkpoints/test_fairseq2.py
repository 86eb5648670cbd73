"""Files of fairseq2 give the outputs of transformers with the same weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from w2v_edge.bundle import CtcInfo
from w2v_edge.checkpoints import load_source
from w2v_edge.text.decoding import GreedyDecoder
from w2v_edge.text.spelling import Spelling

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

LAYOUT = "file of fairseq2"

PIECES = [*"<s> <pad> </s> <unk> ▁ ▁the".split(), *"abcdefghijklmnopqrstuvwxyzäöüßé"]

# From transformers' names to fairseq2's.
BLOCK = r"^encoder\.layers\.(\d+)\."
FAIRSEQ2 = {
    r"^wav2vec2\.": "",
    r"^feature_extractor\.conv_layers": "encoder_frontend.feature_extractor.layers",
    r"^feature_projection\.layer_norm": "encoder_frontend.post_extract_layer_norm",
    r"^feature_projection\.projection": "encoder_frontend.model_dim_proj",
    r"^masked_spec_embed": "masker.temporal_mask_embed",
    r"^encoder\.pos_conv_embed\.conv": "encoder_frontend.pos_encoder.conv",
    rf"{BLOCK}attention\.out_proj": r"encoder.layers.\1.self_attn.output_proj",
    rf"{BLOCK}attention": r"encoder.layers.\1.self_attn",
    rf"{BLOCK}layer_norm": r"encoder.layers.\1.self_attn_layer_norm",
    rf"{BLOCK}feed_forward\.intermediate_dense": r"encoder.layers.\1.ffn.inner_proj",
    rf"{BLOCK}feed_forward\.output_dense": r"encoder.layers.\1.ffn.output_proj",
    rf"{BLOCK}final_layer_norm": r"encoder.layers.\1.ffn_layer_norm",
    r"^lm_head": "final_proj",
    r"^quantizer\.codevectors": "quantizer.entries",
    r"^quantizer\.weight_proj": "quantizer.entry_proj",
    r"^project_hid": "final_proj",
    r"^project_q": "final_target_proj",
    r"parametrizations\.weight\.original0": "weight_g",
    r"parametrizations\.weight\.original1": "weight_v",
}


def _fairseq2(peer: Any) -> dict[str, Tensor]:
    """Tensors of a model under fairseq2's names."""
    renamed, large = {}, peer.config.do_stable_layer_norm
    for name, tensor in peer.state_dict().items():
        for theirs, others in FAIRSEQ2.items():
            name = re.sub(theirs, others, name)  # noqa: PLW2901 - one name on its way
        if not large:
            name = re.sub(r"^encoder\.layer_norm", "encoder_frontend.layer_norm", name)  # noqa: PLW2901
            name = name.replace("layers.0.layer_norm", "layers.0.group_norm")  # noqa: PLW2901
        renamed[name] = tensor
    return renamed


def _save(path: Path, tensors: dict[str, Tensor], **given: Any) -> Path:
    """Write a file as fairseq2 does, and what its shapes do not tell."""
    torch.save({"model": tensors}, path)
    settings = {"num_encoder_attn_heads": 4, "normalize_audio": False, **given}
    path.with_suffix(".json").write_text(json.dumps(settings))
    return path


def _text(model: Any, logits: Tensor) -> str:
    head = model.config.head
    info = CtcInfo(head.blank, head.word_delimiter, head.special)
    text: str = GreedyDecoder(Spelling.of(head.labels, info)).decode(logits.numpy(), 0.02).text
    return text


def _says(pieces: Sequence[str]) -> Tensor:
    """Logits of one frame for each piece."""
    index = torch.tensor([PIECES.index(x) for x in pieces])
    return 9 * torch.nn.functional.one_hot(index, len(PIECES)).float()


@pytest.mark.parametrize("name", ["wav2vec2-ctc", "wav2vec2-ctc-large"])
@pytest.mark.parametrize("wrapped", ["model", "module", "bare"])
def test_ctc(
    name: str, wrapped: str, hf: Make, same_as: Make, utterance: Make, tmp_path: Path
) -> None:
    """A CTC model gives transformers' outputs, whatever its tensors are wrapped in."""
    peer = hf(name)
    path = _save(tmp_path / "asr.pt", tensors := _fairseq2(peer))
    if wrapped == "module":
        torch.save({"model": {f"module.{key}": x for key, x in tensors.items()}}, path)
    if wrapped == "bare":
        torch.save(tensors, path)
    found = load_source(path)
    assert found.format == "fairseq2"
    assert len(found.remarks) == 1
    assert "no tokens.txt or SentencePiece model beside the file" in found.remarks[0]
    for samples in (400, 9_001, 16_000):
        same_as(found.model, peer, utterance(samples))


@pytest.mark.parametrize("name", ["wav2vec2-pretraining", "wav2vec2-pretraining-large"])
def test_pretrained(name: str, hf: Make, same_as: Make, utterance: Make, tmp_path: Path) -> None:
    """A pre-trained model has its quantizer, and codes equal transformers'."""
    peer = hf(name)
    tensors = {**_fairseq2(peer), "quantizer.num_updates": torch.tensor(7)}
    found = load_source(_save(tmp_path / "ssl.pt", tensors))
    assert found.coverage is not None
    assert found.coverage.ignored == {"quantizer.num_updates": "a counter of pre-training"}
    same_as(found.model, peer, utterance(9_000))
    model: Any = found.model
    features = model.features(torch.from_numpy(utterance(9_000))[None], torch.tensor([9_000]))
    scores = peer.quantizer.weight_proj(features.values).view(1, -1, 2, 40)
    assert torch.equal(model.quantizer(features).codes, scores.argmax(dim=-1))
    assert found.model.config.objective is not None


def test_published_sizes(fresh: Make, same_as: Make, utterance: Make, tmp_path: Path) -> None:
    """Heads of fairseq2's architectures are known; the waveform is normalised as in theirs."""
    sizes = {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 1}
    peer = fresh("wav2vec2-ctc-large", **sizes, conv_bias=True)
    path = _save(tmp_path / "omniASR-CTC-300M.pt", _fairseq2(peer))
    path.with_suffix(".json").unlink()
    found = load_source(path)
    assert found.model.config.context.heads == 16
    assert found.model.config.normalise is not None
    assert found.model.config.normalise.eps == 1e-5
    assert any('{"normalize_audio": false} into omniASR-CTC-300M.json' in x for x in found.remarks)
    assert any("attention heads: 16, as in fairseq2's" in x for x in found.remarks)
    path.with_suffix(".json").write_text('{"normalize_audio": false}')
    found = load_source(path)
    assert not any("normalize_audio" in x for x in found.remarks)
    same_as(found.model, peer, utterance(5_000))


@pytest.mark.parametrize(("layers", "known"), [(60, True), (128, True), (61, False)])
def test_a_width_with_two_numbers_of_heads(
    layers: int,
    known: bool,
    hf: Make,
    tmp_path: Path,
    refuses: Make,
) -> None:
    """Of models 2048 wide, the number of layers tells the heads, or a file beside has to."""
    tensors = _fairseq2(hf("wav2vec2"))
    tensors["encoder_frontend.model_dim_proj.weight"] = torch.ones(2048, 32)
    tensors["encoder_frontend.pos_encoder.conv.weight_v"] = torch.ones(2048, 128, 2)
    tensors[f"encoder.layers.{layers - 1}.extra"] = torch.ones(1)
    path = tmp_path / "3b.pt"
    torch.save(tensors, path)
    # Tensors are missing in any case: that is only seen once the heads are known.
    refuses(path, "missing tensor" if known else f"{layers} layers 2048 wide")


@pytest.mark.parametrize("numbered", [True, False])
def test_tokens(numbered: bool, hf: Make, tmp_path: Path) -> None:
    """Pieces lie in `tokens.txt`, as sherpa-onnx writes it or one in a line."""
    path = _save(tmp_path / "asr.pt", _fairseq2(hf("wav2vec2-ctc-large")))
    lines = [f"{x} {i}" if numbered else x for i, x in enumerate(PIECES)]
    (tmp_path / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = load_source(path)
    head: Any = found.model.config.head
    assert head.labels == tuple(PIECES)
    assert (head.blank, head.word_delimiter) == (0, None)
    assert head.special == ("<s>", "<pad>", "</s>", "<unk>")
    assert found.remarks == ()
    said = "▁the <s> ▁ c <s> c a <unk> t ▁ ä".split()
    assert _text(found.model, _says(said)) == "the ccat ä"


def test_a_space_as_a_label(hf: Make, tmp_path: Path) -> None:
    """A label that is a space parts words, and leaves its index alone in the line."""
    path = _save(tmp_path / "asr.pt", _fairseq2(hf("wav2vec2-ctc-large")))
    pieces = ["|" if x == "▁the" else " " if x == "▁" else x for x in PIECES]
    for line in ("4", " 4", "  4"):
        lines = [line if x == " " else f"{x} {i}" for i, x in enumerate(pieces)]
        (tmp_path / "tokens.txt").write_text("\n".join(lines), encoding="utf-8")
        model = load_source(path).model
        assert _text(model, _says("a b ▁ c".split())) == "ab c"


def test_tokens_of_another_model(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """A list of another length is refused; `--no-labels` reads none."""
    path = _save(tmp_path / "asr.pt", _fairseq2(hf("wav2vec2-ctc-large")))
    (tmp_path / "tokens.txt").write_text("<s>\na\n")
    refuses(path, "tokens.txt", "expected 37 pieces", "found 2", "--no-labels")
    head: Any = load_source(path, labels=False).model.config.head
    assert (head.labels, head.size) == ((), 37)


REFUSED = {
    "llama_decoder.layers.0.ffn.gate_proj.weight": ("language model", "omniASR-CTC-300M"),
    "encoder.layers.0.conv.pointwise_conv1.weight": ("Conformer", "transformers folder"),
    "encoder_frontend.pos_encoder.layers.0.conv.weight": ("stack of positional", "another"),
    "encoder.layers.0.self_attn.q_norm.weight": ("unexpected tensor 'encoder.layers.0.self_attn",),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_of_another_kind(name: str, hf: Make, tmp_path: Path, refuses: Make) -> None:
    """What is not read is named, with the way out."""
    tensors = {**_fairseq2(hf("wav2vec2-ctc-large")), name: torch.ones(3, 3)}
    refuses(_save(tmp_path / "other.pt", tensors), "other.pt", *REFUSED[name])


def test_filterbanks_and_shards(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """A model of filterbanks, and one part of a model that was sharded, are refused."""
    tensors = _fairseq2(hf("wav2vec2-ctc-large"))
    waveform = "encoder_frontend.feature_extractor."
    fewer = {key: x for key, x in tensors.items() if not key.startswith(waveform)}
    refuses(_save(tmp_path / "mel.pt", fewer), "filterbanks")
    path = _save(tmp_path / "sdp_00.pt", tensors)
    load_source(path)
    torch.save(tensors, tmp_path / "sdp_01.pt")
    refuses(path, "one of 2 shards")


BESIDE: list[tuple[Any, str]] = [
    ({"heads": 4}, "unknown key 'heads'"),
    ({"num_encoder_attn_heads": "4"}, "num_encoder_attn_heads: expected an integer"),
    ({"num_encoder_attn_heads": 5}, "context.dim by context.heads"),
    ({"normalize_audio": 1}, "normalize_audio: expected true or false"),
    ({"feature_extractor_layer_descs": [[32, 10]]}, "feature_extractor_layer_descs"),
    ({"feature_extractor_layer_descs": [[32, 10, 5]]}, "7 convolutions"),
    ([4], "expected a JSON object"),
]


def test_settings_that_mean_nothing(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Settings beside a file are checked."""
    path = _save(tmp_path / "asr.pt", _fairseq2(hf("wav2vec2-ctc-large")))
    for beside, message in BESIDE:
        given = {"num_encoder_attn_heads": 4, **beside} if isinstance(beside, dict) else beside
        path.with_suffix(".json").write_text(json.dumps(given))
        refuses(path, message)
    path.with_suffix(".json").unlink()
    refuses(path, "found 3 layers 48 wide", "num_encoder_attn_heads", "asr.json")


def test_strides_that_are_not_known(
    fresh: Make, same_as: Make, utterance: Make, tmp_path: Path, refuses: Make
) -> None:
    """Strides of unusual kernels are stated beside the file, never guessed."""
    kernels, strides = [10, 3, 3, 3, 3, 2, 3], [5, 2, 2, 2, 2, 2, 1]
    peer = fresh("wav2vec2-ctc-large", conv_kernel=kernels, conv_stride=strides)
    path = _save(tmp_path / "asr.pt", _fairseq2(peer))
    refuses(path, "kernels [10, 3, 3, 3, 3, 2, 3]", "feature_extractor_layer_descs")
    layers = [[32, *x] for x in zip(kernels, strides, strict=True)]
    _save(path, _fairseq2(peer), feature_extractor_layer_descs=layers)
    same_as(load_source(path).model, peer, utterance(9_000))
