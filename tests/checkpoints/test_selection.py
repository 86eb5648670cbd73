"""Selected layers, embeddings and k-means codes are those of transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import load_file, save_file

import w2v_edge
from w2v_edge.bundle import read_manifest
from w2v_edge.checkpoints import load_source
from w2v_edge.errors import InputError
from w2v_edge.model.padding import Frames
from w2v_edge_export.centroids import read_centroids
from w2v_edge_export.parts import parts
from w2v_edge_export.selection import Selection, select
from w2v_edge_export.trace import trace

pytestmark = pytest.mark.usefixtures("no_gradients")

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]

LAYOUT = "bundle, in onnxruntime"

STABLE = ("hubert-large", "wavlm-ctc")
POST_NORM = ("wav2vec2-pretraining", "hubert-batch-norm", "wavlm-few", "data2vec-ctc")


def _states(peer: Any, waveform: Floats) -> list[Floats]:
    """Return the hidden states of transformers."""
    states = peer.base_model(torch.from_numpy(waveform)[None], output_hidden_states=True)
    return [x[0].numpy() for x in states.hidden_states]


LAYERS = [(name, 3) for name in (*STABLE, *POST_NORM)]
LAYERS += [("hubert-large", 1), ("wavlm-ctc", 2), ("wavlm-few", 1)]


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_layer(
    name: str, layer: int, hf: Make, hf_folder: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """The context is the layer's hidden state in transformers, and layers above are dropped."""
    model = select(load_source(hf_folder(name)).model, Selection(layer=layer))
    assert model.config.head is None
    assert not any(key.startswith(f"context_network.blocks.{layer}.") for key in model.state_dict())
    found = ours(model, utterance(9_000), extra=500)["context"][0]
    expected = _states(hf(name), utterance(9_000))[layer]
    equal(found[: len(expected)], expected)
    assert not found[len(expected) :].any()


