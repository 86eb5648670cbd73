"""Heads of classes that no library has: emotion, age and gender, by their tensors."""

from __future__ import annotations

import json
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

import w2v_edge
from w2v_edge.bundle import read_manifest
from w2v_edge.checkpoints import load_source, write_folder
from w2v_edge.errors import ConfigError
from w2v_edge.model import load_checkpoint, save_checkpoint
from w2v_edge.model.head_config import PooledHeadConfig
from w2v_edge.runtime.window import Window

pytestmark = pytest.mark.usefixtures("no_gradients")

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]

WEIGHTS = "model.safetensors"
EMOTIONS = {"id2label": {0: "arousal", 1: "dominance", 2: "valence"}, "problem_type": "regression"}
GENDERS = {"id2label": {0: "female", 1: "male", 2: "child"}}
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda states: states.mean(dim=1),
    "sum": lambda states: states.sum(dim=1),
    "max": lambda states: states.max(dim=1)[0],
}


class Head(nn.Module):
    """As published beside such checkpoints."""

    def __init__(self, dim: int, labels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (b, d) to (b, labels)."""
        logits: Tensor = self.out_proj(torch.tanh(self.dense(pooled)))
        return logits


@pytest.fixture(scope="session")
def custom(fresh: Make) -> Make:
    """`custom(folder, body, cls, heads, **settings)`: a checkpoint of a class in no library.

    Returns the logits of each of its `heads`, labels by name, for one waveform.
    """

    @torch.no_grad()
    def make(folder: Path, body: str, cls: str, heads: dict[str, int], **settings: Any) -> Make:
        model = fresh(body, **settings)
        torch.manual_seed(1)
        made = {name: Head(model.config.hidden_size, n) for name, n in heads.items()}
        model.save_pretrained(folder)
        prefix = model.base_model_prefix
        tensors = {f"{prefix}.{name}": x for name, x in load_file(folder / WEIGHTS).items()}
        for name, head in made.items():
            # At usual scale a tanh of few units is nearly linear.
            head.dense.weight.mul_(3)
            tensors |= {f"{name}.{key}": x for key, x in head.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        config |= {"architectures": [cls]}
        (folder / "config.json").write_text(json.dumps(config))

        @torch.no_grad()
        def expected(waveform: Floats) -> dict[str, Tensor]:
            states = model(torch.from_numpy(waveform)[None]).last_hidden_state
            pooled = POOLINGS[settings.get("pooling_mode", "mean")](states)
            return {name: head(pooled)[0] for name, head in made.items()}

        return expected

    return make


@pytest.mark.parametrize(
    ("body", "cls", "settings"),
    [
        ("wav2vec2", "EmotionModel", EMOTIONS),
        ("wav2vec2-stable", "Wav2Vec2ForSpeechClassification", {"pooling_mode": "sum"}),
        ("hubert", "HubertForSpeechClassification", {"pooling_mode": "max"}),
        ("wavlm", "WavLMForSequenceClassification", {"pooling_mode": "mean"}),
        ("data2vec", "Anything", {"pooling_mode": "max"}),
        ("unispeech-sat", "UniSpeechSatModel", {}),
        ("wav2vec2-adapter", "OnAnAdapter", {"output_hidden_size": 48, "pooling_mode": "max"}),
    ],
)
def test_outputs_equal_the_class(
    body: str,
    cls: str,
    settings: dict[str, Any],
    custom: Make,
    ours: Make,
    utterance: Make,
    tmp_path: Path,
    equal: Make,
    compared: Make,
) -> None:
    """Whatever the class is called; alone, in a ragged batch with NaN as padding, at any length."""
    expected = custom(tmp_path / "m", body, cls, {"classifier": 3}, **settings)
    model = load_source(tmp_path / "m").model
    compared(f"pooled head on {body.partition('-')[0]} ({settings.get('pooling_mode', 'mean')})")
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, 400, 160_000))]
    found = ours(model, *waveforms, extra=777)["logits"]
    for waveform, row in zip(waveforms, found, strict=True):
        wanted = expected(waveform)["classifier"]
        equal(row, wanted)
        equal(ours(model, waveform)["logits"][0], wanted)
    # Too short for a frame: nothing to pool, as the mean of no frames is zero.
    nothing = ours(model, waveforms[0], waveforms[0][:399])["logits"]
    assert torch.isfinite(nothing).all()
    equal(nothing[0], found[0])


def test_whatever_the_class_calls_its_parts(
    custom: Make, ours: Make, utterance: Make, tmp_path: Path
) -> None:
    """Body and head are known by the ends of their tensors' names."""
    expected = custom(tmp_path / "m", "hubert", "X", {"classifier": 3})
    path, waveform = tmp_path / "m" / WEIGHTS, utterance(5_000)
    tensors = load_file(path)
    wanted = expected(waveform)["classifier"]
    for body, head in (("encoder.", "classifier."), ("model.backbone.", "emotion.net.")):
        renamed = {
            key.replace("hubert.", body, 1).replace("classifier.", head): x
            for key, x in tensors.items()
        }
        save_file(renamed, path)
        found = ours(load_source(tmp_path / "m").model, waveform)["logits"][0]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "meaning", "labels"),
    [
        (EMOTIONS, "values", ("arousal", "dominance", "valence")),
        ({}, "one_of", ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"problem_type": "multi_label_classification"}, "any_of", None),
        ({"id2label": {0: "yes", 1: "no"}}, "one_of", ("yes", "no", "LABEL_2")),
    ],
)
def test_meaning_and_labels(
    settings: dict[str, Any],
    meaning: str,
    labels: tuple[str, ...] | None,
    custom: Make,
    tmp_path: Path,
) -> None:
    """They are the config's, where it has them for as many outputs; a remark says what was read."""
    custom(tmp_path / "m", "wav2vec2", "EmotionModel", {"classifier": 3}, **settings)
    source = load_source(tmp_path / "m")
    head = source.model.config.head
    assert isinstance(head, PooledHeadConfig)
    assert (head.meaning, head.pooling) == (meaning, "mean")
    assert labels in {None, head.labels}
    assert any("'EmotionModel'" in x or "EmotionModel" in x for x in source.remarks)
    assert any("mean over frames, which no file states" in x for x in source.remarks)


