"""`w2v-edge demo`: the whole way, from a checkpoint to the codes of a recording."""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import time
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.output import (
    EXTRAS,
    console,
    json_option,
    print_json,
    progress_of_stages,
    require,
)
from w2v_edge.files import replacing, replacing_folder
from w2v_edge.names import Preset

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from w2v_edge.audio import Waveform
    from w2v_edge.runtime.encoding import Encoding
    from w2v_edge.runtime.model import Model

WARM_UP, RUNS = 3, 15
SHOWN = 8
"""Codes that are printed."""


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for all that is made; what an earlier demo left there is replaced.",
)
@click.option(
    "--preset",
    type=click.Choice(get_args(Preset)),
    help="Random weights of this preset instead of the trained model that ships.",
)
@click.option(
    "--audio",
    type=click.Path(path_type=Path),
    help="A recording of yours instead of the one that ships.",
)
@json_option
def command(output: Path, preset: str | None, audio: Path | None, as_json: bool) -> None:
    """Take a checkpoint, export it, prove it equal to PyTorch, and encode a real recording.

    The checkpoint is a small model that ships, trained on an hour of telephone prompts. Its bundle
    with int8 weights ships too, and is all that runs where the extra `export` is not installed.
    """
    exporting = preset is not None or _installed("export")
    require("the demo", *(("export", "cpu", "audio") if exporting else ("cpu", "audio")))
    import w2v_edge
    from w2v_edge import data
    from w2v_edge.audio import read_audio

    output.mkdir(parents=True, exist_ok=True)
    clip = audio or data.DEMO_CLIP
    bundles, parity = [], None
    if exporting:
        exported, parity = _export(output, preset, as_json=as_json)
        bundles.append(exported)
    if preset is None:
        bundles.append(_copy_of_int8(output))
    model, *others = map(w2v_edge.load, bundles)
    waveform = read_audio(clip, model.sample_rate)
    encoding = model.encode(waveform)
    assert encoding.codes is not None
    result = {
        "recording": clip.name,
        "weights": "trained" if preset is None else "random",
        "seconds": round(len(waveform) / model.sample_rate, 3),
        "frames_per_second": round(model.sample_rate / model.manifest.hop, 3),
        **_timings(model, waveform),
        "bundles": [str(bundle) for bundle in bundles],
    }
    for int8 in others:
        alike = int8.tokenize(waveform) == encoding.codes
        result["int8_codes_alike"] = round(float(alike.mean()), 4)
    if _installed("report"):
        result["picture"] = str(output / "codes.png")
    _save(output, model, waveform, encoding, f"{clip.stem}: codes, {result['weights']} weights")
    if as_json:
        print_json({**result, "codes": encoding.codes.tolist(), "parity": parity})
    else:
        _print(result, model, encoding.codes)


def _installed(extra: str) -> bool:
    return all(importlib.util.find_spec(module) for module in EXTRAS[extra])


def _export(output: Path, preset: str | None, *, as_json: bool) -> tuple[Path, dict[str, Any]]:
    """Export the checkpoint that ships, or random weights, and return the bundle and the proof."""
    from w2v_edge import data
    from w2v_edge.cli.export import print_report
    from w2v_edge.model import build_model, save_checkpoint
    from w2v_edge.model import preset as load_preset
    from w2v_edge_export import export

    name = preset or "tiny"
    checkpoint, bundle = output / f"{name}.pt", output / f"{name}-fp32"
    if preset is None:
        with replacing(checkpoint) as temporary:
            shutil.copyfile(data.TINY, temporary)
    else:
        save_checkpoint(build_model(load_preset(preset)), checkpoint)
    with progress_of_stages("export") as stages:
        report = export(checkpoint, bundle, force=True, stages=stages).parity
    if not as_json:
        print_report(report)
    return bundle, report.to_dict()


def _copy_of_int8(output: Path) -> Path:
    """Put the bundle that ships where the others are."""
    from w2v_edge import data

    bundle = output / data.TINY_INT8.name
    with replacing_folder(bundle, force=True) as temporary:
        shutil.copytree(data.TINY_INT8, temporary, dirs_exist_ok=True)
    return bundle


def _timings(model: Model, waveform: Waveform) -> dict[str, float]:
    """Return median seconds of `encode` and `tokenize`, and of audio per second of work."""
    timings = {}
    for name in ("encode", "tokenize"):
        call = getattr(model, name)
        for _ in range(WARM_UP):
            call(waveform)
        took = []
        for _ in range(RUNS):
            start = time.perf_counter()
            call(waveform)
            took.append(time.perf_counter() - start)
        median = statistics.median(took)
        timings[f"{name}_ms"] = round(1000 * median, 2)
        timings[f"{name}_real_time_factor"] = round(median * model.sample_rate / len(waveform), 5)
    return timings


def _save(output: Path, model: Model, waveform: Waveform, encoding: Encoding, name: str) -> None:
    import numpy as np

    assert encoding.codes is not None
    assert model.manifest.codebook is not None
    with replacing(output / "codes.npz") as temporary:
        np.savez(temporary, codes=encoding.codes, times=encoding.times)
    if not _installed("report"):
        return
    from w2v_edge.picture import draw_codes

    draw_codes(
        output / "codes.png",
        waveform,
        model.sample_rate,
        encoding.codes,
        encoding.times,
        model.manifest.codebook.entries,
        name,
    )


def _print(result: dict[str, Any], model: Model, codes: npt.NDArray[np.int64]) -> None:
    show = console().print
    show(f"\n{result['recording']}: {result['seconds']} s of speech, {result['weights']} weights")
    frames = ("/".join(map(str, frame)) for frame in codes.tolist())
    few = "  ".join(islice((frame for frame, _ in groupby(frames)), SHOWN))
    show(f"codes        {few}  ...  ({result['frames_per_second']:g} a second, repeats left out)")
    threads = model.threads
    for name, what in (
        ("tokenize", "waveform to codes"),
        ("encode", "waveform to context and codes"),
    ):
        factor = result[f"{name}_real_time_factor"]
        show(
            f"{name:<12} {result[f'{name}_ms']} ms median for {what}, {threads} threads: "
            f"real-time factor {factor:g}, {1 / factor:.0f}x faster than real time"
        )
    if "int8_codes_alike" in result:
        show(f"int8         {result['int8_codes_alike']:.1%} of the codes are the same in 8 bits")
    show(f"bundles      {'  '.join(result['bundles'])}")
    if "picture" in result:
        show(f"picture      {result['picture']}")
