"""Latency and memory of a bundle against PyTorch eager, on real speech.

All sides run in one process, in rounds of shuffled order, after warm-up: machines drift, and only
ratios of neighbours mean something. Memory is the growth of the peak resident set of a process of
its own, above what was resident after loading.

    python bench/torch_eager.py [--preset base] [--rounds 15] [--threads 2]

Metrics: median and quartiles of the wall time of one utterance, batch 1; real-time factor is time
over audio; ratio is PyTorch's median over the bundle's.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RESULTS = Path(__file__).parent / "results"
SECONDS = (1, 3, 10, 30)
MEMORY_SECONDS = (10, 60, 300)
STEADY = 0.1
"""Quartiles further apart than this share of the median: something else was running."""

WARM_UP = 8
"""Rounds; PyTorch eager gets faster for about so many."""


def main() -> None:
    """Measure, print a table, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bundle", type=Path, help="measure memory of this bundle, and no more")
    parser.add_argument("--memory", type=float, help="seconds of audio")
    options = parser.parse_args()
    if options.bundle:
        print(peak_growth(options.bundle, options.memory, options.threads))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), options.preset, options.rounds, options.threads)
    RESULTS.mkdir(exist_ok=True)
    name = f"torch_eager-{options.preset}"
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown(report))
    print(markdown(report))


def measure(folder: Path, preset_name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Export a preset with random weights and run both sides."""
    import torch

    import w2v_edge
    from w2v_edge.model import build_model, preset, save_checkpoint
    from w2v_edge_export.pipeline import export_bundle

    torch.set_num_threads(threads)
    model = build_model(preset(preset_name)).eval()
    save_checkpoint(model, folder / "ckpt.pt")
    export_bundle(folder / "ckpt.pt", folder / "bundle")
    loaded = w2v_edge.load(folder / "bundle", threads=threads)

    @torch.inference_mode()
    def torch_encoder(waveform: npt.NDArray[np.float32]) -> None:
        model.context(model.features(torch.from_numpy(waveform)[None], lengths(waveform)))

    @torch.inference_mode()
    def torch_tokenizer(waveform: npt.NDArray[np.float32]) -> None:
        model.quantizer(model.features(torch.from_numpy(waveform)[None], lengths(waveform)))

    def lengths(waveform: npt.NDArray[np.float32]) -> torch.Tensor:
        return torch.tensor([len(waveform)])

    def graph(name: str) -> Callable[[npt.NDArray[np.float32]], None]:
        def call(waveform: npt.NDArray[np.float32]) -> None:
            loaded.run(name, waveform=waveform[None], lengths=np.array([len(waveform)]))

        return call

    sides = {
        "torch encoder": torch_encoder,
        "bundle encoder": graph("encoder"),
        "torch tokenizer": torch_tokenizer,
        "bundle tokenizer": graph("tokenizer"),
    }
    return {
        "what": f"{preset_name}, random weights, fp32, batch 1, {threads} threads",
        "machine": machine(),
        "latency": [row for s in SECONDS for row in compare(sides, speech(s), s, rounds)],
        "memory": memory(folder / "bundle", threads),
    }


def compare(
    sides: dict[str, Callable[[npt.NDArray[np.float32]], None]],
    waveform: npt.NDArray[np.float32],
    seconds: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Time all sides on one waveform, in rounds of shuffled order."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    shuffler = random.Random(seconds)  # noqa: S311 - no secret
    for i in range(WARM_UP + rounds):
        shuffler.shuffle(order)
        for name in order:
            start = time.perf_counter()
            sides[name](waveform)
            if i >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    rows = []
    for name, taken in times.items():
        low, median, high = statistics.quantiles(taken, n=4)
        rival = statistics.median(times[name.replace("bundle", "torch")])
        rows.append(
            {
                "side": name,
                "seconds": seconds,
                "median_ms": round(1e3 * median, 2),
                "quartiles_ms": [round(1e3 * low, 2), round(1e3 * high, 2)],
                "real_time_factor": round(median / seconds, 5),
                "times_torch": round(rival / median, 3),
                "raw_ms": [round(1e3 * x, 3) for x in taken],
            }
        )
    return rows


def memory(bundle: Path, threads: int) -> list[dict[str, Any]]:
    """Measure the front end and quantizer on long audio, a process each."""
    rows = []
    for seconds in MEMORY_SECONDS:
        command = [sys.executable, __file__, "--bundle", bundle, "--memory", seconds]
        command += ["--threads", threads]
        done = subprocess.run(  # noqa: S603 - our own file
            list(map(str, command)), capture_output=True, text=True, check=True
        )
        rows.append({"seconds": seconds, "tokenizer_peak_mb": round(float(done.stdout), 1)})
    return rows


def peak_growth(bundle: Path, seconds: float, threads: int) -> float:
    """Return how many MB one tokenizer run takes at its peak, above what was resident before.

    Linux only: the kernel's high-water mark is reset after loading, which has a peak of its own.
    """
    import w2v_edge

    model = w2v_edge.load(bundle, threads=threads)
    waveform = speech(seconds)
    model.tokenize(waveform[:16_000])
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    model.tokenize(waveform)
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> int:
    """Return a figure of /proc/self/status in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(field))


def speech(seconds: float) -> npt.NDArray[np.float32]:
    """Return the shipped recordings, end to end, cut or repeated to a length."""
    from w2v_edge import data

    clips = np.concatenate(list(data.clips(16_000).values()))
    return np.resize(clips, int(seconds * 16_000))


def machine() -> dict[str, str]:
    """Describe the hardware and the versions."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = f"{len(lines)} x {lines[0].split(':')[1].strip()}" if lines else cpu
    versions = {x: metadata.version(x) for x in ("torch", "onnxruntime", "numpy", "w2v-edge")}
    return {"cpu": cpu, "system": platform.platform(), **versions}


def _steady(row: dict[str, Any]) -> bool:
    low, high = row["quartiles_ms"]
    return bool(high - low <= STEADY * row["median_ms"])


def markdown(report: dict[str, Any]) -> str:
    """Write the report as Markdown."""
    lines = [f"{report['what']}; {', '.join(f'{k} {v}' for k, v in report['machine'].items())}", ""]
    lines += ["| side | audio | median | quartiles | real-time factor | speed, torch = 1 |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {r['side']} | {r['seconds']} s | {r['median_ms']} ms | "
        f"{r['quartiles_ms'][0]} - {r['quartiles_ms'][1]} | {r['real_time_factor']} | "
        f"{r['times_torch']}{'' if _steady(r) else ' (disturbed)'} |"
        for r in report["latency"]
    ]
    lines += ["", "| audio | peak memory of one tokenizer run above load |", "|---|---|"]
    lines += [f"| {r['seconds']} s | {r['tokenizer_peak_mb']} MB |" for r in report["memory"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
