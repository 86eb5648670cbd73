"""State dicts of torchaudio, against transformers' models of the same weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from w2v_edge.checkpoints import load_source

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

LAYOUT = "file of torchaudio"

# From transformers' names to torchaudio's.
TORCHAUDIO = {
    r"^(wav2vec2|wavlm)\.": "",
    r"^feature_projection": "encoder.feature_projection",
    r"^encoder\.(?!feature)": "encoder.transformer.",
    r"^lm_head": "aux",
    r"parametrizations\.weight\.original0": "weight_g",
    r"parametrizations\.weight\.original1": "weight_v",
}


def _torchaudio(tensors: dict[str, Tensor], *, wavlm: bool) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for theirs, others in TORCHAUDIO.items():
            name = re.sub(theirs, others, name)  # noqa: PLW2901 - one name on its way
        renamed[name] = tensor
    renamed.pop("masked_spec_embed", None)
    for name in list(renamed) if wavlm else ():
        attention, _, part = name.rpartition(".q_proj.")
        if attention:
            parts = [renamed.pop(f"{attention}.{x}_proj.{part}") for x in "qkv"]
            renamed[f"{attention}.attention.in_proj_{part}"] = torch.cat(parts)
        if ".out_proj." in name:
            renamed[name.replace(".out_proj.", ".attention.out_proj.")] = renamed.pop(name)
    return renamed


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("wav2vec2", {}),
        ("wav2vec2-ctc-large", {}),
        ("wav2vec2-stable", {"encoder_layer_norm_first": True}),
        ("wav2vec2-layer", {"encoder_layer_norm_first": False}),
        ("wavlm", {}),
        ("wavlm-ctc", {"encoder_max_distance": 11}),
    ],
)
def test_torchaudio(
    name: str,
    beside: dict[str, Any],
    hf: Make,
    same_as: Make,
    utterance: Make,
    tmp_path: Path,
    refuses: Make,
) -> None:
    """A state dict is read with a settings file beside it."""
    peer, path = hf(name), tmp_path / "model.pt"
    torch.save(_torchaudio(peer.state_dict(), wavlm="wavlm" in name), path)
    refuses(path, "found width 48", "encoder_num_heads", "model.json")
    path.with_suffix(".json").write_text(json.dumps({"encoder_num_heads": 4, **beside}))
    found = load_source(path)
    assert found.format == "torchaudio"
    assert found.model.config.architecture == ("wavlm" if "wavlm" in name else "wav2vec2")
    same_as(found.model, peer, utterance(9_000))


def test_published_widths_of_torchaudio(
    fresh: Make, same_as: Make, utterance: Make, tmp_path: Path
) -> None:
    """Of a width that was published, the heads are known."""
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 1}
    peer, path = fresh("wav2vec2", **sizes), tmp_path / "base.pth"
    torch.save(_torchaudio(peer.state_dict(), wavlm=False), path)
    same_as(load_source(path).model, peer, utterance(5_000))


def test_arguments_that_mean_nothing(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Invalid arguments are refused in one line."""
    besides: list[Any] = [{"encoder_num_heads": "4"}, {"encoder_num_heads": 5}, [4]]
    for extra in [{}, {"encoder_max_distance": "far"}]:
        for beside in besides:
            path = tmp_path / "model.pt"
            torch.save(_torchaudio(hf("wavlm").state_dict(), wavlm=True), path)
            content = beside if isinstance(beside, list) else {**beside, **extra}
            path.with_suffix(".json").write_text(json.dumps(content))
            refuses(path, "model")
            path.with_suffix(".json").write_text(json.dumps({"encoder_num_heads": 4, **extra}))
            if extra:
                refuses(path, "model")
            for layers in (3, [3], [[32]], [[32, 10, "x"]] * 7):
                given = {"encoder_num_heads": 4, "extractor_conv_layer_config": layers}
                path.with_suffix(".json").write_text(json.dumps(given))
                refuses(path, "model")


