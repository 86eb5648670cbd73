"""`Model.run_on_device`: tensors stay on the device from one graph to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.utils.dlpack

import w2v_edge
from w2v_edge import Model
from w2v_edge.errors import GraphMissingError, InferenceError, InputError, W2VEdgeError
from w2v_edge.providers.placement import sample_inputs

SAMPLES = 5_000


@pytest.fixture(scope="module")
def model(bundle: Callable[[str], Path]) -> Model:
    """A model without statistics of the whole utterance."""
    return w2v_edge.load(bundle("large-small"))


@pytest.fixture
def batch() -> dict[str, Any]:
    """A padded batch of two."""
    waveform = np.random.default_rng(3).standard_normal((2, SAMPLES)).astype(np.float32)
    return {"waveform": waveform, "lengths": np.array([SAMPLES, 3_000])}


def test_outputs_are_inputs_of_the_next_graph(model: Model, batch: dict[str, Any]) -> None:
    """Two graphs in a row, without a copy between them, give the results of `run`."""
    front = model.run_on_device("frontend", **batch)
    assert all(isinstance(x, onnxruntime.OrtValue) for x in front.values())
    features, lengths = front["features"], front["frame_lengths"]
    where = features.data_ptr()
    context = model.run_on_device("context", features=features, frame_lengths=lengths)["context"]
    assert features.data_ptr() == where
    expected = model.run("frontend", **batch)
    assert np.array_equal(features.numpy(), expected["features"])
    assert np.array_equal(context.numpy(), model.run("context", **expected)["context"])


def test_shapes_are_dynamic(model: Model) -> None:
    """Each run has outputs of its own size, and outputs of earlier runs stay valid."""
    made = {}
    for samples in (4_000, 9_000, 1_600):
        waveform = np.full((1, samples), 0.1, np.float32)
        made[samples] = model.run_on_device(
            "frontend", waveform=waveform, lengths=np.array([samples])
        )["features"]
    for samples, features in made.items():
        assert features.shape()[1] == model.manifest.geometry.frames(samples)
        assert np.isfinite(features.numpy()).all()


@pytest.mark.parametrize("kind", ["numpy", "strided", "ort", "torch"])
def test_every_kind_of_tensor(kind: str, model: Model, batch: dict[str, Any]) -> None:
    """Arrays, strided or not, OrtValues and DLPack tensors are accepted, also mixed."""
    wave = batch["waveform"]
    kinds: dict[str, Any] = {
        "numpy": wave,
        "strided": np.repeat(wave, 2, axis=1)[:, ::2],
        "ort": onnxruntime.OrtValue.ortvalue_from_numpy(wave),
        "torch": torch.from_numpy(wave.copy()),
    }
    given = kinds[kind]
    found = model.run_on_device("frontend", waveform=given, lengths=batch["lengths"])
    expected = model.run("frontend", **batch)["features"]
    assert np.array_equal(found["features"].numpy(), expected)


@pytest.mark.skipif(
    not hasattr(onnxruntime.OrtValue, "__dlpack__"), reason="this onnxruntime gives no DLPack"
)
def test_dlpack_out(model: Model, batch: dict[str, Any]) -> None:
    """Other libraries import outputs by DLPack without a copy."""
    features = model.run_on_device("frontend", **batch)["features"]
    tensor = torch.utils.dlpack.from_dlpack(features)
    assert tensor.data_ptr() == features.data_ptr()
    assert np.array_equal(tensor.numpy(), features.numpy())


def test_other_inputs_are_refused(model: Model, batch: dict[str, Any]) -> None:
    """Other types, unknown graphs and tensors that do not fit are typed errors of one line."""
    with pytest.raises(InputError, match=r"waveform: found list, expected"):
        model.run_on_device("frontend", **(batch | {"waveform": [[0.0] * SAMPLES]}))
    with pytest.raises(GraphMissingError, match="no graph 'statistics'"):
        model.run_on_device("statistics", **batch)
    too_long = onnxruntime.OrtValue.ortvalue_from_numpy(batch["lengths"] + SAMPLES)
    wrong: list[tuple[type[W2VEdgeError], dict[str, Any]]] = [
        (InputError, {"waveform": batch["waveform"]}),
        (InputError, batch | {"sound": batch["waveform"]}),
        (InputError, batch | {"waveform": batch["waveform"][0]}),
        (InputError, batch | {"lengths": batch["lengths"] + SAMPLES}),
        (InputError, batch | {"lengths": too_long}),
        (InferenceError, batch | {"waveform": batch["waveform"].astype(np.float64)}),
    ]
    for kind, given in wrong:
        with pytest.raises(kind, match="graph 'frontend'") as refused:
            model.run_on_device("frontend", **given)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["tutorial-small", "base-small"])
def test_no_rows(name: str, bundle: Callable[[str], Path]) -> None:
    """A batch of 0 rows gives outputs of 0 rows, also on the device."""
    model = w2v_edge.load(bundle(name))
    for graph, info in model.manifest.graphs.items():
        inputs = sample_inputs(info, model.sample_rate)
        one, none = model.run(graph, **inputs), {x: tensor[:0] for x, tensor in inputs.items()}
        on_device = model.run_on_device(graph, **none)
        for output, values in model.run(graph, **none).items():
            assert values.shape == (0, *one[output].shape[1:])
            assert values.dtype == one[output].dtype
            assert on_device[output].numpy().shape == values.shape


def test_no_rows_in_graphs_that_need_one(bundle: Callable[[str], Path]) -> None:
    """A batch of 0 rows works in old bundles, whose graphs fail on it."""
    model = w2v_edge.load(bundle("large-small"))
    opened = model.session.open("tokenizer")

    class Old:
        def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
            assert len(inputs["waveform"]), "an old graph has no loop over 0 rows"
            return opened.session.run(names, inputs)

    model.session._graphs["tokenizer"] = replace(opened, session=Old())
    none: dict[str, Any]
    none = {"waveform": np.zeros((0, SAMPLES), np.float32), "lengths": np.zeros(0, np.int64)}
    shape = (0, model.manifest.geometry.frames(SAMPLES), 2)
    assert model.run("tokenizer", **none)["codes"].shape == shape
    assert model.run_on_device("tokenizer", **none)["codes"].numpy().shape == shape