def test_several_heads_have_names(
    custom: Make, ours: Make, utterance: Make, tmp_path: Path
) -> None:
    """Age is a value and gender a choice, by their widths and the config's labels."""
    heads = {"age": 1, "gender": 3}
    expected = custom(tmp_path / "m", "wav2vec2", "AgeGenderModel", heads, **GENDERS)
    model, waveform = load_source(tmp_path / "m").model, utterance(16_001)
    found = ours(model, waveform)
    for name in heads:
        torch.testing.assert_close(
            found[f"logits_{name}"][0], expected(waveform)[name], atol=1e-5, rtol=0
        )
    head = model.config.head
    assert isinstance(head, PooledHeadConfig)
    assert [(x.name, x.meaning, x.labels) for x in head.branches] == [
        ("age", "values", ("age",)),
        ("gender", "one_of", ("female", "male", "child")),
    ]
    four = {"id2label": dict(enumerate(("years", "female", "male", "child")))}
    custom(tmp_path / "four", "wav2vec2", "AgeGenderModel", heads, **four)
    config: Any = load_source(tmp_path / "four").model.config.head
    assert [x.labels for x in config.branches] == [("years",), ("female", "male", "child")]
    assert any("assumption" in x for x in load_source(tmp_path / "four").remarks)
    last = {"id2label": dict(enumerate(("female", "male", "child", "age")))}
    custom(tmp_path / "last", "wav2vec2", "AgeGenderModel", heads, **last)
    source = load_source(tmp_path / "last")
    config = source.model.config.head
    assert [x.labels for x in config.branches] == [("age",), ("female", "male", "child")]
    assert not any("assumption" in x for x in source.remarks)


def test_names_that_are_alike(custom: Make, tmp_path: Path, refuses: Make) -> None:
    """Two heads never become one: they are refused until they are named."""
    custom(tmp_path / "m", "wav2vec2", "X", {"a_b": 1, "a-b": 3})
    refuses(tmp_path / "m", "a-b, a_b", "--head")


def test_a_head_stated_by_the_user(
    custom: Make, ours: Make, utterance: Make, tmp_path: Path, refuses: Make
) -> None:
    """Of several heads one may be read, with another pooling, meaning and name."""
    expected = custom(tmp_path / "m", "hubert", "X", {"age": 1, "sex": 2}, pooling_mode="max")
    source = load_source(tmp_path / "m", heads=["gender=sex:max:sigmoid"])
    (branch,) = source.model.config.head.branches  # type: ignore[union-attr]
    assert (branch.name, branch.meaning) == ("gender", "any_of")
    waveform = utterance(5_000)
    found = ours(source.model, waveform)["logits_gender"][0]
    torch.testing.assert_close(found, expected(waveform)["sex"], atol=1e-5, rtol=0)
    assert source.coverage is not None
    assert "age.dense.weight" in source.coverage.ignored
    assert not any("in no library" in x for x in source.remarks)
    for heads, words in {
        ("classifier",): ("missing tensor 'classifier.dense.weight'",),
        ("sex:softly",): ("found 'softly'", "mean, sum, max, values, softmax, sigmoid"),
        ("sex:max:mean",): ("one pooling",),
        ("a b=sex",): ("[NAME=]TENSORS[:WORD...]",),
        ("sex", "age"): ("a name of its own",),
        ("a=sex:max", "b=age:mean"): ("max and mean", "the same for all heads"),
    }.items():
        refuses(tmp_path / "m", *words, heads=heads)
    refuses(tmp_path / "m", "--as ctc", heads=["sex"], kind="ctc")


