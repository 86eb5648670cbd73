"""`w2v-edge demo`: the whole way, from a fresh checkpoint to the codes of a recording."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.output import console, json_option, print_json, progress, require
from w2v_edge.files import replacing
from w2v_edge.names import Preset

if TYPE_CHECKING:
    from w2v_edge.audio import Waveform
    from w2v_edge.runtime.encoding import Encoding
    from w2v_edge.runtime.model import Model

WARM_UP, RUNS = 3, 15


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for all that is made; what an earlier demo left there is replaced.",
)
@click.option("--preset", type=click.Choice(get_args(Preset)), default="tiny", show_default=True)
@click.option(
    "--audio",
    type=click.Path(path_type=Path),
    help="A recording of yours instead of the one that ships.",
)
@json_option
def command(output: Path, preset: str, audio: Path | None, as_json: bool) -> None:
    """Make a checkpoint, export it, prove it equal to PyTorch, and encode a real recording.

    The weights are random: the codes show that everything runs, not what a trained model hears.
    """
    require("the demo", "export", "cpu", "report")
    import w2v_edge
    from w2v_edge import data
    from w2v_edge.audio import read_audio
    from w2v_edge.cli.export import print_report
    from w2v_edge.model import build_model, save_checkpoint
    from w2v_edge.model import preset as load_preset
    from w2v_edge_export.pipeline import export_bundle

    output.mkdir(parents=True, exist_ok=True)
    checkpoint, bundle = output / f"{preset}.pt", output / f"{preset}-fp32"
    clip = audio or data.DEMO_CLIP
    waveform = read_audio(clip, load_preset(preset).sample_rate)
    save_checkpoint(build_model(load_preset(preset)), checkpoint)
    with progress("export") as show:
        report = export_bundle(checkpoint, bundle, force=True, progress=show)
    if not as_json:
        print_report(report)
    model = w2v_edge.load(bundle)
    encoding = model.encode(waveform)
    assert encoding.codes is not None
    result = {
        "recording": clip.name,
        "seconds": round(len(waveform) / model.sample_rate, 3),
        "frames_per_second": round(model.sample_rate / model.manifest.hop, 3),
        "codes": encoding.codes[:8].tolist(),
        **_timings(model, waveform),
        "bundle": str(bundle),
        "picture": str(output / "codes.png"),
    }
    _save(output, model, waveform, encoding, clip.stem)
    if as_json:
        print_json({**result, "codes": encoding.codes.tolist(), "parity": report.to_dict()})
    else:
        _print(result, model)


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

    from w2v_edge.picture import draw_codes

    assert encoding.codes is not None
    assert model.manifest.codebook is not None
    with replacing(output / "codes.npz") as temporary:
        np.savez(temporary, codes=encoding.codes, times=encoding.times)
    draw_codes(
        output / "codes.png",
        waveform,
        model.sample_rate,
        encoding.codes,
        encoding.times,
        model.manifest.codebook.entries,
        f"{name}: what a random-weight model makes of it",
    )


def _print(result: dict[str, Any], model: Model) -> None:
    show = console().print
    show(f"\n{result['recording']}: {result['seconds']} s of speech")
    codes = "  ".join("/".join(map(str, frame)) for frame in result["codes"])
    show(f"codes        {codes}  ...  ({result['frames_per_second']:g} frames a second)")
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
    show(f"bundle       {result['bundle']}")
    show(f"picture      {result['picture']}")
