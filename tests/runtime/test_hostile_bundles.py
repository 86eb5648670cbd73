"""A bundle from a stranger, manifest and hashes included, reaches nothing outside its folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import w2v_edge
from w2v_edge.bundle_files import Bundle
from w2v_edge.errors import BundleIntegrityError, InferenceError, W2VEdgeError
from w2v_edge.runtime.golden import check_golden

CLIP = np.sin(np.arange(4_000) / 9).astype(np.float32) / 2
GRAPH = "tokenizer.onnx"
DATA = "quantizer.bin"

Reseal = Callable[..., None]
Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture
def folder(copied_bundle: Callable[[str], Path]) -> Path:
    """A bundle of the test's own, beside a file that it must not read."""
    folder = copied_bundle("base-small")
    (folder.parent / "secret.bin").write_bytes(bytes(64))
    return folder


@pytest.fixture
def refuses(folder: Path, reseal: Reseal) -> Callable[..., None]:
    """`refuses(edit, words)`: a tokenizer edited, its hashes written anew, is not opened."""

    def check(edit: Edit, words: str) -> None:
        model = onnx.load(folder / GRAPH, load_external_data=False)
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


@pytest.mark.parametrize("place", PLACES)
def test_no_tensor_leads_out(refuses: Callable[..., None], place: Callable[..., None]) -> None:
    """Wherever in a graph a tensor is, its data is in a file of the bundle."""
    refuses(
        lambda model: place(model, _external("../secret.bin")), r"reads file '\.\./secret\.bin'"
    )


@pytest.mark.parametrize(
    "location",
    [
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
    ],
)
def test_no_location_leads_out(refuses: Callable[..., None], location: str) -> None:
    """Data is in files that the manifest names for this graph, by these names; not in memory."""
    refuses(lambda model: _in_initializer(model, _external(location)), "reads file")


@pytest.mark.parametrize(
    "places",
    [
        {"length": str(2**40)},
        {"offset": str(2**40)},
        {"offset": str(2**63 - 8)},
        {"offset": "-16"},
        {"offset": "1e3"},
        {"offset": "1" * 400},
        {"offset": "٣"},
    ],
)
def test_no_place_is_beyond_the_file(refuses: Callable[..., None], places: dict[str, str]) -> None:
    """Data lies within its file."""
    tensor = _external(DATA, **places)
    refuses(lambda model: _in_initializer(model, tensor), r"up to byte|place")


def test_no_place_is_told_twice(refuses: Callable[..., None]) -> None:
    """A reader that takes another of two statements must not be led elsewhere."""
    tensor = _external(DATA)
    tensor.external_data.add(key="offset", value="0")
    refuses(lambda model: _in_initializer(model, tensor), "two places")


@pytest.mark.parametrize("dims", [[2**40], [2**32, 2**32], [-1], [1] * 80, [2**62] * 30])
def test_no_tensor_claims_more_than_it_has(refuses: Callable[..., None], dims: list[int]) -> None:
    """A tensor has data for the numbers it claims, so memory follows the file."""
    for tensor in (TensorProto(dims=dims, data_type=1, raw_data=b"1234"), _external(DATA)):
        del tensor.dims[:]
        tensor.dims.extend(dims)
        refuses(lambda model, tensor=tensor: _in_attribute(model, tensor), "a tensor of shape")


def test_graphs_within_graphs_end(folder: Path, reseal: Reseal) -> None:
    """Depth is bounded, where protobuf's own reader may not bound it."""

    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
        return bytes([number << 3 | 2]) + length + content

    graph = b""
    for _ in range(2_000):
        graph = field(1, field(5, field(6, graph)))
    (folder / GRAPH).write_bytes(field(7, graph))
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match="without end"):
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


@pytest.mark.parametrize("content", [b"", b"ORTM" * 20, b"\x3a\x05abc", b"\xff" * 40, b"\x3b" * 9])
def test_what_is_no_graph(folder: Path, reseal: Reseal, content: bytes) -> None:
    """Bytes that are no ONNX file are refused before onnxruntime guesses what they are."""
    (folder / GRAPH).write_bytes(content)
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match=r"tokenizer\.onnx: no graph of this format"):
        w2v_edge.load(folder).tokenize(CLIP)


@pytest.mark.parametrize("name", [GRAPH, DATA, "manifest.json"])
def test_links_out_of_the_folder(folder: Path, name: str) -> None:
    """A file that is a link to elsewhere is refused, though it has the right content."""
    shutil.move(folder / name, folder.parent / name)
    (folder / name).symlink_to(Path("..") / name)
    with pytest.raises(BundleIntegrityError, match=f"{name}: a link out of"):
        w2v_edge.load(folder).tokenize(CLIP)
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    with pytest.raises(W2VEdgeError, match=name):
        w2v_edge.load(folder).tokenize(CLIP)


def test_the_folder_may_be_a_link(folder: Path) -> None:
    """A bundle that is reached through a link, as in caches, is one."""
    link = folder.parent / "link"
    link.symlink_to(folder, target_is_directory=True)
    assert w2v_edge.load(link).tokenize(CLIP).shape[1] == 2


