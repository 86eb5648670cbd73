"""The contract of exported graphs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

Tensors = dict[str, tuple[Any, ...]]

WAVEFORM: Tensors = {"waveform": ("FLOAT", "batch", "samples"), "lengths": ("INT64", "batch")}
FEATURES: Tensors = {"features": ("FLOAT", "batch", "frames", "channels")}
CONTEXT: Tensors = {"context": ("FLOAT", "batch", "frames", "dim")}
CODES: Tensors = {"codes": ("INT64", "batch", "frames", "groups")}
VECTORS: Tensors = {"vectors": ("FLOAT", "batch", "frames", "vector_dim")}
FRAME_LENGTHS: Tensors = {"frame_lengths": ("INT64", "batch")}
STATISTICS: Tensors = {"statistics": ("FLOAT", "batch", "k")}

TENSORS: dict[str, tuple[Tensors, Tensors]] = {
    "encoder": (WAVEFORM, FEATURES | CONTEXT | FRAME_LENGTHS),
    "tokenizer": (WAVEFORM, CODES | FRAME_LENGTHS),
    "quantizer": (FEATURES, CODES | VECTORS),
    "frontend": (WAVEFORM, FEATURES | FRAME_LENGTHS),
    "context": (FEATURES | FRAME_LENGTHS, CONTEXT),
}
GROUP_NORM_TENSORS = TENSORS | {
    "frontend": (WAVEFORM | STATISTICS, FEATURES | FRAME_LENGTHS),
    "statistics": (WAVEFORM, STATISTICS),
}

DATA = {
    "encoder": {"frontend.bin", "context.bin"},
    "tokenizer": {"frontend.bin", "quantizer.bin"},
    "quantizer": {"quantizer.bin"},
    "frontend": {"frontend.bin"},
    "context": {"context.bin"},
    "statistics": {"frontend.bin"},
}

RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
RANDOM |= {"Bernoulli", "Multinomial", "Dropout"}


@pytest.fixture
def folder(name: str, bundle: Callable[[str], Path]) -> Path:
    """Its bundle."""
    return bundle(name)


def test_names_types_and_axes(name: str, folder: Path, small_config: Callable[[str], Any]) -> None:
    """Every graph has exactly the inputs and outputs of the contract, dynamic axes named."""
    config = small_config(name)
    sizes = {
        "channels": config.feature_encoder.channels,
        "dim": config.context.dim,
        "groups": config.quantizer.groups,
        "vector_dim": config.quantizer.vector_dim,
        "k": 2 * config.feature_encoder.channels,
    }
    expected = GROUP_NORM_TENSORS if name == "base-small" else TENSORS

    def sized(tensors: Tensors) -> Tensors:
        return {x: tuple(sizes.get(axis, axis) for axis in axes) for x, axes in tensors.items()}

    found = {path.stem: _signature(path) for path in folder.glob("*.onnx")}
    assert found == {graph: (sized(i), sized(o)) for graph, (i, o) in expected.items()}


def test_manifest_describes_the_graphs(folder: Path, all_nodes: Any) -> None:
    """The manifest describes each graph as onnx reads it."""
    graphs = json.loads((folder / "manifest.json").read_bytes())["graphs"]
    assert graphs.keys() == {path.stem for path in folder.glob("*.onnx")}
    for graph, info in graphs.items():
        inputs, outputs = _signature(folder / f"{graph}.onnx")
        types = {"FLOAT": "float", "INT64": "int64"}
        for tensors, described in ((inputs, info["inputs"]), (outputs, info["outputs"])):
            assert [(x["name"], x["type"], tuple(x["axes"])) for x in described] == [
                (x, types[kind], tuple(axes)) for x, (kind, *axes) in tensors.items()
            ]
        nodes = [
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in all_nodes(folder / f"{graph}.onnx")
        ]
        assert info["operators"] == {op: nodes.count(op) for op in set(nodes)}


def test_any_onnxruntime_since_1_20_can_read_it(folder: Path, all_nodes: Any) -> None:
    """Graphs stay within opset 21, IR 10, and the domains that onnxruntime itself brings."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for path in folder.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        versions = {opset.domain: opset.version for opset in model.opset_import}
        assert versions.pop("") == manifest["opset"] <= 21
        assert versions in ({}, {"com.microsoft": 1})
        assert model.ir_version == manifest["ir_version"] <= 10
        assert {node.domain for node in all_nodes(path)} - {""} == set(versions)


