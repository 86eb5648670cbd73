"""`w2v-edge demo`: export a checkpoint and encode a recording."""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import time
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.bundle import is_bundle_file
from w2v_edge.cli.demo_record import DemoRecord
from w2v_edge.cli.options import force_option, json_option, verb
from w2v_edge.cli.output import EXTRAS, console, frame_text, print_json, require, stages
from w2v_edge.extras import install_command
from w2v_edge.files import check_overwritable, replacing, replacing_folder
from w2v_edge.names import Preset

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from w2v_edge.audio import Waveform
    from w2v_edge.runtime.model import Model

WARM_UP, RUNS = 3, 15
SHOWN = 8
"""Number of codes to print."""


@verb("demo", short_help="Export and encode with the model that ships.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    help="Folder for the checkpoint, bundles, codes and picture.",
)
@click.option(
    "--preset",
    type=click.Choice(get_args(Preset)),
    show_default="the trained model of the package",
    help="Use a model of this preset with random weights.",
)
@click.option(
    "--audio",
    type=click.Path(path_type=Path),
    show_default="a clip of the package",
    help="Recording to encode.",
)
@force_option
@json_option
def command(
    output: Path, preset: str | None, audio: Path | None, force: bool, as_json: bool
) -> None:
    """Export a checkpoint, verify the bundle against PyTorch, and encode a recording.

    The checkpoint is a small model, trained on an hour of telephone prompts. The package also has
    its bundle with int8 weights, which is used alone where the extra `export` is not installed.

    Another run replaces what an earlier one wrote, as long as it is unchanged; other files are kept
    without --force.
    """
    exporting = preset is not None or _installed("export")
    require("the demo", *(("export", "cpu", "audio") if exporting else ("cpu", "audio")))
    import w2v_edge
    from w2v_edge import data
    from w2v_edge.audio import read_audio

    checkpoint = output / f"{preset or 'tiny'}.pt"
    exported = output / f"{checkpoint.stem}-fp32"
    int8 = output / data.TINY_INT8.name
    outputs = [output / "codes.npz", output / "codes.png"]
    outputs += [checkpoint, exported] if exporting else []
    outputs += [int8] if preset is None else []
    record = DemoRecord(output, force=force)
    for path in outputs:
        record.check(path, force=force)
    output.mkdir(parents=True, exist_ok=True)
    clip = audio or data.DEMO_CLIP
    bundles, parity = [], None
    if exporting:
        _write_checkpoint(checkpoint, preset)
        record.add(checkpoint)
        parity = _export(checkpoint, exported, as_json=as_json)
        record.add(exported)
        bundles.append(exported)
    if preset is None:
        _copy_int8(int8)
        record.add(int8)
        bundles.append(int8)
    model, *others = map(w2v_edge.load, bundles)
    waveform = read_audio(clip, model.sample_rate)
    result = {
        "recording": clip.name,
        "weights": "trained" if preset is None else "random",
        "seconds": round(len(waveform) / model.sample_rate, 3),
        "frames_per_second": round(model.sample_rate / model.manifest.hop, 3),
        **_timings(model, waveform),
        "bundles": [str(bundle) for bundle in bundles],
    }
    codes = model.tokenize(waveform)
    for other in others:
        alike = other.tokenize(waveform) == codes
        result["int8_codes_alike"] = round(float(alike.mean()), 4)
    if _installed("report"):
        result["picture"] = str(output / "codes.png")
    _save(output, model, waveform, codes, f"{clip.stem}: codes, {result['weights']} weights")
    record.add(output / "codes.npz")
    if "picture" in result:
        record.add(output / "codes.png")
    if as_json:
        print_json({**result, "codes": codes.tolist(), "parity": parity})
    else:
        _print(result, model, codes)


def _installed(extra: str) -> bool:
    return all(importlib.util.find_spec(module) for module in EXTRAS[extra])


def _write_checkpoint(checkpoint: Path, preset: str | None) -> None:
    """Write the trained checkpoint, or one of a preset with random weights."""
    from w2v_edge import data
    from w2v_edge.model import build_model, save_checkpoint
    from w2v_edge.model import preset as load_preset

    if preset is None:
        with replacing(checkpoint) as temporary:
            shutil.copyfile(data.TINY, temporary)
    else:
        save_checkpoint(build_model(load_preset(preset)), checkpoint)


def _export(checkpoint: Path, bundle: Path, *, as_json: bool) -> dict[str, Any]:
    """Export the checkpoint and return the parity report."""
    from w2v_edge.cli.export_output import print_report
    from w2v_edge_export import export

    with stages("export") as shown:
        report = export(checkpoint, bundle, force=True, stages=shown).parity
    if not as_json:
        print_report(report)
    return report.to_dict()


def _copy_int8(bundle: Path) -> None:
    """Copy the int8 bundle of the package."""
    from w2v_edge import data

    check_overwritable(bundle, is_bundle_file, "a bundle")
    with replacing_folder(bundle, force=True) as temporary:
        shutil.copytree(data.TINY_INT8, temporary, dirs_exist_ok=True)


def _timings(model: Model, waveform: Waveform) -> dict[str, float]:
    """Return median latency in ms and real-time factor of `encode` and `tokenize`."""
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


def _save(
    output: Path, model: Model, waveform: Waveform, codes: npt.NDArray[np.int64], title: str
) -> None:
    import numpy as np

    times = model.times(len(codes))
    with replacing(output / "codes.npz") as temporary:
        np.savez(temporary, codes=codes, times=times)
    if model.manifest.codebook is None or not _installed("report"):
        return
    from w2v_edge.picture import draw_codes

    draw_codes(
        output / "codes.png",
        waveform,
        model.sample_rate,
        codes,
        times,
        model.manifest.codebook.entries,
        title,
    )


def _print(result: dict[str, Any], model: Model, codes: npt.NDArray[np.int64]) -> None:
    show = console().print
    show(f"\n{result['recording']}: {result['seconds']} s of speech, {result['weights']} weights")
    frames = map(frame_text, codes.tolist())
    few = "  ".join(islice((frame for frame, _ in groupby(frames)), SHOWN))
    show(f"codes        {few}  ...  ({result['frames_per_second']:g} per second, repeats left out)")
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
        show(f"int8         {result['int8_codes_alike']:.1%} of the codes are the same")
    show(f"bundles      {'  '.join(result['bundles'])}")
    picture = result.get("picture", f"none: {install_command('report')}")
    show(f"picture      {picture}", markup=False)
