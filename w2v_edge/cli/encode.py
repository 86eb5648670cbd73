"""`w2v-edge encode`: audio files to codes, context and features."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import numpy as np

from w2v_edge.cli.output import (
    console,
    force_option,
    json_option,
    print_json,
    progress,
    require,
)
from w2v_edge.errors import InputError, PartialFailureError
from w2v_edge.files import refuse_existing, replacing
from w2v_edge.names import Provider

if TYPE_CHECKING:
    from w2v_edge.runtime.model import Model


@click.command("encode")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("encoded"),
    show_default=True,
    help="Folder for one .npz per file.",
)
@click.option("--context", "with_context", is_flag=True, help="Also write context vectors.")
@click.option("--features", "with_features", is_flag=True, help="Also write features.")
@click.option("--provider", type=click.Choice(get_args(Provider)), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: the cores there are.")
@force_option
@json_option
def command(
    bundle: Path,
    audio: tuple[Path, ...],
    output: Path,
    with_context: bool,
    with_features: bool,
    provider: str,
    threads: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Encode AUDIO files, or folders of them, with BUNDLE.

    Any format that libsndfile reads; channels are averaged and other sample rates resampled. Each
    .npz holds `codes` (frames, groups) and `times` (frames,) in seconds, and on request `context`
    and `features`. A file that fails is reported, the others are done, and the exit code is 1.
    """
    require("encoding audio files", "cpu", "audio")
    import w2v_edge
    from w2v_edge.audio import find_audio

    model = w2v_edge.load(bundle, provider=provider, threads=threads)
    jobs = _outputs(list(find_audio(list(audio))), output)
    if not jobs:
        raise InputError(f"no audio found in {', '.join(map(str, audio))}")
    results: list[dict[str, Any]] = []
    with progress("encode") as show:
        for i, (source, destination) in enumerate(jobs):
            show(source.name, i / len(jobs))
            arrays = _Job(model, with_context=with_context, with_features=with_features)
            results.append(_encode_one(arrays, source, destination, force=force))
    failed = sum("error" in result for result in results)
    if len(results) == failed == 1 and not as_json:
        raise PartialFailureError(results[0]["error"])
    _print(results, as_json=as_json)
    if failed:
        raise PartialFailureError(f"{failed} of {len(results)} files failed; the others are done")


class _Job:
    """What to compute of each file."""

    def __init__(self, model: Model, *, with_context: bool, with_features: bool) -> None:
        self.model = model
        self.with_context = with_context
        self.with_features = with_features

    def arrays(self, source: Path) -> dict[str, Any]:
        """Return the named arrays of one file."""
        from w2v_edge.audio import read_audio

        waveform = read_audio(source, self.model.sample_rate)
        made: dict[str, Any] = {}
        if self.with_context:
            encoding = self.model.encode(waveform)
            made |= {"codes": encoding.codes, "context": encoding.context}
            made["features"] = encoding.features if self.with_features else None
        else:
            made["codes"] = self.model.tokenize(waveform)
            made["features"] = self.model.features(waveform) if self.with_features else None
        frames = self.model.manifest.geometry.frames(len(waveform))
        made["times"] = self.model.times(frames)
        return {name: array for name, array in made.items() if array is not None}


def _encode_one(job: _Job, source: Path, destination: Path, *, force: bool) -> dict[str, Any]:
    try:
        refuse_existing(destination, force=force)
        arrays = job.arrays(source)
        with replacing(destination) as temporary:
            np.savez(temporary, **arrays)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other files are to be done
        what = " ".join(str(error).split())
        return {"file": str(source), "error": what if str(source) in what else f"{source}: {what}"}
    seconds = len(arrays["times"]) * job.model.manifest.hop / job.model.sample_rate
    return {
        "file": str(source),
        "output": str(destination),
        "seconds": round(seconds, 3),
        "frames": len(arrays["times"]),
    }


def _outputs(files: list[tuple[Path, Path]], folder: Path) -> list[tuple[Path, Path]]:
    """Name each file's output after it; namesakes keep their endings, then get a number."""
    stems = Counter(relative.with_suffix(".npz") for _, relative in files)
    outputs: list[tuple[Path, Path]] = []
    taken: Counter[Path] = Counter()
    for source, relative in files:
        name = relative.with_suffix(".npz")
        if stems[name] > 1:
            name = relative.with_name(relative.name + ".npz")
        taken[name] += 1
        if taken[name] > 1:
            name = name.with_name(f"{name.stem}-{taken[name]}.npz")
        outputs.append((source, folder / name))
    return outputs


def _print(results: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    for result in results:
        if "error" in result:
            click.echo(f"failed: {result['error']}", err=True)
        else:
            console().print(
                f"{result['output']}: {result['frames']} frames of {result['file']}",
                soft_wrap=True,
            )