def test_arguments_that_the_tensors_contradict(hf: Make, tmp_path: Path, refuses: Make) -> None:
    """Arguments that contradict the tensors are refused, and none is ignored."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"encoder_num_head": 4}, "unknown key 'encoder_num_head'"),
        ({"encoder_num_layers": 7}, "encoder_num_layers: expected 3"),
        ({"encoder_layer_norm_first": "false"}, "encoder_layer_norm_first"),
        ({"normalize_waveform": "yes"}, "normalize_waveform"),
        ({"labels": ["-", "|"]}, "labels: expected 37 strings"),
    ]
    for beside, word in cases:
        path = tmp_path / "model.pt"
        torch.save(_torchaudio(hf("wavlm-ctc").state_dict(), wavlm=True), path)
        path.with_suffix(".json").write_text(json.dumps({"encoder_num_heads": 4, **beside}))
        refuses(path, word)


@pytest.mark.parametrize("said", [None, True, False])
def test_normalisation_of_torchaudio(said: bool | None, hf: Make, tmp_path: Path) -> None:
    """Normalisation comes from the wrapper or the settings file; otherwise there is a remark."""
    path = tmp_path / "model.pt"
    tensors = _torchaudio(hf("wav2vec2-ctc").state_dict(), wavlm=False)
    given: dict[str, Any] = {"encoder_num_heads": 4, "labels": [*map(chr, range(97, 134))]}
    if said is not None:
        given["normalize_waveform"] = said
    path.with_suffix(".json").write_text(json.dumps(given))
    torch.save(tensors, path)
    found = load_source(path)
    assert (found.model.config.normalise is not None) == (said is True)
    said_so = [x for x in found.remarks if "normalisation" in x]
    assert bool(said_so) == (said is not True)
    torch.save({f"model.{name}": x for name, x in tensors.items()}, path)
    assert (load_source(path).model.config.normalise is not None) == (said is not False)


@pytest.mark.parametrize(
    ("count", "cut"),
    [(34, (1, 2, 3)), (28, (1, 2, 3, 31)), (32, (1, 2, 3, 35)), (35, (1, 2, 3, 35))],
)
@pytest.mark.parametrize("star", [False, True])
def test_downloaded_files(
    count: int,
    cut: tuple[int, ...],
    star: bool,
    fresh: Make,
    utterance: Make,
    tmp_path: Path,
    theirs: Make,
    ours: Make,
    equal: Make,
) -> None:
    """Outputs that torchaudio's pipelines cut off are cut off, and so is a label without one."""
    size = count + len(cut)
    peer, path = fresh("wav2vec2-ctc", vocab_size=size), tmp_path / "model.pt"
    torch.save(_torchaudio(peer.state_dict(), wavlm=False), path)
    labels = ["-", "|", *(chr(0x3041 + i) for i in range(count - 2))]
    beside = {"encoder_num_heads": 4, "labels": [*labels, *["*"] * star]}
    path.with_suffix(".json").write_text(json.dumps(beside))
    found = load_source(path)
    head = found.model.config.head
    assert head is not None
    assert head.labels == tuple(labels)
    assert found.coverage is not None
    assert f"outputs {', '.join(map(str, cut))}" in found.coverage.ignored
    assert any("'*'" in x for x in found.coverage.ignored) == star
    waveform = utterance(5_000)
    kept = [i for i in range(size) if i not in cut]
    equal(ours(found.model, waveform)["logits"][0], theirs(peer, waveform)["logits"][:, kept])


def test_a_star_that_is_a_label(fresh: Make, tmp_path: Path, refuses: Make) -> None:
    """Where every label has an output nothing is cut, and other numbers are refused."""
    peer, path = fresh("wav2vec2-ctc", vocab_size=5), tmp_path / "model.pt"
    torch.save(_torchaudio(peer.state_dict(), wavlm=False), path)
    beside = {"encoder_num_heads": 4, "labels": ["-", "|", "a", "b", "*"]}
    path.with_suffix(".json").write_text(json.dumps(beside))
    found = load_source(path)
    assert found.model.config.head is not None
    assert found.model.config.head.labels[-1] == "*"
    for labels in (["-", "|", "a"], ["-", "|", "a", "b", "c", "d"], []):
        path.with_suffix(".json").write_text(json.dumps({**beside, "labels": labels}))
        refuses(path, "labels: expected 5 strings")


def test_norms_that_no_published_model_tells(hf: Make, tmp_path: Path) -> None:
    """Where the norms are follows from the size of a published model, or is said to be assumed."""
    path = tmp_path / "model.pt"
    torch.save(_torchaudio(hf("wav2vec2-ctc-large").state_dict(), wavlm=False), path)
    given: dict[str, Any] = {"encoder_num_heads": 4, "normalize_waveform": True}
    path.with_suffix(".json").write_text(json.dumps(given))
    (remark,) = (x for x in load_source(path).remarks if "norms" in x)
    assert "before each layer" in remark
    assert '{"encoder_layer_norm_first": false}' in remark
    path.with_suffix(".json").write_text(json.dumps({**given, "encoder_layer_norm_first": True}))
    assert not [x for x in load_source(path).remarks if "norms" in x]


def test_an_import_keeps_doubts(hf: Make, tmp_path: Path, command: Make) -> None:
    """What was said about a file is said of its import, and of a copy of that."""
    source, once, twice = (tmp_path / name for name in ("small.pt", "once.pt", "twice.pt"))
    torch.save(_torchaudio(hf("wav2vec2-ctc-large").state_dict(), wavlm=False), source)
    source.with_suffix(".json").write_text('{"encoder_num_heads": 4}')
    *said, _ = load_source(source).remarks
    assert len(said) == 2
    for before, after in ((source, once), (once, twice)):
        assert command("import", before, "-o", after)[0] == 0
        *found, no_labels = load_source(after).remarks
        assert found == [f"small.pt: {remark}" for remark in said]
        assert "labels" in no_labels