@pytest.mark.parametrize("name", ["wavlm-ctc", "data2vec-ctc"])
def test_several_layers_and_an_embedding(
    name: str, hf: Make, hf_folder: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """Layers are outputs beside the context; the embedding is the mean over valid frames."""
    model = select(load_source(hf_folder(name)).model, Selection(layers=(2, 1), pool="mean"))
    found = ours(model, utterance(9_000), extra=500)
    states = _states(hf(name), utterance(9_000))
    for layer in (1, 2):
        equal(found[f"layer_{layer}"][0, : len(states[layer])], states[layer])
    context = found["context"][0, : len(states[0])]
    equal(found["embedding"][0], context.mean(dim=0))


@pytest.fixture
def centroids(hf: Make, utterance: Make, tmp_path: Path) -> tuple[Path, Floats]:
    """A file of centroids, frames of that layer themselves moved a little, and the centroids."""
    frames = _states(hf("hubert-large"), utterance(20_000, 90_000))[2]
    noise = np.random.default_rng(0).standard_normal((17, 48))
    values = (frames[::3][:17] + 0.1 * noise).astype(np.float32)
    assert values.shape == (17, 48)
    path = tmp_path / "centroids.npy"
    np.save(path, values)
    return path, values


def test_a_bundle_of_units(
    hf: Make,
    hf_folder: Make,
    centroids: tuple[Path, Floats],
    command: Make,
    plain: Make,
    equal: Make,
    utterance: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bundle with layers, embedding and k-means codes: each code is the nearest centroid."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 100)
    (path, values), out = centroids, tmp_path / "out"
    source = hf_folder("hubert-large")
    given = ("--layer", "2", "--layers", "1,2", "--pool", "mean", "--kmeans", path)
    code, _, err = command("export", source, "-o", out, *given)
    assert code == 0, err
    manifest = read_manifest(out)
    assert manifest.quantizer_input == "context"
    assert manifest.selection is not None
    assert (manifest.selection["layer"], manifest.selection["layers"]) == (2, [1, 2])
    utterances = [utterance(16_001), utterance(5_000, 60_000)]
    batch = np.full((2, 17_000), np.nan, np.float32)
    for row, waveform in zip(batch, utterances, strict=True):
        row[: len(waveform)] = waveform
    inputs = {"waveform": batch, "lengths": np.array([16_001, 5_000])}
    found = plain(out / "encoder.onnx", **inputs)
    tokens = plain(out / "tokenizer.onnx", **inputs)["codes"]
    units = set()
    for i, waveform in enumerate(utterances):
        states = _states(hf("hubert-large"), waveform)
        count = len(states[0])
        for name, layer in (("context", 2), ("layer_1", 1), ("layer_2", 2)):
            equal(found[name][i, :count], states[layer])
        equal(found["embedding"][i], states[2].mean(axis=0))
        apart = states[2].astype(np.float64)[:, None] - values.astype(np.float64)
        distances = np.square(apart).sum(axis=-1)
        best = np.sort(distances, axis=1)
        clear = best[:, 1] - best[:, 0] > 1e-4 * distances.std()
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(tokens[i, :count, 0][clear], distances.argmin(axis=1)[clear])
        assert not tokens[i, count:].any()
        units |= set(tokens[i, :count, 0].tolist())
    assert len(units) > 3
    assert command("verify", out, "--checkpoint", source, "--kmeans", path)[0] == 0
    code, _, err = command("verify", out, "--checkpoint", source)
    assert (code, len(err.strip().splitlines())) == (1, 1)
    assert "give the file again" in err
    np.save(path, values[::-1])
    assert command("verify", out, "--checkpoint", source, "--kmeans", path)[0] == 3


def test_units_of_unit_length(
    hf: Make, hf_folder: Make, utterance: Make, plain: Make, tmp_path: Path
) -> None:
    """The nearest centroid to each frame over its length, as in float64; the graph agrees."""
    frames = _states(hf("hubert-large"), utterance(16_000))[2].astype(np.float64)
    units = frames / np.linalg.norm(frames, axis=1, keepdims=True)
    # Means of unit vectors are shorter; some are of another length, which has to count.
    scales = np.linspace(0.7, 1.2, 11)[:, None]
    centroids = (units[::4][:11] * scales).astype(np.float32)
    chosen = Selection(layer=2, centroids=centroids, unit_length=True)
    model = select(load_source(hf_folder("hubert-large")).model, chosen)
    distances = np.square(units[:, None] - centroids.astype(np.float64)).sum(axis=-1)
    best = np.sort(distances, axis=1)
    clear = best[:, 1] - best[:, 0] > 1e-4 * distances.std()
    plainly = np.square(frames[:, None] - centroids.astype(np.float64)).sum(axis=-1).argmin(axis=1)
    assert clear.mean() > 0.9
    assert (distances.argmin(axis=1) != plainly).any()
    given = np.concatenate([frames, np.zeros((1, 48))]).astype(np.float32)[None]
    assert model.quantizer is not None
    found = model.quantizer(Frames(torch.from_numpy(given), torch.tensor([len(given[0])])))
    codes = found.codes[0, :-1, 0].numpy()
    np.testing.assert_array_equal(codes[clear], distances.argmin(axis=1)[clear])
    part = parts(model)["quantizer"]
    ir.save(trace(part, 21), tmp_path / "quantizer.onnx")
    graph = plain(tmp_path / "quantizer.onnx", frames=given)
    np.testing.assert_array_equal(graph["codes"][0, :, 0], found.codes[0, :, 0].numpy())


BAD: dict[str, tuple[Any, str]] = {
    "another width": (np.zeros((5, 47), np.float32), "centroids 48 wide"),
    "nan": (np.full((5, 48), np.nan, np.float32), "NaN"),
    "beyond float32": (np.full((5, 48), 1e300), "beyond float32"),
    "integers": (np.zeros((5, 48), np.int64), "expected floats"),
    "one": (np.zeros((1, 48), np.float32), "expected floats of shape"),
    "three axes": (np.zeros((5, 48, 1), np.float32), "expected floats of shape"),
    "pickled": (np.array([{"a": 1}], dtype=object), ".npy"),
}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("case", BAD)
def test_centroids_that_do_not_fit(
    case: str, hf_folder: Make, command: Make, tmp_path: Path
) -> None:
    """Centroids that do not fit are refused in one line, and nothing is written."""
    values, message = BAD[case]
    path = tmp_path / "centroids.npy"
    np.save(path, values, allow_pickle=True)
    arguments = ("export", hf_folder("wav2vec2"), "-o", tmp_path / "out", "--kmeans", path)
    code, _, err = command(*arguments)
    assert (code, len(err.strip().splitlines())) == (1, 1), err
    assert message in err
    path.write_bytes(path.read_bytes()[:-3])
    assert command(*arguments)[0] == 1
    path.unlink()
    assert "centroids.npy" in command(*arguments)[2]
    assert not list(tmp_path.iterdir())


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"

HEADERS = {
    "unclosed": "((((",
    "indented": "(\n    1\n  2",
    "deep": "(" * 150 + ")" * 150,
    "no table": "{[]: 1}",
    "far too long": HEADER % "(200000000000, 48)",
    "beyond any memory": HEADER % f"({2**70}, 48)",
    "too long": HEADER % "(6, 48)",
    "nothing": HEADER % f"({2**70}, 0)",
    "negative": HEADER % "(-1, 48)",
}


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    """A header with any claim is refused in one line, without allocating memory."""
    path = tmp_path / "centroids.npy"
    for text in HEADERS.values():
        header = text.encode()
        for version in (1, 2, 9):
            size = len(header).to_bytes(2 if version == 1 else 4, "little")
            contents = b"\x93NUMPY" + bytes([version, 0]) + size + header
            path.write_bytes(contents + np.ones((5, 48), "<f4").tobytes())
            with pytest.raises(
                InputError, match=r"centroids\.npy: expected a \.npy file"
            ) as refused:
                read_centroids(path)
            assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "code", "message"),
    [
        (("--layer", "0"), 2, "0"),
        (("--normalise-units",), 1, "give the centroids with --kmeans"),
        (("--layer", "4"), 1, "from 1 to 3, found 4"),
        (("--layers", "1,4"), 1, "--layers: expected layers from 0 to 3, found 4"),
        (("--layers", "1,1"), 1, "--layers: expected each layer once, found 1 twice"),
        (("--layers", "one"), 2, "'one' is not a valid integer"),
        (
            ("--layer", "1", "--layers", "2"),
            1,
            "--layers: expected layers from 0 to 1 (up to --layer)",
        ),
    ],
)
def test_layers_that_are_not_there(
    option: tuple[str, ...], code: int, message: str, hf_folder: Make, command: Make, tmp_path: Path
) -> None:
    """A layer outside the model is refused with the valid range."""
    found, _, err = command("export", hf_folder("wavlm"), "-o", tmp_path / "out", *option)
    assert found == code
    assert message in err
    if code == 1:
        assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


