"""Folders as people have them: what transformers runs is exported, and doubts are said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from w2v_edge.bundle import CtcInfo
from w2v_edge.checkpoints import Source, load_source
from w2v_edge.errors import CheckpointError
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.text.decoding import GreedyDecoder, StreamDecoder
from w2v_edge.text.spelling import Spelling

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

WEIGHTS = "model.safetensors"
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", "'"]
PLAIN = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "unk_token": "[UNK]", "pad_token": "[PAD]"}


@pytest.fixture
def folder_with(hf_folder: Make, edit: Make, tmp_path: Path) -> Make:
    """`folder_with(name, tensors, **config)`: a copied folder, more tensors and other settings."""

    def make(name: str, tensors: Mapping[str, torch.Tensor] | None = None, **config: Any) -> Path:
        folder = shutil.copytree(hf_folder(name), tmp_path / name, dirs_exist_ok=True)
        if tensors:
            save_file({**load_file(folder / WEIGHTS), **tensors}, folder / WEIGHTS)
        edit(folder / "config.json", **config)
        return folder

    return make


@pytest.fixture
def ctc_folder(fresh: Make, tmp_path: Path) -> Make:
    """`ctc_folder(size, files, **config)`: a CTC model of `size` labels with these JSON files."""

    def make(size: int, files: Mapping[str, Any], **config: Any) -> Path:
        model = fresh("wav2vec2-ctc", vocab_size=size, **config)
        model.save_pretrained(tmp_path / "ctc")
        for name, content in files.items():
            (tmp_path / "ctc" / name).write_text(json.dumps(content))
        return tmp_path / "ctc"

    return make


def _head(found: Source) -> CtcHeadConfig:
    head = found.model.config.head
    assert isinstance(head, CtcHeadConfig)
    return head


def _info(head: CtcHeadConfig) -> CtcInfo:
    return CtcInfo(
        head.blank, head.word_delimiter, head.special, None, head.separator, head.lowercase
    )


def _logits(rows: list[int], size: int) -> Any:
    return np.eye(size, dtype=np.float32)[rows] * 20


def _text(found: Source, rows: list[int]) -> str:
    head = _head(found)
    decoder = GreedyDecoder(Spelling.of(head.labels, _info(head)))
    return decoder.decode(_logits(rows, head.size), 0.02).text


# --- tensors that inference does not read


@pytest.mark.parametrize(
    ("name", "more", "config"),
    [
        ("wav2vec2-ctc", {"wav2vec2.mask_time_emb_vector": (48,)}, {}),
        (
            "wav2vec2-ctc-large",
            {"quantizer.codevectors": (1, 80, 12), "project_q.weight": (20, 24)},
            {},
        ),
        (
            "wavlm",
            {"lm_head.weight": (37, 48), "lm_head.bias": (37,)},
            {},
        ),
        ("hubert", {"final_proj.weight": (20, 48), "final_proj.bias": (20,)}, {}),
        (
            "hubert",
            {"final_proj.weight": (20, 48), "final_proj.bias": (20,)},
            {"architectures": ["HubertModelWithFinalProj"]},
        ),
        ("data2vec-classes", {"lm_head.weight": (37, 48)}, {}),
    ],
)
def test_tensors_that_are_not_needed(
    name: str,
    more: dict[str, tuple[int, ...]],
    config: dict[str, Any],
    folder_with: Make,
    hf: Make,
    same_as: Make,
    utterance: Make,
) -> None:
    """Each is named with the reason, and the outputs equal transformers'."""
    folder = folder_with(name, {key: torch.ones(shape) for key, shape in more.items()}, **config)
    found = load_source(folder)
    assert found.coverage is not None
    assert found.coverage.ignored.keys() == more.keys()
    assert all(found.coverage.ignored.values())
    same_as(found.model, hf(name), utterance(5_000))


