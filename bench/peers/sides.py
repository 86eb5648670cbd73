"""Sides of the comparison: ways to run the same weights.

This module imports nothing heavy at its top: fresh processes time their own imports.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from w2v_edge.model import SpeechModel

Group = Literal["encoder", "tokenizer"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Device = Literal["cpu", "cuda"]
Kind = Literal[
    "torch", "transformers", "compiled", "ort", "openvino", "ctranslate2", "executorch", "bundle"
]
Run = Callable[["npt.NDArray[np.float32]"], "npt.NDArray[Any]"]
"""Takes a waveform (samples,); returns context (frames, dim) or codes (frames, groups)."""

OUTPUTS: dict[Group, str] = {"encoder": "context", "tokenizer": "codes"}

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names of precisions; in int8, of what is left in float."""

IMPORTS: dict[Kind, tuple[str, ...]] = {
    "torch": ("numpy", "torch", "w2v_edge.model"),
    "transformers": ("numpy", "torch", "transformers.models.wav2vec2.modeling_wav2vec2"),
    "compiled": ("numpy", "torch", "transformers.models.wav2vec2.modeling_wav2vec2"),
    "ort": ("numpy", "onnxruntime"),
    "openvino": ("numpy", "openvino"),
    "ctranslate2": ("numpy", "ctranslate2"),
    "executorch": ("numpy", "torch", "executorch.runtime"),
    "bundle": ("numpy", "onnxruntime", "w2v_edge"),
}
"""What a program that runs this kind of side has to import."""


@dataclass(frozen=True)
class Side:
    """One way to run a model.

    Attributes:
        name: short, for options and results.
        title: for tables.
        group: what it computes, which also is the name of the bundle's graph for it.
        kind: what runs it.
        path: a checkpoint, an ONNX file or a bundle, by `kind`.
        precision: of its products; what OpenVINO may compute in.
        device: of PyTorch and of bundles. Waveforms and outputs are on the host.
    """

    name: str
    title: str
    group: Group
    kind: Kind
    path: str
    precision: Precision = "fp32"
    device: Device = "cpu"


def open_side(side: Side, threads: int) -> Run:
    """Load a side and return a function that runs it; a bundle opens its graph at the first run."""
    openers: dict[Kind, Callable[[Side, int], Run]] = {
        "torch": _open_torch,
        "transformers": _open_transformers,
        "compiled": _open_compiled,
        "ort": _open_ort,
        "openvino": _open_openvino,
        "ctranslate2": _open_ctranslate2,
        "executorch": _open_executorch,
        "bundle": _open_bundle,
    }
    return openers[side.kind](side, threads)


def disk_bytes(side: Side) -> int:
    """Return the size of all files that a side reads, external weights included."""
    path = Path(side.path)
    folder = path if side.kind == "bundle" else path.parent
    if (folder / "manifest.json").is_file():
        from w2v_edge.bundle import read_manifest

        data = read_manifest(folder).graphs[side.group].data
        return sum((folder / name).stat().st_size for name in (f"{side.group}.onnx", *data))
    if path.is_dir():
        return sum(x.stat().st_size for x in path.iterdir())
    external = (path.with_name(path.name + ".data"), path.with_suffix(".bin"))
    return sum(x.stat().st_size for x in (path, *external) if x.is_file())


@cache
def load_ours(path: str) -> SpeechModel:
    """Load the training-side model, cached per process."""
    from w2v_edge.model import load_checkpoint

    return load_checkpoint(Path(path)).eval()


def _open_torch(side: Side, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    model = load_ours(side.path).to(side.device)
    quantizer = model.quantizer
    if quantizer is None:
        raise SystemExit(f"{side.path}: found no quantizer, expected a pre-trained model")

    @torch.inference_mode()
    def run(waveform: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        lengths = torch.tensor([len(waveform)], device=side.device)
        features = model.features(torch.from_numpy(waveform)[None].to(side.device), lengths)
        if side.group == "tokenizer":
            codes: npt.NDArray[Any] = quantizer(features).codes[0].cpu().numpy()
            return codes
        context: npt.NDArray[Any] = model.context(features)[0].cpu().numpy()
        return context

    return run


def _open_transformers(side: Side, threads: int) -> Run:
    return _run_module(_peer(side), side, threads)


def _open_compiled(side: Side, threads: int) -> Run:
    import torch

    return _run_module(torch.compile(_peer(side), dynamic=False), side, threads)


def _peer(side: Side) -> nn.Module:
    """Return transformers' encoder in the side's precision, on its device."""
    from bench.peers.peer_model import as_encoder, load_peer

    encoder = as_encoder(load_peer(side.path))
    if side.precision == "fp16":
        # The loaded model is shared with other sides.
        encoder = copy.deepcopy(encoder).half()
    return encoder.to(side.device)


def _run_module(module: Any, side: Side, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    kind = torch.float16 if side.precision == "fp16" else torch.float32

    @torch.inference_mode()
    def run(waveform: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        given = torch.from_numpy(waveform)[None].to(side.device, kind)
        output: npt.NDArray[Any] = module(given)[0].float().cpu().numpy()
        return output

    return run


def _open_ort(side: Side, threads: int) -> Run:
    """Open a graph with onnxruntime's defaults except threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(side.path, options, providers=["CPUExecutionProvider"])

    def run(waveform: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        output: npt.NDArray[Any] = session.run([OUTPUTS[side.group]], {"waveform": waveform[None]})[
            0
        ][0]
        return output

    return run


def _open_openvino(side: Side, threads: int) -> Run:
    import numpy as np

    openvino: Any = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(
        side.path,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": HINTS[side.precision],
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = compiled.create_infer_request()
    takes_lengths = any("lengths" in x.get_names() for x in compiled.inputs)

    def run(waveform: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        given: dict[str, npt.NDArray[Any]] = {"waveform": waveform[None]}
        if takes_lengths:
            given["lengths"] = np.array([len(waveform)])
        output: npt.NDArray[Any] = request.infer(given)[OUTPUTS[side.group]][0]
        return output

    return run


def _open_ctranslate2(side: Side, threads: int) -> Run:
    from bench.peers.more_runtimes import open_ctranslate2

    run: Run = open_ctranslate2(side.path, side.precision, threads)
    return run


def _open_executorch(side: Side, threads: int) -> Run:  # noqa: ARG001 - it takes all cores
    from bench.peers.more_runtimes import open_executorch

    run: Run = open_executorch(side.path)
    return run


def _open_bundle(side: Side, threads: int) -> Run:
    import numpy as np

    import w2v_edge

    model = w2v_edge.load(side.path, provider=side.device, threads=threads)

    def run(waveform: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        lengths = np.array([len(waveform)])
        found = model.run(side.group, waveform=waveform[None], lengths=lengths)
        output: npt.NDArray[Any] = found[OUTPUTS[side.group]][0]
        return output

    return run