PROJECTION = {
    "final_proj.weight": torch.randn(20, 48, generator=torch.Generator().manual_seed(1)),
    "final_proj.bias": torch.linspace(-1, 1, 20),
}


@pytest.mark.parametrize("given", [(), ("--layer", "2", "--layers", "all")])
def test_a_projection_of_the_context(
    given: tuple[str, ...],
    hf: Make,
    hf_folder: Make,
    edit: Make,
    command: Make,
    plain: Make,
    equal: Make,
    utterance: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`projected` is final_proj of the layer chosen, in whole recordings, batches and streams."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5,))
    folder = shutil.copytree(hf_folder("hubert-large"), tmp_path / "contentvec")
    path = folder / "model.safetensors"
    save_file({**load_file(path), **PROJECTION}, path)
    edit(folder / "config.json", architectures=["HubertModelWithFinalProj"])
    out = tmp_path / "out"
    code, text, err = command("export", folder, "-o", out, "--projection", *given)
    assert code == 0, err
    assert "final_proj" not in text
    waveform = utterance(9_000)
    with torch.no_grad():
        states = hf("hubert-large")(torch.from_numpy(waveform)[None], output_hidden_states=True)
        context = states.hidden_states[2] if given else states.last_hidden_state
        expected = torch.nn.functional.linear(context, *PROJECTION.values())
    found = plain(out / "encoder.onnx", waveform=waveform[None], lengths=np.array([9_000]))
    equal(found["projected"], expected)
    encoding = w2v_edge.load(out).encode(waveform)
    assert encoding.projected is not None
    equal(encoding.projected, expected[0])
    if "all" in given:
        assert sorted(encoding.layers) == [0, 1, 2]
        for layer, values in encoding.layers.items():
            equal(values, states.hidden_states[layer][0])
    batch = w2v_edge.load(out).encode([waveform, waveform[:5_000], waveform[:7_001]])
    assert batch[0].projected is not None
    equal(batch[0].projected, expected[0])
    stream = w2v_edge.load(out).stream(context=True)
    blocks = [*(stream.push(x) for x in np.array_split(waveform, 5)), stream.flush()]
    projected = [x.projected for x in blocks if x.projected is not None]
    assert sum(map(len, projected)) == expected.shape[1]
    code, text, err = command("verify", out, "--checkpoint", folder)
    assert code == 0, (text, err)


def test_a_projection_that_is_not_there(hf_folder: Make, refuses: Make) -> None:
    """A checkpoint without one is refused."""
    refuses(hf_folder("hubert"), "found no projection of the context", projection=True)
    refuses(hf_folder("wav2vec2-pretraining"), "found no projection", projection=True)


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-stable", "wavlm-large", "data2vec"])
def test_layer_0_is_the_input_of_the_first_block(
    name: str, hf: Make, hf_folder: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """Hidden states have transformers' numbers, from 0; `all` is every one."""
    waveform = utterance(5_000)
    model = select(load_source(hf_folder(name)).model, Selection(layers="all"))
    found = ours(model, waveform)
    assert [x for x in found if x.startswith("layer_")] == [f"layer_{i}" for i in range(4)]
    with torch.no_grad():
        states = hf(name)(torch.from_numpy(waveform)[None], output_hidden_states=True)
    for i, state in enumerate(states.hidden_states):
        equal(found[f"layer_{i}"], state)
