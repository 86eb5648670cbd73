"""Tensors that stay on the device, from one graph to the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.utils.dlpack

import w2v_edge
from w2v_edge.errors import GraphMissingError, InferenceError, InputError, W2VEdgeError
from w2v_edge.runtime.model import Model

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
    """From samples to context in two graphs, with nothing between: the results are those of run."""
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
    """Each run has outputs of its own size, and earlier ones keep theirs."""
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
    """Arrays, however they lie, OrtValues, and what speaks DLPack, mixed as one likes."""
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
    """Outputs go on to other libraries without a copy."""
    features = model.run_on_device("frontend", **batch)["features"]
    tensor = torch.utils.dlpack.from_dlpack(features)
    assert tensor.data_ptr() == features.data_ptr()
    assert np.array_equal(tensor.numpy(), features.numpy())


def test_what_is_refused(model: Model, batch: dict[str, Any]) -> None:
    """What is no tensor, no graph, or does not fit is a typed error of one line."""
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
    """A batch of 0 gives outputs of 0 rows, also on the device."""
    model = w2v_edge.load(bundle(name))
    none: dict[str, Any]
    none = {"waveform": np.zeros((0, SAMPLES), np.float32), "lengths": np.zeros(0, np.int64)}
    for graph in {"encoder", "tokenizer"} & set(model.manifest.graphs):
        on_device = model.run_on_device(graph, **none)
        for output, values in model.run(graph, **none).items():
            axes = model.manifest.graphs[graph].outputs
            (tensor,) = [x for x in axes if x.name == output]
            assert len(values) == 0
            assert values.ndim == len(tensor.axes)
            assert on_device[output].numpy().shape == values.shape
