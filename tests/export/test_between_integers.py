"""int8 for accelerators: convolutions between integers, in standard operators and fixed shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge.bundle import read_manifest
from w2v_edge_export import export
from w2v_edge_export.budget_gate import SPEECH_FRAMES
from w2v_edge_export.selection import EVERYTHING, read_source, select
from w2v_edge_export.verification import compare_weights
from w2v_edge_export.weight_quantization.plan import LEVELS16, ROOM, FixedRange

SAMPLES = 16_000
FLOAT_PRODUCTS = ("frontend.conv.0", "statistics.conv", "quantizer.scorer")

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def qnn(
    shared_folder: Path,
    checkpoint: Callable[[str], Path],
    locked: Callable[[str], AbstractContextManager[None]],
) -> Path:
    """A small model in int8 for `qnn`."""
    folder = shared_folder / "bundles" / "tiny-qnn-int8"
    with locked("bundle-qnn"):
        if not folder.exists():
            export(checkpoint("tiny"), folder, target="qnn", precision="int8", samples=[SAMPLES])
    return folder


def test_every_product_is_a_convolution_between_integers(qnn: Path, all_nodes: Any) -> None:
    """Weights are int8, what goes in and comes out is rounded to 16 bits, by standard operators."""
    for name in ("encoder", "tokenizer", "frontend", "context"):
        path = qnn / f"{name}-{SAMPLES}.onnx"
        graph, nodes = onnx.load(path).graph, all_nodes(path)
        assert {node.domain for node in nodes} == {""}
        weights = {x.name: x.data_type for x in graph.initializer}
        made = {output: node for node in nodes for output in node.output}
        constants = {x.output[0]: x.attribute[0].t for x in nodes if x.op_type == "Constant"}
        convolutions = [node for node in nodes if node.op_type == "Conv"]
        assert convolutions
        for node in convolutions:
            given, weight = (made[x] for x in node.input)
            assert (given.op_type, weight.op_type) == ("DequantizeLinear",) * 2
            assert weights[weight.input[0]] == onnx.TensorProto.INT8
            (user,) = (x for x in nodes if node.output[0] in x.input)
            assert user.op_type == "QuantizeLinear"
            for rounding in (user, made[given.input[0]]):
                assert constants[rounding.input[2]].data_type == onnx.TensorProto.UINT16
        products = [x for node in nodes if node.op_type == "MatMul" for x in node.input]
        assert all(x.startswith(FLOAT_PRODUCTS) for x in products if x in weights)


def test_results_are_those_of_float32(
    qnn: Path, bundle: Callable[[str], Path], speech: dict[str, Floats]
) -> None:
    """Codes and context change as little as the budgets allow, where most is silence too."""
    integers, floats = w2v_edge.load(qnn), w2v_edge.load(bundle("tiny"))
    assert integers.precision == "int8"
    audio = np.concatenate(list(speech.values()))
    sparse = np.zeros(SAMPLES, np.float32)
    sparse[5_000:6_600] = audio[SAMPLES : SAMPLES + 1_600]
    differing = []
    for clip in (*np.split(audio[: 12 * SAMPLES], 12), audio[:5_000], sparse):
        found, expected = integers.encode(clip), floats.encode(clip)
        differing.append(np.asarray(found.codes != expected.codes))
        assert differing[-1].mean() < 0.15
        a, b = found.context.astype(float), expected.context.astype(float)
        cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert np.quantile(cosines, 0.1) > 0.998
    assert np.concatenate(differing).mean() < 0.06


def test_padding_changes_nothing(qnn: Path, speech: dict[str, Floats]) -> None:
    """Ranges are fixed: a shorter utterance is as it is with other padding, to the bit."""
    model = w2v_edge.load(qnn)
    clip = next(iter(speech.values()))[: SAMPLES // 2]
    rows = []
    for padding in (0.0, np.nan, 1e30):
        waveform = np.full((1, SAMPLES), padding, np.float32)
        waveform[0, : len(clip)] = clip
        rows.append(model.run("encoder", waveform=waveform, lengths=np.array([len(clip)])))
    for other in rows[1:]:
        for name, values in rows[0].items():
            np.testing.assert_array_equal(other[name], values)


def test_the_weights_are_those_of_the_checkpoint(
    qnn: Path, checkpoint: Callable[[str], Path]
) -> None:
    """`verify --checkpoint` finds each weight up to its rounding; the manifest says which."""
    model = select(read_source(checkpoint("tiny"), EVERYTHING).model, EVERYTHING)
    assert compare_weights(model, w2v_edge.load(qnn)) == []
    stated = read_manifest(qnn).weight_quantization
    assert stated is not None
    assert {x["ranges"] for x in stated["layers"] if x["precision"] == "int8"} == {"static16"}
    # On this machine it is computed in float32.
    assert stated["measured"]["speedup"] is None


def test_budgets_are_measured_on_many_frames(qnn: Path) -> None:
    """Of 1 s the cases have 67 frames; further speech joins them."""
    parity = json.loads((qnn / "manifest.json").read_bytes())["parity"]
    assert parity["codes_compared"] >= 2 * SPEECH_FRAMES


@given(
    low=st.floats(-1e4, 1e4), high=st.floats(-1e4, 1e4), share=st.floats(0, 1), beyond=st.floats(1)
)
def test_ranges_have_room_and_hold_zero(
    low: float, high: float, share: float, beyond: float
) -> None:
    """Within the room values are rounded by half a level at most, beyond it they are clipped."""
    low, high = sorted((low, high))
    fixed = FixedRange.around(low, high)
    assert 0 <= fixed.zero_point <= LEVELS16
    first, last = ROOM * min(0.0, low), ROOM * max(0.0, high)
    inside = first + share * (last - first)
    values = torch.tensor([0.0, inside, first * beyond, last * beyond], dtype=torch.float64)
    found = fixed.rounded(values)
    wanted = torch.tensor([0.0, inside, first, last], dtype=torch.float64)
    assert found[0] == 0
    assert (found - wanted).abs().max() <= fixed.scale * (1 + 1e-6)
