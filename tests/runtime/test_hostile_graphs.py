"""Untrusted graphs with valid hashes read no other files and allocate no more than they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import w2v_edge
from w2v_edge.errors import BundleIntegrityError, InferenceError

CLIP = np.sin(np.arange(4_000) / 9).astype(np.float32) / 2
GRAPH = "tokenizer.onnx"
DATA = "quantizer.bin"

Reseal = Callable[..., None]
Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture
def folder(copied_bundle: Callable[[str], Path]) -> Path:
    """A copy of a bundle, beside a file that it must not read."""
    folder = copied_bundle("base-small")
    (folder.parent / "secret.bin").write_bytes(bytes(64))
    return folder


@pytest.fixture
def refuses(folder: Path, reseal: Reseal) -> Callable[..., None]:
    """`refuses(edit, words)`: a tokenizer, edited and hashed again, is refused."""
    whole = (folder / GRAPH).read_bytes()

    def check(edit: Edit, words: str) -> None:
        model = onnx.load_from_string(whole)
        edit(model)
        (folder / GRAPH).write_bytes(model.SerializeToString())
        reseal(folder)
        with pytest.raises(BundleIntegrityError, match=words) as refused:
            w2v_edge.load(folder).tokenize(CLIP)
        assert str(folder / GRAPH) in str(refused.value)
        assert "\n" not in str(refused.value)

    return check


def _external(location: str, **places: str) -> TensorProto:
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16", **places}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["stolen_value"], value=tensor)


def _sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(4), "indices")
    return onnx.SparseTensorProto(values=tensor, indices=indices, dims=[4])


def _in_initializer(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def _in_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(_constant(tensor))


def _in_attribute_list(model: onnx.ModelProto, tensor: TensorProto) -> None:
    attribute = onnx.AttributeProto(name="x", type=onnx.AttributeProto.TENSORS, tensors=[tensor])
    model.graph.node[0].attribute.append(attribute)


def _in_subgraph(model: onnx.ModelProto, tensor: TensorProto) -> None:
    graph = helper.make_graph([], "inner", [], [], [tensor])
    middle = helper.make_graph(
        [helper.make_node("If", ["x"], ["y"], then_branch=graph)], "m", [], []
    )
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=middle))


def _in_subgraph_list(model: onnx.ModelProto, tensor: TensorProto) -> None:
    graph = helper.make_graph([], "inner", [], [], [tensor])
    attribute = onnx.AttributeProto(name="x", type=onnx.AttributeProto.GRAPHS, graphs=[graph])
    model.graph.node[0].attribute.append(attribute)


def _in_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("d", "F", [], ["stolen_value"], [_constant(tensor)], opset)
    )


def _in_default(model: onnx.ModelProto, tensor: TensorProto) -> None:
    default = helper.make_attribute("x", tensor)
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("d", "F", [], [], [], opset, attribute_protos=[default])
    )


def _in_sparse_initializer(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.append(_sparse(tensor))


def _in_sparse_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["x"], sparse_value=_sparse(tensor))
    model.graph.node.append(node)


def _in_training(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().algorithm.initializer.append(tensor)


PLACES = (
    _in_initializer,
    _in_attribute,
    _in_attribute_list,
    _in_subgraph,
    _in_subgraph_list,
    _in_function,
    _in_default,
    _in_sparse_initializer,
    _in_sparse_attribute,
    _in_training,
)


def test_no_tensor_leads_out(refuses: Callable[..., None]) -> None:
    """A tensor at any place in a graph reads files of the bundle only."""
    for place in PLACES:
        refuses(
            lambda model, place=place: place(model, _external("../secret.bin")),
            r"reads file '\.\./secret\.bin'",
        )


def test_no_location_leads_out(refuses: Callable[..., None]) -> None:
    """External data is in the files that the manifest names for the graph."""
    cases: list[str] = [
        "/etc/hostname",
        "/dev/zero",
        "./../secret.bin",
        f"./{DATA}",
        f"{DATA}\0/../../secret.bin",
        "*/_ORT_MEM_ADDR_/*",
        "context.bin",
        "golden.npz",
        "",
        "..\\secret.bin",
    ]
    for location in cases:
        refuses(lambda model, to=location: _in_initializer(model, _external(to)), "reads file")


def test_no_place_is_beyond_the_file(refuses: Callable[..., None]) -> None:
    """External data lies within its file."""
    cases: list[dict[str, str]] = [
        {"length": str(2**40)},
        {"offset": str(2**40)},
        {"offset": str(2**63 - 8)},
        {"offset": "-16"},
        {"offset": "1e3"},
        {"offset": "1" * 400},
        {"offset": "٣"},
    ]
    for places in cases:
        tensor = _external(DATA, **places)
        refuses(lambda model, tensor=tensor: _in_initializer(model, tensor), r"up to byte|place")


def test_duplicate_places_are_refused(refuses: Callable[..., None]) -> None:
    """External data with two offsets is refused."""
    tensor = _external(DATA)
    tensor.external_data.add(key="offset", value="0")
    refuses(lambda model: _in_initializer(model, tensor), "two locations")


def test_no_tensor_claims_more_than_it_has(refuses: Callable[..., None]) -> None:
    """A tensor has data for every value that its shape claims."""
    cases: list[list[int]] = [[2**40], [2**32, 2**32], [-1], [1] * 80, [2**62] * 30]
    for dims in cases:
        for tensor in (TensorProto(dims=dims, data_type=1, raw_data=b"1234"), _external(DATA)):
            del tensor.dims[:]
            tensor.dims.extend(dims)
            refuses(lambda model, tensor=tensor: _in_attribute(model, tensor), "a tensor of shape")


def test_graphs_within_graphs_end(folder: Path, reseal: Reseal) -> None:
    """The depth of nested graphs is bounded."""

    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
        return bytes([number << 3 | 2]) + length + content

    graph = b""
    for _ in range(2_000):
        graph = field(1, field(5, field(6, graph)))
    (folder / GRAPH).write_bytes(field(7, graph))
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match="nested too deeply"):
        w2v_edge.load(folder).tokenize(CLIP)


def test_other_inputs_or_outputs(refuses: Callable[..., None], folder: Path) -> None:
    """A graph has the inputs and outputs of the manifest: names, types and ranks."""
    whole = (folder / GRAPH).read_bytes()

    def retype(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    edits: list[tuple[Edit, str]] = [
        (lambda model: setattr(model.graph.output[0], "name", "other"), "outputs: found 'other"),
        (lambda model: model.graph.input.pop(), "1 inputs, the manifest has 2"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim.pop(), "of rank 1"),
        (lambda model: model.graph.input[0].type.Clear(), "inputs|one"),
        (retype, "inputs: found 'waveform"),
    ]
    for edit, words in edits:
        (folder / GRAPH).write_bytes(whole)
        refuses(edit, words)


def test_other_files_are_refused(folder: Path, reseal: Reseal) -> None:
    """Bytes that are no ONNX file are refused before onnxruntime reads them."""
    cases: list[bytes] = [b"", b"ORTM" * 20, b"\x3a\x05abc", b"\xff" * 40, b"\x3b" * 9]
    for content in cases:
        (folder / GRAPH).write_bytes(content)
        reseal(folder)
        with pytest.raises(BundleIntegrityError, match=r"tokenizer\.onnx: not a graph of this"):
            w2v_edge.load(folder).tokenize(CLIP)


def test_giant_results_are_typed_errors(folder: Path, reseal: Reseal) -> None:
    """A graph that needs more memory than available is an `InferenceError`."""
    model = onnx.load(folder / GRAPH, load_external_data=False)
    nodes = model.graph.node
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [2**20, 2**20, 2**20])
    nodes.append(helper.make_node("Constant", [], ["giant_shape"], value=shape))
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    (node,) = (x for x in nodes if "codes" in x.output)
    node.output[list(node.output).index("codes")] = "codes_before"
    nodes.append(helper.make_node("ConstantOfShape", ["giant_shape"], ["giant"], value=zero))
    nodes.append(helper.make_node("Add", ["giant", "codes_before"], ["codes"]))
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)
    with pytest.raises(InferenceError, match="tokenizer"):
        w2v_edge.load(folder).tokenize(CLIP)


def test_results_of_another_rank(folder: Path, reseal: Reseal) -> None:
    """An output with another rank than declared is an `InferenceError`."""
    model = onnx.load(folder / GRAPH, load_external_data=False)
    nodes = model.graph.node
    (node,) = (x for x in nodes if "codes" in x.output)
    node.output[list(node.output).index("codes")] = "codes_before"
    for name, value in (("flat", -1), ("nothing", 0)):
        tensor = helper.make_tensor(name, TensorProto.INT64, [1], [value])
        nodes.append(helper.make_node("Constant", [], [f"{name}_value"], value=tensor))
    # How many numbers are in the shape depends on the lengths that come in.
    nodes.append(helper.make_node("Slice", ["flat_value", "nothing_value", "lengths"], ["shape_"]))
    nodes.append(helper.make_node("Reshape", ["codes_before", "shape_"], ["codes"]))
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)
    with pytest.raises(InferenceError, match=r"'codes' has shape .*expected axes batch"):
        w2v_edge.load(folder).tokenize(CLIP)