def test_never_a_random_head(custom: Make, tmp_path: Path, refuses: Make) -> None:
    """A head that lacks a tensor, or has one too many, is refused by the tensor's name."""
    custom(tmp_path / "m", "wav2vec2", "EmotionModel", {"classifier": 3}, **EMOTIONS)
    path = tmp_path / "m" / WEIGHTS
    whole = load_file(path)
    for gone in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias"):
        name = f"classifier.{gone}"
        save_file({key: x for key, x in whole.items() if key != name}, path)
        refuses(tmp_path / "m", f"missing tensor '{name}'")
    save_file(whole | {"classifier.norm.weight": torch.ones(48)}, path)
    refuses(tmp_path / "m", "unexpected tensor 'classifier.norm.weight'", "--head classifier")
    save_file(whole | {"classifier.dense.weight": torch.ones(48)}, path)
    refuses(tmp_path / "m", "expected matrices")
    save_file(whole | {"classifier.dense.weight": torch.ones(48, 7)}, path)
    refuses(tmp_path / "m", "'classifier.dense.weight'", "(48, 7)")


def test_its_class_goes_before_a_leftover(hf_folder: Make, tmp_path: Path, refuses: Make) -> None:
    """A class whose own head is there is read as what it is called, and nothing is dropped."""
    folder = shutil.copytree(hf_folder("wavlm-classes"), tmp_path / "m")
    head = {f"old.{key}": x for key, x in Head(48, 2).state_dict().items()}
    save_file(load_file(folder / WEIGHTS) | head, folder / WEIGHTS)
    refuses(folder, "unexpected tensor 'old.dense.bias'")
    found = load_source(folder, kind="utterance")
    assert found.model.config.head is not None
    assert found.model.config.head.kind == "utterance"


@pytest.mark.parametrize("heads", [{"classifier": 3}, {"age": 1, "gender": 3}])
def test_round_trips(heads: dict[str, int], custom: Make, tmp_path: Path) -> None:
    """Our checkpoint and a folder keep heads, with the folder's own files or without."""
    labels = {"id2label": {i: f"l{i}" for i in range(sum(heads.values()))}}
    custom(tmp_path / "m", "hubert", "X", heads, pooling_mode="sum", **labels)
    model = load_source(tmp_path / "m").model
    save_checkpoint(model, tmp_path / "ckpt.pt")
    again = load_checkpoint(tmp_path / "ckpt.pt")
    assert again.config == model.config
    write_folder(again, tmp_path / "back")
    expected = load_file(tmp_path / "m" / WEIGHTS)
    found = load_file(tmp_path / "back" / WEIGHTS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(x, expected[name]) for name, x in found.items())
    again.origin = None
    write_folder(again, tmp_path / "bare")
    config = json.loads((tmp_path / "bare" / "config.json").read_text())
    assert config["architectures"] == ["HubertForSpeechClassification"]
    assert load_source(tmp_path / "bare").model.config == model.config


@pytest.fixture(scope="module")
def bundles(
    custom: Make, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Path], Callable[[Floats], dict[str, Tensor]]]:
    """Bundles by precision of a model with two heads over a maximum, and what its class gives."""
    from w2v_edge_export import export

    folder = tmp_path_factory.mktemp("heads")
    settings = {**GENDERS, "pooling_mode": "max", "num_hidden_layers": 2}
    heads = {"age": 1, "gender": 3}
    expected = custom(folder / "m", "wav2vec2", "AgeGenderModel", heads, **settings)
    made = {}
    for precision in ("fp32", "int8"):
        made[precision] = folder / precision
        given: Any = precision
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
            export(
                folder / "m",
                made[precision],
                precision=given,
                layers=[1],
                pool="mean",
                require_speedup=0.0,
            )
    return made, expected