def test_a_head_of_a_body(
    hf_folder: Make, edit: Make, tmp_path: Path, hf: Make, utterance: Make, ours: Make, equal: Make
) -> None:
    """A CTC model whose config names the body's class is read as the body."""
    folder = shutil.copytree(hf_folder("wav2vec2-ctc"), tmp_path / "body")
    edit(folder / "config.json", architectures=["Wav2Vec2Model"])
    found = load_source(folder)
    assert found.model.config.head is None
    waveform = utterance(5_000)
    expected = hf("wav2vec2-ctc").wav2vec2(torch.from_numpy(waveform)[None]).last_hidden_state
    equal(ours(found.model, waveform)["context"], expected)


@pytest.mark.parametrize("prefix", ["wav2vec2.", "encoder.model."])
def test_an_unknown_class_of_a_known_body(
    prefix: str, folder_with: Make, hf: Make, same_as: Make, utterance: Make, refuses: Make
) -> None:
    """It is refused with the way out, which exports the body and lists the rest."""
    folder = folder_with("wav2vec2", architectures=["Wav2Vec2ForEverything"])
    refuses(folder, "class 'Wav2Vec2ForEverything' is not supported", "--as body")
    body = {f"{prefix}{key}": x for key, x in load_file(folder / WEIGHTS).items()}
    save_file({**body, "classifier.dense.weight": torch.ones(3, 3)}, folder / WEIGHTS)
    found = load_source(folder, kind="body")
    assert found.coverage is not None
    assert found.coverage.ignored == {"classifier.dense.weight": "not of the model read as body"}
    same_as(found.model, hf("wav2vec2"), utterance(5_000))
    save_file({**body, f"{prefix}encoder.layers.7.x": torch.ones(3)}, folder / WEIGHTS)
    refuses(folder, "unexpected tensor", "encoder.layers.7.x", kind="body")


# --- layouts of the positional convolution's weight norm


@pytest.mark.parametrize("name", ["wav2vec2", "hubert-large", "wavlm-ctc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_folded_weight_norm(
    name: str,
    dtype: torch.dtype,
    hf_folder: Make,
    fresh: Make,
    tmp_path: Path,
    same_as: Make,
    utterance: Make,
) -> None:
    """A weight whose norm was folded in gives what it gave before."""
    peer = fresh(name)
    conv = peer.base_model.encoder.pos_conv_embed.conv
    torch.nn.utils.parametrize.remove_parametrizations(conv, "weight")
    folder = shutil.copytree(hf_folder(name), tmp_path / "folded")
    save_file({key: x.to(dtype).contiguous() for key, x in peer.state_dict().items()},
              folder / WEIGHTS)  # fmt: skip
    peer.load_state_dict({key: x.to(dtype).float() for key, x in peer.state_dict().items()})
    same_as(load_source(folder).model, peer, utterance(5_000))


# --- vocabularies


def test_special_tokens_that_only_the_tokenizer_names(ctc_folder: Make) -> None:
    """They have the next rows, as in transformers, and spell nothing, like rows without a label."""
    labels = {x: i for i, x in enumerate([*LETTERS, "|", "[UNK]", "[PAD]"])}
    settings = {**PLAIN, "bos_token": "<s>", "eos_token": "</s>", "word_delimiter_token": "|"}
    folder = ctc_folder(33, {"vocab.json": labels, "tokenizer_config.json": settings})
    found = load_source(folder)
    head = _head(found)
    assert head.labels == (*labels, "<s>", "</s>", "")
    assert head.blank == 29
    assert any("without a label, which spell nothing: 32" in x for x in found.remarks)
    rows = [7, 8, 29, 27, 30, 19, 31, 32, 7]
    assert _text(found, rows) == "hi th"
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (30, 31)
    assert tokenizer.decode([7, 8, 29, 27, 19, 7]) == "hi th"


def test_shared_indices_and_gaps(ctc_folder: Make) -> None:
    """The label of an index is transformers', and a remark names what is shared and what lacks."""
    labels: dict[str, int] = {x: i for i, x in enumerate(LETTERS)}
    labels |= {"|": 28, "[UNK]": 28, "[PAD]": 29, "far": 50}
    folder = ctc_folder(
        32,
        {
            "vocab.json": labels,
            "added_tokens.json": {"<s>": 30, "</s>": 31},
            "tokenizer_config.json": PLAIN,
        },
    )
    found = load_source(folder)
    head = _head(found)
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder)
    assert head.labels[28] == tokenizer.convert_ids_to_tokens(28) == "[UNK]"
    assert head.labels[27] == ""
    assert head.word_delimiter is None
    remarks = "\n".join(found.remarks)
    assert "'|' and '[UNK]' (28)" in remarks
    assert "spell nothing: 27" in remarks
    assert "no output has: 'far'" in remarks
    assert _text(found, [7, 27, 4, 28, 11]) == "hel"


