"""Shared fixtures of export tests: readers of graphs, ragged batches, a short gate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch

from w2v_edge.model import SpeechModel
from w2v_edge_export.graphs import GraphAssembler
from w2v_edge_export.parts import lower_parts, parts, trace_parts
from w2v_edge_export.targets import load_target
from w2v_edge_export.trace_cache import trace_folder
from w2v_edge_export.weight_quantization.calibration import calibration_audio
from w2v_edge_export.weight_quantization.layers import Candidate, make_candidates
from w2v_edge_export.weight_quantization.plan import Plan

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


MODELS = ("tutorial-small", "base-small", "large-small")
"""One small model for each architecture; `tiny` has the one of `large`."""


@pytest.fixture(scope="session", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    """Every architecture."""
    model: str = request.param
    return model


@dataclass(frozen=True)
class Stored:
    """A tensor in a data file."""

    graph: str
    name: str
    file: str
    offset: int
    length: int


@pytest.fixture(scope="session")
def stored_tensors() -> Callable[[Path], list[Stored]]:
    """`stored_tensors(folder)`: every reference from a graph into a data file."""

    def read(folder: Path) -> list[Stored]:
        found = []
        for path in sorted(folder.glob("*.onnx")):
            for tensor in onnx.load(path, load_external_data=False).graph.initializer:
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    at = {entry.key: entry.value for entry in tensor.external_data}
                    offset, length = int(at["offset"]), int(at["length"])
                    found.append(Stored(path.stem, tensor.name, at["location"], offset, length))
        return found

    return read


@pytest.fixture(scope="session")
def all_nodes() -> Callable[[Path], list[onnx.NodeProto]]:
    """`all_nodes(path)`: the nodes of a graph, those of loops' bodies included."""

    def walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    yield from walk(inner)

    def read(path: Path) -> list[onnx.NodeProto]:
        model = onnx.load(path, load_external_data=False)
        assert not model.functions
        return list(walk(model.graph))

    return read


@pytest.fixture(scope="session")
def int8_weights() -> Callable[[Path], dict[str, npt.NDArray[np.int8]]]:
    """`int8_weights(path)`: the weights of a graph that are integers, by the layer's name."""

    def read(path: Path) -> dict[str, npt.NDArray[np.int8]]:
        return {
            x.name.removesuffix(".weight.int8"): onnx.numpy_helper.to_array(x)
            for x in onnx.load(path).graph.initializer
            if x.data_type == onnx.TensorProto.INT8
        }

    return read


@pytest.fixture(scope="session")
def candidates() -> Callable[[SpeechModel], list[Candidate]]:
    """`candidates(model)`: its layers in int8, as an export rounds them by default."""

    def make(model: SpeechModel) -> list[Candidate]:
        config = model.config
        audio = calibration_audio(None, config.sample_rate, config.geometry)
        return make_candidates(parts(model), config, *audio)

    return make


@pytest.fixture
def assembled(tmp_path: Path) -> Callable[[SpeechModel, Plan], Path]:
    """`assembled(model, plan)`: a folder with its encoder and tokenizer, made with `plan`."""
    count = itertools.count()

    def make(model: SpeechModel, plan: Plan) -> Path:
        folder = tmp_path / f"graphs-{next(count)}"
        folder.mkdir()
        target = load_target("cpu")
        lowered = lower_parts(trace_parts(model, target, cache=trace_folder()), target, plan)
        for name in ("encoder", "tokenizer"):
            graph = GraphAssembler(model.config, target, lowered).build(name)
            ir.save(graph, folder / f"{name}.onnx")
        return folder

    return make


@pytest.fixture(scope="session")
def ragged() -> Callable[..., dict[str, npt.NDArray[Any]]]:
    """`ragged(utterances, extra, garbage)`: padded inputs `waveform` and `lengths`.

    `extra` samples of padding follow the longest; `garbage` fills all padding, repeated.
    """

    def lay_out(
        utterances: Sequence[Floats], extra: int, garbage: Sequence[float]
    ) -> dict[str, npt.NDArray[Any]]:
        samples = max(map(len, utterances)) + extra
        waveform = np.resize(np.array(garbage, np.float32), (len(utterances), samples))
        for row, utterance in zip(waveform, utterances, strict=True):
            row[: len(utterance)] = utterance
        return {"waveform": waveform, "lengths": np.array([len(x) for x in utterances], np.int64)}

    return lay_out


@pytest.fixture(autouse=True)
def short_thorough_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the thorough set, which `verify --checkpoint` compares."""
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5, 7.3))
    monkeypatch.setattr("w2v_edge_export.exact_gate.THOROUGH_CODES", 4_000)


@pytest.fixture
def quick_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the parity gate, for tests that depend on its verdict only."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 1.0)
    monkeypatch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)


@pytest.fixture(scope="session")
def same_codes(checkpoint: Callable[[str], Path]) -> Callable[..., None]:
    """`same_codes(name, found, expected, features)`: assert that codes differ at ties only.

    A tie has its two best logits within 1e-4 of the standard deviation of all logits.
    """

    def check(name: str, found: Codes, expected: Codes, features: Floats) -> None:
        assert found.dtype == expected.dtype == np.int64
        assert found.shape == expected.shape
        if np.array_equal(found, expected):
            return
        tensors = torch.load(checkpoint(name), weights_only=True)["model"]
        weight, bias = (tensors[f"quantizer.scorer.{x}"].numpy() for x in ("weight", "bias"))
        groups = found.shape[-1]
        logits = (features @ weight.T + bias).reshape(*features.shape[:-1], groups, -1)
        second, best = np.moveaxis(np.sort(logits, axis=-1)[..., -2:], -1, 0)
        tie = best - second < 1e-4 * logits.std()
        assert tie[found != expected].all()

    return check


@pytest.fixture(scope="session")
def assert_pairs_fit() -> Callable[[npt.NDArray[Any]], None]:
    """`assert_pairs_fit(values)`: no two neighbours of int8 weights (..., k, n) saturate.

    x86 without VNNI adds the products of two neighbouring inputs, unsigned bytes, in 16 bits.
    """

    def check(values: npt.NDArray[Any]) -> None:
        assert np.abs(values.astype(np.int64)).max() <= 127
        odd = values.shape[-2] % 2
        pads = [(0, 0)] * (values.ndim - 2) + [(0, odd), (0, 0)]
        padded = np.pad(values.astype(np.int64), pads)
        # The worst inputs are 255 wherever a weight has the one sign, and 0 elsewhere.
        for part in (padded.clip(0), padded.clip(None, 0)):
            sums = 255 * (part[..., ::2, :] + part[..., 1::2, :])
            assert sums.min() >= -(2**15)
            assert sums.max() <= 2**15 - 1

    return check