def test_bundles_equal_the_class(bundles: Any, plain: Make, utterance: Make) -> None:
    """The graph alone, in ragged batches, gives each head by its name, and hidden states too."""
    folders, expected = bundles
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, 400, 3_999))]
    batch = np.full((5, 17_000), np.nan, np.float32)
    for row, waveform in zip(batch, waveforms, strict=False):
        row[: len(waveform)] = waveform
    lengths = np.array([*map(len, waveforms), 399])
    for precision, folder in folders.items():
        found = plain(folder / "encoder.onnx", waveform=batch, lengths=lengths)
        assert {"context", "layer_1", "embedding", "logits_age", "logits_gender"} < found.keys()
        tolerance = 1e-5 if precision == "fp32" else 0.05
        for i, waveform in enumerate(waveforms):
            for name, values in expected(waveform).items():
                given = found[f"logits_{name}"][i]
                np.testing.assert_allclose(given, values, atol=tolerance)
        assert all(np.isfinite(found[f"logits_{name}"]).all() for name in ("age", "gender"))
    alone = plain(folder / "encoder.onnx", waveform=waveforms[1][None], lengths=lengths[1:2])
    np.testing.assert_allclose(alone["logits_gender"][0], found["logits_gender"][1], atol=1e-4)


def test_classify_by_name(bundles: Any, command: Make, utterance: Make, tmp_path: Path) -> None:
    """Each head has its result: values of one, probabilities of the other; long audio too."""
    import soundfile

    folders, expected = bundles
    model, waveform = w2v_edge.load(folders["fp32"]), utterance(16_001)
    found = model.classify(waveform)
    assert isinstance(found, dict)
    wanted = expected(waveform)
    assert found["age"].labels == ("age",)
    np.testing.assert_allclose(found["age"].scores, wanted["age"], atol=1e-5)
    np.testing.assert_allclose(found["gender"].scores, wanted["gender"].softmax(-1), atol=1e-5)
    many: Any = model.classify([waveform, waveform[:9_000]])
    np.testing.assert_allclose(many[0]["age"].scores, found["age"].scores, atol=1e-5)
    encoding = model.encode(waveform)
    np.testing.assert_allclose(encoding.heads["gender"], wanted["gender"], atol=1e-5)
    assert encoding.embedding is not None
    assert encoding.logits is None
    windowed: Any = model.classify(waveform, window=Window(step=2, left=0, right=0))
    np.testing.assert_allclose(windowed["gender"].scores, found["gender"].scores, atol=1e-5)
    *_, last = model.encode_blocks(waveform)
    np.testing.assert_allclose(last.heads["age"], wanted["age"], atol=1e-5)
    manifest = read_manifest(folders["fp32"])
    said = "max over frames, dense, tanh, linear · age: values of age · gender: softmax over female"
    assert said in manifest.decisions
    assert any("AgeGenderModel" in x for x in manifest.source.remarks)
    soundfile.write(tmp_path / "x.wav", waveform, 16_000, subtype="FLOAT")
    code, out, _ = command("classify", folders["fp32"], tmp_path / "x.wav")
    assert code == 0
    age, _, gender = out.partition("; gender: ")
    assert age == f"age: age {float(wanted['age']):.4g}"
    assert gender.count("%") == 3
    seconds = len(waveform) / 16_000
    over_time: Any = model.classify(waveform, every=9.0)
    np.testing.assert_array_equal(over_time["age"].scores[0], found["age"].scores)
    code, out, _ = command("classify", folders["fp32"], tmp_path / "x.wav", "--every", "9s")
    assert code == 0
    assert out.startswith(f"0.00\t{seconds:.2f}\t{age}; gender: ")
    code, out, _ = command("classify", folders["fp32"], tmp_path / "x.wav", "--json")
    assert code == 0
    assert json.loads(out)[0]["heads"]["gender"]["label"] == found["gender"].label
    code, out, _ = command("inspect", folders["fp32"])
    assert "logits_gender" in out
    code, _, _ = command("encode", folders["fp32"], tmp_path / "x.wav", "-o", tmp_path / "out")
    assert code == 0
    assert "logits_gender" in np.load(tmp_path / "out" / "x.npz")


def test_a_bundle_that_names_a_head_it_lacks(bundles: Any) -> None:
    """Its manifest is refused."""
    from dataclasses import replace

    manifest = read_manifest(bundles[0]["fp32"])
    heads = manifest.heads | {"mood": manifest.heads["age"]}
    with pytest.raises(ConfigError, match="logits_NAME of age, gender, mood"):
        replace(manifest, heads=heads)