def test_a_vocabulary_that_is_a_list(ctc_folder: Make) -> None:
    """A list names the labels in the order of their indices."""
    labels = ["<pad>", "|", *LETTERS]
    found = load_source(ctc_folder(29, {"vocab.json": labels}))
    assert _head(found).labels == tuple(labels)
    assert (_head(found).blank, _head(found).word_delimiter) == (0, "|")


def test_a_fast_tokenizer_alone(ctc_folder: Make) -> None:
    """Labels are read from tokenizer.json where there is no vocab.json."""
    pieces = ["<pad>", "<unk>", "▁he", "llo", "▁all", "▁"]
    added = [{"id": 0, "content": "<pad>", "special": True}]
    for vocabulary in ({x: i for i, x in enumerate(pieces)}, [[x, -1.5] for x in pieces]):
        content = {"model": {"vocab": vocabulary}, "added_tokens": added}
        found = load_source(ctc_folder(6, {"tokenizer.json": content}))
        assert _head(found).labels == tuple(pieces)
        assert _text(found, [2, 3, 0, 4]) == "hello all"
    wrong_files: list[dict[str, Any]] = [{"model": {}}, {"model": {"vocab": 3}}, {}]
    for wrong in wrong_files:
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected tokens"):
            load_source(ctc_folder(6, {"tokenizer.json": wrong}))


@pytest.mark.parametrize(
    ("labels", "rows", "text"),
    [
        (["<pad>", "<unk>", "▁he", "llo", "▁all"], [2, 3, 0, 4], "hello all"),
        (["<pad>", "<unk>", "▁", "a", "b"], [3, 4, 2, 3], "ab a"),
        (["[PAD]", "[UNK]", "he", "##llo", "all"], [2, 0, 3, 3, 4], "hello all"),
    ],
)
def test_pieces_of_words(labels: list[str], rows: list[int], text: str, ctc_folder: Make) -> None:
    """Marked pieces form words, in whole recordings and in streams."""
    found = load_source(ctc_folder(5, {"vocab.json": {x: i for i, x in enumerate(labels)}}))
    assert _text(found, rows) == text
    head = _head(found)
    stream = StreamDecoder(Spelling.of(head.labels, _info(head)), 0.02)
    words = [word for row in rows for word in stream.push(_logits([row], 5))]
    assert " ".join(word.text for word in [*words, *stream.flush()]) == text


def test_no_labels(ctc_folder: Make) -> None:
    """On request labels are left out, and nothing is said about them."""
    folder = ctc_folder(5, {"vocab.json": {x: i for i, x in enumerate("abcde")}})
    found = load_source(folder, labels=False)
    assert _head(found).labels == ()
    assert not any("label" in remark or "blank" in remark for remark in found.remarks)


def test_labels_of_another_model(ctc_folder: Make) -> None:
    """Labels none of which has an output are refused with the way out."""
    folder = ctc_folder(5, {"vocab.json": {"a": 70, "b": 71}})
    with pytest.raises(CheckpointError, match="--no-labels"):
        load_source(folder)
    assert _head(load_source(folder, labels=False)).labels == ()


