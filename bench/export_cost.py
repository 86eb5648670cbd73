"""Time and memory of exports, beside `torch.onnx.export` of transformers' model.

    python -m bench.export_cost tiny base large 1b [--precisions fp32,int8] [-o FILE.json]
        [--optimum /venv/bin/python]

Models have random weights. Each export is a fresh process with a cache of traces of its own, empty
for the first export and filled for the second. The other side traces transformers' model of the
same shape by `torch.onnx.export` (dynamo), writes it, and compares onnxruntime with PyTorch on 2 s
of noise, as an exporter with its own validation does. `--optimum` names the Python of an
environment with optimum-onnx, whose usual export, validation included, is a third side. Sides take
turns, round after round.

Peak memory is the largest resident size of the process, mapped files included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.peers import hardware
from w2v_edge.model import ModelConfig, build_model, preset, save_checkpoint
from w2v_edge.model.config import TransformerContextConfig

SHAPES = {"large": (24, 1024, 16, 4096), "1b": (48, 1280, 16, 5120)}
"""Layers, width, heads and feed-forward width, beside the presets `tiny` and `base`."""

OURS = """
import json, resource, sys
from w2v_edge_export import Stages, export
stages = Stages()
checkpoint, bundle, precision = sys.argv[1:]
export(checkpoint, bundle, precision=precision, require_speedup=0.0, force=True, stages=stages)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
seconds = {stage.name: stage.seconds for stage in stages.stages}
print(json.dumps({"stages": seconds, "peak_bytes": peak}))
"""

THEIRS = """
import json, resource, sys
import numpy as np, onnxruntime, torch, transformers
layers, dim, heads, feed_forward, norm, pre_norm, folder = sys.argv[1:]
config = transformers.Wav2Vec2Config(
    num_hidden_layers=int(layers), hidden_size=int(dim), num_attention_heads=int(heads),
    intermediate_size=int(feed_forward), feat_extract_norm=norm, conv_bias=norm == "layer",
    do_stable_layer_norm=pre_norm == "1", attn_implementation="eager",
)
torch.manual_seed(0)
model = transformers.Wav2Vec2Model(config).eval()
waveform = torch.randn(1, 32_000)
axes = {"input_values": {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples")}}
path = folder + "/model.onnx"
torch.onnx.export(model, kwargs={"input_values": waveform}, dynamo=True, dynamic_shapes=axes,
                  external_data=True, verbose=False).save(path, external_data=True)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
found = session.run(None, {session.get_inputs()[0].name: waveform.numpy()})[0]
with torch.inference_mode():
    expected = model(waveform).last_hidden_state.numpy()
assert np.abs(found - expected).max() < 1e-2
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak_bytes": peak}))
"""

OPTIMUM = """
import json, resource, sys
import torch, transformers
from optimum.exporters.onnx import main_export
layers, dim, heads, feed_forward, norm, pre_norm, folder = sys.argv[1:]
config = transformers.Wav2Vec2Config(
    num_hidden_layers=int(layers), hidden_size=int(dim), num_attention_heads=int(heads),
    intermediate_size=int(feed_forward), feat_extract_norm=norm, conv_bias=norm == "layer",
    do_stable_layer_norm=pre_norm == "1",
)
torch.manual_seed(0)
transformers.Wav2Vec2Model(config).save_pretrained(folder + "/model")
transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder + "/model")
main_export(folder + "/model", folder + "/onnx", task="feature-extraction", do_validation=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak_bytes": peak}))
"""


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.export_cost", description=__doc__)
    parser.add_argument("models", nargs="+", choices=["tiny", "base", *SHAPES])
    parser.add_argument("--precisions", default="fp32", help="such as fp32,int8")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--without-peer", action="store_true", help="leave transformers out")
    parser.add_argument("--optimum", help="Python of an environment with optimum-onnx")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "hardware": hardware.describe(),
        "versions": {
            x: metadata.version(x) for x in ("torch", "transformers", "onnxruntime", "w2v-edge")
        },
        "models": [],
    }
    for name in given.models:
        precisions, peer = given.precisions.split(","), not given.without_peer
        row = _measure(name, precisions, given.rounds, peer=peer, optimum=given.optimum)
        result["models"].append(row)
        print(json.dumps(row, indent=1), flush=True)
    if given.output:
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _measure(
    name: str, precisions: list[str], rounds: int, *, peer: bool, optimum: str | None
) -> dict[str, Any]:
    """Return figures of one model: medians over rounds, for each side."""
    config = _config(name)
    sides: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        code = "import sys; from bench.export_cost import write; write(*sys.argv[1:])"
        command = [sys.executable, "-c", code, name, str(folder / "model.pt")]
        subprocess.run(command, check=True)  # noqa: S603 - our own code
        weights = (folder / "model.pt").stat().st_size
        for turn in range(rounds):
            for precision in precisions:
                for which in ("first", "again"):
                    arguments = [str(folder / "model.pt"), str(folder / "bundle"), precision]
                    cache = folder / f"cache-{turn}-{precision}"
                    found = _run(OURS, arguments, cache)
                    sides.setdefault(f"{precision}, {which}", []).append(found)
            if peer:
                (folder / "theirs").mkdir(exist_ok=True)
                found = _run(THEIRS, [*_their_shape(config), str(folder / "theirs")], folder)
                sides.setdefault("torch.onnx.export of transformers", []).append(found)
            if optimum is not None:
                with tempfile.TemporaryDirectory() as other:
                    found = _run(OPTIMUM, [*_their_shape(config), other], folder, python=optimum)
                sides.setdefault("optimum", []).append(found)
    figures = {side: _medians(runs) for side, runs in sides.items()}
    if peer:
        theirs = figures["torch.onnx.export of transformers"]["seconds"]
        for figure in figures.values():
            figure["ratio_to_peer"] = round(figure["seconds"] / theirs, 2)
    return {"model": name, "weights_bytes": weights, "rounds": rounds, "sides": figures}


def _run(
    code: str, arguments: list[str], cache: Path, python: str = sys.executable
) -> dict[str, Any]:
    """Run code in a process of its own; returns what it printed and its seconds."""
    begin = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own code
        [python, "-c", code, *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    seconds = time.monotonic() - begin
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures | {"seconds": seconds}


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        name: round(statistics.median(run[name] for run in runs), 2)
        for name in ("seconds", "peak_bytes")
    }
    if "stages" in runs[-1]:
        figures["stages"] = {name: round(x, 2) for name, x in runs[-1]["stages"].items()}
    return figures


def write(name: str, path: str) -> None:
    """Write a checkpoint with random weights."""
    save_checkpoint(build_model(_config(name), seed=0).eval(), Path(path))


def _config(name: str) -> ModelConfig:
    if name in {"tiny", "base"}:
        return preset(name)
    large = preset("large")
    assert isinstance(large.context, TransformerContextConfig)
    layers, dim, heads, feed_forward = SHAPES[name]
    shape = replace(large.context, layers=layers, dim=dim, heads=heads, feed_forward=feed_forward)
    return replace(large, context=shape)


def _their_shape(config: ModelConfig) -> list[str]:
    context = config.context
    assert isinstance(context, TransformerContextConfig)
    norm = "group" if config.feature_encoder.kind == "group_norm" else "layer"
    pre_norm = str(int(context.kind == "pre_norm"))
    shape = (context.layers, context.dim, context.heads, context.feed_forward)
    return [*map(str, shape), norm, pre_norm]


if __name__ == "__main__":
    main()