@pytest.mark.parametrize("name", [GRAPH, DATA, "golden.npz", "manifest.json"])
def test_pipes_are_not_waited_for(folder: Path, name: str) -> None:
    """What is no file is refused, not opened."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(W2VEdgeError, match=f"{name}"):
        Bundle.open(folder).check_all()
    with pytest.raises(W2VEdgeError, match=f"{name}"):
        check_golden(w2v_edge.load(folder))


def test_giant_results_are_typed_errors(folder: Path, reseal: Reseal) -> None:
    """A graph that asks for more memory than there is fails as inference does."""
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


def _npz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _npy(shape: str, descr: str = "'<f4'", data: bytes = bytes(16)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        _npz({"waveform.npy": _npy("(1000000000000,)")}),
        _npz({"waveform.npy": _npy("(1099511627776, 1099511627776)")}),
        _npz({"waveform.npy": _npy("(-4,)")}),
        _npz({"waveform.npy": _npy("()", "'<U2000000000'")}),
        _npz({"waveform.npy": _npy("(4,)", "'|O'")}),
        _npz({"waveform.npy": _npy("(4,)", "[('a', '<f4')]")}),
        _npz({"waveform.npy": b"\x80\x04cos\nsystem\n."}),
        _npz({f"{i}.npy": _npy("(4,)") for i in range(100)}),
        _npz({"waveform.npy": _npy("(4,)")}),
        _npz({"bars.npy": _npy("()", "'<U4'", "[[[[".encode("utf-32-le"))}),
        b"PK\5\6" + bytes(18),
        b"",
    ],
)
def test_golden_vectors_that_are_none(folder: Path, reseal: Reseal, content: bytes) -> None:
    """Archives that lie about sizes, expand or hold objects are refused, nothing being run."""
    (folder / "golden.npz").write_bytes(content)
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match=r"golden\.npz"):
        check_golden(w2v_edge.load(folder))


def test_archives_that_expand(
    folder: Path, reseal: Reseal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small archive of a large array is refused before the array is made."""
    monkeypatch.setattr("w2v_edge.runtime.npz.MOST_BYTES", 2**20)
    content = _npz({"waveform.npy": _npy("(1000000,)", data=bytes(4_000_000))})
    assert len(content) < 10_000
    (folder / "golden.npz").write_bytes(content)
    reseal(folder)
    with pytest.raises(BundleIntegrityError, match="more or larger arrays"):
        check_golden(w2v_edge.load(folder))


HUGE = 10**400
CHANGES: tuple[dict[str, Any], ...] = (
    {"hop": 10**18},
    {"hop": HUGE},
    {"left_padding": 10**12},
    {"receptive_field": 2**62, "min_samples": 1},
    {"sample_rate": 10**18},
    {"longest_context_seconds": HUGE},
    {"config": {"context": 3}},
    {"config": {"context": {"adapter": []}}},
    {"config": {"context": {"adapter": {"layers": 10**9, "kernel": 1, "stride": 1, "padding": 0}}}},
    {"config": {"context": {"adapter": {"layers": 8, "kernel": 1, "stride": HUGE, "padding": 0}}}},
    {"parity": {}},
    {"parity": {"passed": "yes\x1b[2J"}},
    {"graphs": {"../x": {"inputs": [], "outputs": [], "data": [], "operators": {}}}},
    {
        "graphs": {
            "encoder": {"inputs": [], "outputs": [], "data": ["/etc/passwd"], "operators": {}}
        }
    },
    {"tools": {"a\nb" * 10**6: 3}},
)


@pytest.mark.parametrize("changes", CHANGES)
def test_numbers_that_no_bundle_has(folder: Path, reseal: Reseal, changes: dict[str, Any]) -> None:
    """Numbers and names that would exhaust memory or leave the folder are refused as read."""
    reseal(folder, **changes)
    with pytest.raises(BundleIntegrityError, match=r"manifest\.json") as refused:
        Bundle.open(folder)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1_000


def test_deep_manifests(folder: Path) -> None:
    """Nesting without end is damage, at any depth that some reader still takes."""
    for depth in (200, 500, 900, 5_000, 100_000):
        nested = "[" * depth + "]" * depth
        (folder / "manifest.json").write_text(f'{{"format_version": 1, "config": {nested}}}')
        with pytest.raises(BundleIntegrityError, match=r"manifest\.json"):
            Bundle.open(folder)


def test_golden_vectors_of_another_model(folder: Path, reseal: Reseal) -> None:
    """Golden vectors with other shapes, or some missing, are an error that names the file."""
    with np.load(folder / "golden.npz") as archive:
        arrays = dict(archive)
    for name in arrays:
        for other in (None, np.zeros((3, 2)), np.array("{}"), arrays[name].ravel()[:0]):
            changed = {k: v for k, v in arrays.items() if k != name}
            if other is not None:
                changed[name] = other
            np.savez(folder / "golden.npz", **changed)
            reseal(folder)
            _verify_once(folder)


def _verify_once(folder: Path) -> None:
    """Compare; what differs may be told as a row or as an error, and is nothing else."""
    try:
        check_golden(w2v_edge.load(folder))
    except W2VEdgeError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right


def test_manifests_are_shown_as_text(
    folder: Path, reseal: Reseal, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a manifest says cannot steer the terminal that shows it."""
    from w2v_edge.cli.group import run

    manifest = json.loads((folder / "manifest.json").read_text())
    reseal(folder, source=manifest["source"] | {"name": "\x1b]0;owned\x07 \x1b[2J"})
    assert run(["inspect", str(folder)]) == 0
    assert "\x1b" not in capfd.readouterr().out