# --- the blank

BLANK_CASES: list[tuple[dict[str, Any], dict[str, Any], Any, str, str]] = [
    # vocab.json, tokenizer_config.json, pad_token_id, blank, words of the remark
    ({"<blank>": 0, "<pad>": 1, "a": 2}, {}, 1, "<blank>", "not the padding token '<pad>' (1)"),
    ({"-": 0, "a": 1, "[PAD]": 2}, PLAIN, 0, "[PAD]", "names '-' (0)"),
    ({"a": 0, "b": 1, "[PAD]": 2}, {}, None, "[PAD]", ""),
    ({"-": 0, "a": 1, "b": 2}, {}, 0, "-", ""),
    ({"-": 0, "a": 1, "b": 2}, {}, None, "-", "nothing says which label is the blank"),
    ({"<pad>": 0, "a": 1, "b": 2}, {}, 0, "<pad>", ""),
    ({"<pad>": 0, "a": 1, "b": 2}, {}, -1, "<pad>", ""),
    ({"-": 0, "a": 1, "b": 2}, {}, 3, "-", "nothing says which label is the blank"),
    ({"a": 0, "<pad>": 1, "b": 2}, {"pad_token": {"content": "b"}}, 2, "b", ""),
]


@pytest.mark.parametrize(("labels", "settings", "pad", "blank", "remark"), BLANK_CASES)
def test_which_label_is_the_blank(
    labels: dict[str, int],
    settings: dict[str, Any],
    pad: int | None,
    blank: str,
    remark: str,
    ctc_folder: Make,
    edit: Make,
) -> None:
    """The rule decides, a doubt is said, and the user can decide."""
    files = {"vocab.json": labels, "tokenizer_config.json": settings}
    folder = ctc_folder(3, files)
    edit(folder / "config.json", pad_token_id=pad)
    found = load_source(folder)
    assert _head(found).labels[_head(found).blank] == blank
    doubts = [x for x in found.remarks if "blank" in x]
    assert len(doubts) == bool(remark)
    assert remark in "".join(doubts)
    assert all("--blank" in x for x in doubts)
    for other, index in list(labels.items())[-1:]:
        for given in (other, str(index)):
            chosen = load_source(folder, blank=given)
            assert _head(chosen).blank == index
            assert other in _head(chosen).special
            assert not any("blank" in x for x in chosen.remarks)
            assert Spelling.of(_head(chosen).labels, _info(_head(chosen))).texts[index] == ""
    (folder / "vocab.json").write_text(json.dumps({x: i for x, i in labels.items() if i != 1}))
    for wrong in ("z", "3", ""):
        with pytest.raises(CheckpointError, match="expected a label, or an index below 3"):
            load_source(folder, blank=wrong)


def test_a_blank_that_was_a_letter_is_one_again(ctc_folder: Make) -> None:
    """With another blank the label that the files name is spelled, unless it is `<...>`."""
    folder = ctc_folder(3, {"vocab.json": {"-": 0, "a": 1, "<ctc>": 2}})
    assert _head(load_source(folder, blank="<ctc>")).special == ("<ctc>",)
    assert _text(load_source(folder, blank="<ctc>"), [0, 1, 2, 1]) == "-aa"


# --- settings of the waveform and of other versions


