"""Graphs with int8 weights are correct on any processor and in any batch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import w2v_edge
from w2v_edge.bundle.golden import check_golden
from w2v_edge.model import SpeechModel, load_checkpoint
from w2v_edge_export import reference
from w2v_edge_export.deployable.layers import Conv
from w2v_edge_export.deployable.ops import windows
from w2v_edge_export.parts import parts
from w2v_edge_export.weight_quantization.calibration import products, run_twins
from w2v_edge_export.weight_quantization.plan import QuantizedLayer

Floats = npt.NDArray[np.float32]
Plain = Callable[..., dict[str, npt.NDArray[Any]]]

GRAPHS = ("encoder", "tokenizer", "frontend", "context")

samples = (
    st.sampled_from([0, 1, 5, 399, 400, 401, 639, 640, 720])
    | st.integers(0, 2_000)
    | st.integers(15_000, 30_000)
)
garbage = st.lists(st.sampled_from([np.nan, 1e4, -1e4, np.inf, 0.0]), min_size=1, max_size=3)


@pytest.fixture
def model(name: str, checkpoint: Callable[[str], Path]) -> SpeechModel:
    """The model that the bundle was made from."""
    return load_checkpoint(checkpoint(name))


@pytest.fixture(scope="session")
def voice(speech: dict[str, Floats]) -> Floats:
    """All recordings, one after the other."""
    return np.concatenate(list(speech.values()))


def cosines(found: Floats, expected: Floats) -> npt.NDArray[np.float64]:
    """Return the cosine of each frame of (n, d) with that of the other; 0 where one is zero."""
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return np.where((a == b).all(axis=1), 1.0, cosine)


def _integer_products(nodes: list[onnx.NodeProto]) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Yield the products of integers, each with the name of its inputs' zero point."""
    for node in nodes:
        if node.op_type == "MatMulIntegerToFloat":
            yield node, node.input[4]
        if node.op_type == "MatMulInteger":
            yield node, node.input[2]


def test_no_processor_saturates(
    name: str,
    int8_bundle: Callable[[str], Path],
    int8_weights: Any,
    all_nodes: Any,
    assert_pairs_fit: Callable[[npt.NDArray[Any]], None],
) -> None:
    """Neighbouring weights times any two unsigned bytes fit into 16 bits, in every product."""
    for graph in GRAPHS:
        path = int8_bundle(name) / f"{graph}.onnx"
        weights, nodes = int8_weights(path), all_nodes(path)
        constants = {x.output[0]: x.attribute[0].t for x in nodes if x.op_type == "Constant"}
        found = list(_integer_products(nodes))
        assert len({node.input[1] for node, _ in found}) == len(weights) > 0
        for node, zero_point in found:
            # The operators ask for one type of both, the inputs and their zero point.
            assert constants[zero_point].data_type == onnx.TensorProto.UINT8
            values = weights[node.input[1].removesuffix(".weight.int8")].astype(np.int64)
            assert_pairs_fit(values)


def test_no_range_spans_steps(
    name: str, int8_bundle: Callable[[str], Path], all_nodes: Any
) -> None:
    """Inputs are rounded with constant ranges or with one a row, never with one for a tensor."""
    for graph in GRAPHS:
        nodes = all_nodes(int8_bundle(name) / f"{graph}.onnx")
        assert not [x.op_type for x in nodes if x.op_type.startswith("Dynamic")]
        constants = {x.output[0]: x.attribute[0].t for x in nodes if x.op_type == "Constant"}
        rounded = [x for x in nodes if x.op_type == "QuantizeLinear"]
        assert rounded
        for node in rounded:
            axes = [x.i for x in node.attribute if x.name == "axis"]
            if node.input[1] in constants:
                assert constants[node.input[1]].dims == []
            else:
                # Its scales are one-dimensional, one for each row of the input.
                assert axes == [0]


def test_the_manifest_says_what_is_int8(
    name: str, int8_bundle: Callable[[str], Path], int8_weights: Any
) -> None:
    """The manifest lists layers, budgets and measurements as in the graphs."""
    folder = int8_bundle(name)
    manifest = w2v_edge.load(folder).manifest
    assert manifest.precision == "int8"
    stated = manifest.weight_quantization
    assert stated is not None
    assert stated["budgets"] == {
        "min_cosine": 0.998,
        "max_code_drift": 0.05,
        "require_speedup": 0.0,
    }
    measured = stated["measured"]
    assert measured["context_cosine"] >= 0.998
    assert measured["code_drift"] <= measured["drift_bound"] <= 0.05
    assert measured["codes"] > 2_000
    assert measured["speedup"] > 0
    layers = {x["name"]: x["precision"] for x in stated["layers"]}
    integers = {x for x, precision in layers.items() if precision == "int8"}
    assert set(int8_weights(folder / "encoder.onnx")) == integers
    assert len(integers) > 10
    assert not any(x.startswith("quantizer.") for x in layers)


