"""Write the valid files that fuzzing starts from: `python tests/fuzz/seeds.py BUNDLE`.

They are small, so that mutations hit what counts.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper

CORPUS = Path(__file__).parent / "corpus"

AUDIO = (
    ("wav", "PCM_16"),
    ("wav", "FLOAT"),
    ("wav", "IMA_ADPCM"),
    ("rf64", "PCM_16"),
    ("w64", "PCM_16"),
    ("aiff", "PCM_16"),
    ("au", "PCM_16"),
    ("caf", "ALAC_16"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("mp3", "MPEG_LAYER_III"),
    ("nist", "PCM_16"),
    ("svx", "PCM_16"),
    ("voc", "PCM_U8"),
    ("sds", "PCM_16"),
    ("mat5", "PCM_16"),
    ("xi", "DPCM_16"),
)


def write_seeds(bundle: Path) -> None:
    """Write all seeds; the manifest is that of a real bundle."""
    for kind, encoding in AUDIO:
        tone = 0.3 * np.sin(np.arange(400) / 5)
        stream = io.BytesIO()
        soundfile.write(stream, tone, 16_000, encoding, format=kind.upper())
        _write("audio", f"{kind}-{encoding.lower()}", stream.getvalue())
    _write("manifest", "bundle", _short_manifest(bundle))
    for i, array in enumerate((np.arange(6.0).reshape(2, 3), np.array("{}"), np.zeros(3, np.int8))):
        stream = io.BytesIO()
        np.save(stream, array)
        _write("npz", f"array-{i}", stream.getvalue())
        stream = io.BytesIO()
        (np.savez_compressed if i else np.savez)(stream, a=array, b=array)
        _write("npz", f"archive-{i}", stream.getvalue())
    _write("graph", "external", _graph().SerializeToString())


def _write(target: str, name: str, content: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def _short_manifest(bundle: Path) -> bytes:
    content = json.loads((bundle / "manifest.json").read_text())
    content["parity"] |= {"worst": [], "failures": [], "remarks": []}
    for graph in content["graphs"].values():
        graph["operators"] = {"Add": 1}
    content["labels"] = ["<pad>", "|", "a"]
    content["ctc"] = {
        "blank": 0,
        "word_delimiter": "|",
        "special": ["<pad>"],
        "language": None,
        "separator": "",
        "lowercase": True,
    }
    content["logits_axes"] = ["batch", "frames", "3"]
    content["config"] = {
        "context": {"adapter": {"layers": 3, "kernel": 3, "stride": 2, "padding": 1, "dim": 8}}
    }
    content["config"]["architecture"] = "base"
    return json.dumps(content).encode()


def _graph() -> onnx.ModelProto:
    """A graph with a tensor wherever one can be."""
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    stored.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "frontend.bin"), ("offset", "64"), ("length", "16")):
        stored.external_data.add(key=key, value=value)
    indices = numpy_helper.from_array(np.arange(4), "indices")
    sparse = onnx.SparseTensorProto(values=stored, indices=indices, dims=[4])
    inner = helper.make_graph([], "inner", [], [], [stored])
    opset = [helper.make_opsetid("", 17)]
    nodes = [
        helper.make_node("Constant", [], ["c"], value=stored),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
        helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [stored], sparse_initializer=[sparse])
    function = helper.make_function("d", "F", [], ["c"], nodes[:1], opset)
    return helper.make_model(graph, functions=[function], opset_imports=opset)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