def test_opening_a_graph_prints_nothing(bundle: Callable[[str], Path], ctc_bundle: Path) -> None:
    """There is nothing for onnxruntime to warn of, with one loop in a graph or with several."""
    folders = (bundle("large-small"), bundle("base-small"), ctc_bundle)
    paths = [path for folder in folders for path in sorted(folder.glob("*.onnx"))]
    loops = {len(_loops(path)) for path in paths}
    assert loops >= {0, 1, 2}
    script = """
import sys, onnxruntime
for path in sys.argv[1:]:
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
"""
    command = [sys.executable, "-c", script, *map(str, paths)]
    opened = subprocess.run(command, check=True, capture_output=True)
    assert (opened.stdout, opened.stderr) == (b"", b"")


def test_nothing_is_random(folder: Path, all_nodes: Any) -> None:
    """No graph draws a random number: the quantizer takes the best entry."""
    for path in folder.glob("*.onnx"):
        assert not RANDOM & {node.op_type for node in all_nodes(path)}


def test_front_end_runs_in_tiles(folder: Path, all_nodes: Any) -> None:
    """For the CPU, every convolution of the front end lies inside a loop over tiles of time."""
    for graph in ("encoder", "tokenizer", "frontend"):
        top = onnx.load(folder / f"{graph}.onnx", load_external_data=False).graph.node
        assert "Scan" in {node.op_type for node in top}
        weights = {f"frontend.conv.{i}.weight" for i in range(7)}
        users = {x for node in all_nodes(folder / f"{graph}.onnx") for x in node.input}
        assert weights <= users
        assert not weights & {x for node in top for x in node.input}


def test_files_tell_nothing_of_the_machine(folder: Path) -> None:
    """No graph and no manifest names a folder of the machine or a source file of the exporter."""
    here = (str(Path(__file__).parents[2]), str(folder.parent), "site-packages", ".py")
    for path in (*folder.glob("*.onnx"), folder / "manifest.json"):
        content = path.read_bytes()
        assert [word for word in here if word.encode() in content] == []


def test_graphs_carry_no_notes(folder: Path) -> None:
    """Graphs have producer and frame geometry as metadata, and nothing of their tracing."""
    for path in folder.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert model.producer_name == "w2v-edge"
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata.keys() >= {"sample_rate", "hop", "receptive_field", "license"}
        assert not model.doc_string
        assert not model.graph.doc_string
        for node in model.graph.node:
            assert not node.doc_string
            assert not node.metadata_props


def test_each_graph_needs_only_its_data(folder: Path, stored_tensors: Any) -> None:
    """A program that only tokenizes never needs the transformer's weights, nor the other way."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    tensors = stored_tensors(folder)
    for graph, info in manifest["graphs"].items():
        needed = {tensor.file for tensor in tensors if tensor.graph == graph}
        assert set(info["data"]) == needed
        assert needed == DATA[graph]


def test_no_tensor_is_stored_twice(folder: Path, stored_tensors: Any) -> None:
    """Equal weights lie in one place, whichever graphs use them, and places do not overlap."""
    places = {(x.file, x.offset, x.length) for x in stored_tensors(folder)}
    contents: dict[bytes, tuple[str, int]] = {}
    for file, offset, length in sorted(places):
        data = (folder / file).read_bytes()[offset : offset + length]
        assert len(data) == length
        if len(set(np.frombuffer(data, np.float32).tolist())) > 1:
            assert data not in contents, (file, offset, contents[data])
            contents[data] = (file, offset)
    ordered = sorted(places)
    for (file, offset, length), (next_file, next_offset, _) in pairwise(ordered):
        assert file != next_file or offset + length <= next_offset


def test_graphs_hold_no_weights(folder: Path) -> None:
    """Graphs hold shapes and small constants inside; weights are in data files."""
    for path in folder.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                assert np.prod(tensor.dims) * 4 < 256, tensor.name


def test_large_tensors_begin_at_pages(folder: Path, stored_tensors: Any) -> None:
    """A runtime can map every weight of a page or more straight from its file."""
    large = [tensor for tensor in stored_tensors(folder) if tensor.length >= 4096]
    assert large
    assert {tensor.offset % 4096 for tensor in large} == {0}


def test_every_file_is_in_the_manifest(folder: Path) -> None:
    """The manifest names each file of the folder but itself, and no other."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert {*manifest["files"], "manifest.json"} == {path.name for path in folder.iterdir()}


def _loops(path: Path) -> list[str]:
    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "Scan"]


def _signature(path: Path) -> tuple[Tensors, Tensors]:
    graph = onnx.load(path, load_external_data=False).graph

    def read(values: Any) -> Tensors:
        return {
            value.name: (
                onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
                *(x.dim_param or x.dim_value for x in value.type.tensor_type.shape.dim),
            )
            for value in values
        }

    return read(graph.input), read(graph.output)