@settings(max_examples=4)
@given(lengths=st.lists(samples, min_size=2, max_size=3), extra=samples, garbage=garbage)
@example(lengths=[0, 0], extra=0, garbage=[0.0])
@example(lengths=[0, 9, 40_000, 16_000], extra=700, garbage=[np.nan])
@example(lengths=[16_000, 16_001], extra=33_000, garbage=[1e4])
def test_alone_and_in_a_batch(
    name: str,
    lengths: list[int],
    extra: int,
    garbage: list[float],
    int8_bundle: Callable[[str], Path],
    small_config: Callable[[str], Any],
    voice: Floats,
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Plain,
) -> None:
    """But for single roundings, an utterance gives the same alone and in a batch, zeros past it."""
    encoder, tokenizer = (int8_bundle(name) / f"{x}.onnx" for x in ("encoder", "tokenizer"))
    utterances = [voice[i * 90_000 :][:n] * (1 + i) for i, n in enumerate(lengths)]
    batch = ragged(utterances, extra, garbage)
    encoded, tokens = plain(encoder, **batch), plain(tokenizer, **batch)
    frames = [small_config(name).geometry.frames(n) for n in lengths]
    assert encoded["frame_lengths"].tolist() == tokens["frame_lengths"].tolist() == frames
    outputs = encoded | tokens
    differing = 0
    for i, (utterance, count) in enumerate(zip(utterances, frames, strict=True)):
        single = ragged([utterance], 0, garbage)
        alone = plain(encoder, **single) | plain(tokenizer, **single)
        for output in ("features", "context", "codes"):
            assert alone[output].shape[1] == count
            assert np.all(outputs[output][i, count:] == 0)
        for output in ("features", "context"):
            near = cosines(outputs[output][i, :count], alone[output][0])
            assert near.min(initial=1.0) >= 0.9999
        differing += int((tokens["codes"][i, :count] != alone["codes"][0]).sum())
    assert differing <= math.ceil(0.001 * tokens["codes"].shape[2] * sum(frames))


def test_an_empty_batch(name: str, int8_bundle: Callable[[str], Path], empty_batch: Any) -> None:
    """A batch of 0 rows gives 0 rows in int8."""
    empty_batch(int8_bundle(name))


@settings(max_examples=10)
@given(length=st.integers(0, 30_000))
def test_the_same_codes_whatever_follows(
    name: str, length: int, int8_bundle: Callable[[str], Path], voice: Floats, plain: Plain
) -> None:
    """Past an utterance's end there may be more speech, however loud: its codes are the same."""
    tokenizer = int8_bundle(name) / "tokenizer.onnx"
    longer = voice[40_000:80_000].copy()
    longer[length:] *= 50
    found = plain(tokenizer, waveform=longer[np.newaxis], lengths=np.array([length]))["codes"]
    alone = longer[np.newaxis, :length]
    expected = plain(tokenizer, waveform=alone, lengths=np.array([length]))["codes"]
    assert not found[:, expected.shape[1] :].any()
    differing = (found[:, : expected.shape[1]] != expected).sum()
    assert differing <= math.ceil(0.001 * expected.size)


def _one_range_a_tensor(model: SpeechModel, waveform: Floats) -> Floats:
    """Compute features with the inputs of each convolution rounded in one range for all frames."""

    def rounded(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        (x,) = inputs
        scale = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 255
        return ((x / scale).round() * scale,)

    made = parts(model)
    layers = [x for x in products({"frontend": made["frontend"]}).values() if _inputs(x) >= 32]
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(rounded).remove)
        features: Floats = run_twins(made, model.config, waveform)[0][0].numpy()
    return features


def _inputs(layer: nn.Module) -> int:
    weight = layer.get_parameter("weight")
    return int(weight.shape[0])


def test_quiet_speech_survives(
    model: SpeechModel,
    candidates: Any,
    assembled: Any,
    voice: Floats,
    plain: Plain,
) -> None:
    """Speech 60 dB below its surroundings keeps its features."""
    waveform, begin, end = voice[80_000:144_000].copy(), 24_000, 48_000
    waveform[begin:end] *= 1e-3
    geometry = model.config.geometry
    first = np.arange(geometry.frames(len(waveform))) * geometry.hop - geometry.left_padding
    quiet = (first >= begin) & (first + geometry.receptive_field <= end)
    assert quiet.sum() > 50
    expected = reference.encode(model, waveform).arrays["features"][quiet]
    batch = {"waveform": waveform[np.newaxis], "lengths": np.array([len(waveform)])}
    # Every layer is int8 here: a search would take those back to float that spoil it.
    folder = assembled(model, {x.layer.name: x.layer for x in candidates(model)})
    found = plain(folder / "encoder.onnx", **batch)["features"][0, quiet]
    assert cosines(found, expected).min() >= 0.99
    assert cosines(_one_range_a_tensor(model, waveform)[quiet], expected).min() < 0.5