@pytest.mark.parametrize("normalised", [True, False])
def test_normalisation_in_the_tokenizers_file(
    normalised: bool,
    folder_with: Make,
) -> None:
    """An old folder's tokenizer says whether waveforms are normalised, and a remark says so."""
    folder = folder_with("wav2vec2-ctc")
    settings = {"do_normalize": normalised, "return_attention_mask": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    found = load_source(folder)
    assert (found.model.config.normalise is not None) == normalised
    assert any("as tokenizer_config.json says" in x for x in found.remarks)


def test_a_processor_in_a_folder_of_its_own(
    hf_folder: Make, write_processor: Make, tmp_path: Path
) -> None:
    """Preprocessor and tokenizer may lie elsewhere; what lies beside the weights is not read."""
    write_processor(tmp_path)
    source = hf_folder("wav2vec2-ctc")
    found = load_source(source, processor=tmp_path)
    assert found.model.config.normalise is not None
    assert _head(found).labels[5:7] == ("'", "é")
    assert found.sha256 != load_source(source).sha256
    with pytest.raises(CheckpointError, match="found neither"):
        load_source(source, processor=tmp_path / "nowhere")


def test_settings_that_are_null_or_missing(
    folder_with: Make, hf: Make, same_as: Make, utterance: Make
) -> None:
    """They have transformers' defaults, and settings of other versions are not read."""
    folder = folder_with("wav2vec2-classes")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    nulled = {"conv_bias": None, "do_stable_layer_norm": None, "mask_time_prob": None}
    config |= nulled | {"torch_dtype": "float16", "dtype": "bfloat16", "_attn_implementation": "x"}
    for name in ("feat_extract_norm", "layerdrop", "hidden_dropout", "add_adapter"):
        config.pop(name, None)
    path.write_text(json.dumps(config))
    same_as(load_source(folder).model, hf("wav2vec2-classes"), utterance(5_000))


# --- the command line


def test_decisions_are_shown(
    ctc_bundle: Path,
    shared_folder: Path,
    command: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Export and inspect print one line of what was decided; verify reads the checkpoint so too."""
    assert ctc_bundle.is_dir()
    for name, value in (("LONG", 0.5), ("SPEECH", 1.1), ("THOROUGH", (0.5,))):
        monkeypatch.setattr(f"w2v_edge_export.cases.{name}_SECONDS", value)
    folder = shutil.copytree(shared_folder / "checkpoints/ctc", tmp_path / "ctc")
    size = len(json.loads((folder / "vocab.json").read_text()))
    labels = {x: i for i, x in enumerate(["-", "|", *"abcdefghijklmnopqrstuvwxyz"[: size - 7]])}
    (folder / "vocab.json").write_text(json.dumps({**labels, "[PAD]": size - 5}))
    settings = {**PLAIN, "do_normalize": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name in ("preprocessor_config.json", "special_tokens_map.json", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    code, out, err = command("export", folder, "-o", tmp_path / "b", "--blank", "-")
    assert code == 0, err
    line = (
        "blank '-' (0) · words parted by '|' · never spelled: [PAD] <s> </s> [UNK] · "
        "1 without a label · waveform normalised · 16 kHz · padding masked"
    )
    assert line in out
    assert f"outputs without a label, which spell nothing: {size - 1}" in out
    code, out, err = command("inspect", tmp_path / "b")
    assert "never spelled: [PAD]" in " ".join(out.replace("│", " ").split())
    assert f"note: outputs without a label, which spell nothing: {size - 1}" in out
    code, out, err = command("verify", tmp_path / "b", "--checkpoint", folder)
    assert code == 0, (out, err)


def test_what_distillation_leaves_behind(
    fresh: Make, tmp_path: Path, same_as: Make, utterance: Make
) -> None:
    """DistilHuBERT is a HuBERT of two layers; heads that predict its teacher are left out."""
    peer, folder = fresh("distilhubert"), tmp_path / "distilhubert"
    peer.save_pretrained(folder)
    weights = load_file(folder / WEIGHTS)
    more = {"output_layer.0.weight": torch.ones(8, 48), "output_layer.2.bias": torch.ones(1, 1, 3)}
    save_file({**weights, **more}, folder / WEIGHTS)
    found = load_source(folder)
    assert found.coverage is not None
    assert set(found.coverage.ignored) == set(more)
    same_as(found.model, peer, utterance(9_000))