def _simulated(model: SpeechModel, plan: Mapping[str, QuantizedLayer], waveform: Floats) -> Floats:
    """Compute features in PyTorch, with the quantized layers of `plan`."""
    made = parts(model)

    def replaced(
        layer: QuantizedLayer,
    ) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            assert isinstance(module, Conv)
            seen = windows(inputs[0], module.kernel, module.stride)
            y = layer(seen.flatten(0, 1)).reshape(*seen.shape[:2], -1)
            return y if module.bias is None else y + module.bias

        return hook

    with ExitStack() as stack:
        for name, module in products({"frontend": made["frontend"]}).items():
            if name in plan:
                stack.callback(module.register_forward_hook(replaced(plan[name])).remove)
        features: Floats = run_twins(made, model.config, waveform)[0][0].numpy()
    return features


ROUNDING = 2e-7
"""Relative changes of samples: float32's rounding."""


def test_front_ends_compute_what_their_layers_say(
    model: SpeechModel,
    candidates: Any,
    assembled: Any,
    voice: Floats,
    plain: Plain,
) -> None:
    """Over several tiles, an int8 front end gives the features that its layers give in PyTorch."""
    plan = {x.layer.name: x.layer for x in candidates(model)}
    waveform = voice[:40_000]
    batch = {"waveform": waveform[np.newaxis], "lengths": np.array([len(waveform)])}
    found = plain(assembled(model, plan) / "encoder.onnx", **batch)["features"][0]
    expected = _simulated(model, plan, waveform)
    # A value between two integers may be rounded either way: single ones move a little.
    assert np.abs(found - expected).mean() <= 1e-3 * expected.std()
    # So every frame must be one that the layers give for samples changed by float32's rounding.
    alike, rng = cosines(found, expected), np.random.default_rng(0)
    for _ in range(16):
        if alike.min() >= 0.9999:
            break
        noise = rng.uniform(-ROUNDING, ROUNDING, len(waveform)).astype(np.float32)
        alike = np.maximum(alike, cosines(found, _simulated(model, plan, waveform * (1 + noise))))
    assert alike.min() >= 0.9999
    exact = reference.encode(model, waveform).arrays["features"]
    assert np.abs(found - exact).mean() >= 1e-2 * expected.std()


def test_a_bundle_in_int8_is_used_as_any_other(
    name: str,
    model: SpeechModel,
    int8_bundle: Callable[[str], Path],
    speech: dict[str, Floats],
) -> None:
    """Loaded by the package it encodes and tokenizes, and comes near PyTorch."""
    bundle = w2v_edge.load(int8_bundle(name))
    for clip in list(speech.values())[:3]:
        encoding = bundle.encode(clip)
        expected = reference.encode(model, clip).arrays
        for output in ("features", "context"):
            near = cosines(getattr(encoding, output), expected[output])
            assert np.quantile(near, 0.1) >= 0.995
        codes = bundle.tokenize(clip)
        assert encoding.codes is not None
        assert np.array_equal(codes, encoding.codes)
        assert codes.shape == expected["codes"].shape
        assert (codes != expected["codes"]).mean() <= 0.1


def test_golden_vectors_hold(name: str, int8_bundle: Callable[[str], Path]) -> None:
    """Every graph of a bundle reproduces its golden vectors."""
    rows, tally = check_golden(w2v_edge.load(int8_bundle(name)))
    assert all(row.ok for row in rows)
    assert {row.case.split()[0] for row in rows} == {*GRAPHS, "quantizer"}
    assert tally.compared > 500


@pytest.mark.parametrize("part", ["frontend.conv.6", "context.blocks.1.feed_forward.contract"])
def test_one_changed_byte_is_seen(
    part: str,
    int8_bundle: Callable[[str], Path],
    stored_tensors: Any,
    reseal: Callable[..., None],
    tmp_path: Path,
) -> None:
    """With the sign of one large int8 weight changed and hashes redone, golden vectors differ."""
    folder = shutil.copytree(int8_bundle("base-small"), tmp_path / "bundle")
    at = next(x for x in stored_tensors(folder) if x.name == f"{part}.weight.int8")
    values = np.memmap(folder / at.file, np.int8, "r+", offset=at.offset, shape=(at.length,))
    largest = int(np.abs(values.astype(np.int16)).argmax())
    values[largest] = -values[largest]
    values.flush()
    reseal(folder)
    rows, _ = check_golden(w2v_edge.load(folder))
    failed = {row.output for row in rows if not row.ok}
    assert failed >= {"features" if part.startswith("frontend") else "context"}
