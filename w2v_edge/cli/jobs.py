"""Verbs over many audio files: the files, their outputs, and what becomes of those that fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from w2v_edge.cli.output import print_json, progress
from w2v_edge.errors import InputError, PartialFailureError

Result = dict[str, Any]

audio_argument = click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path))


def files_of(audio: tuple[Path, ...]) -> list[tuple[Path, Path]]:
    """Return (file, path relative to what was asked for) of audio files and folders of them.

    Raises:
        InputError: there is none.
    """
    from w2v_edge.audio import find_audio

    files = list(find_audio(list(audio)))
    if not files:
        raise InputError(f"no audio found in {', '.join(map(str, audio))}")
    return files


def name_outputs(files: list[tuple[Path, Path]], folder: Path, suffix: str) -> list[Path]:
    """Name each file's output after it; namesakes keep their endings, then get a number."""
    stems = Counter(relative.with_suffix(suffix) for _, relative in files)
    outputs: list[Path] = []
    taken: Counter[Path] = Counter()
    for _, relative in files:
        name = relative.with_suffix(suffix)
        if stems[name] > 1:
            name = relative.with_name(relative.name + suffix)
        taken[name] += 1
        if taken[name] > 1:
            name = name.with_name(f"{name.stem}-{taken[name]}{suffix}")
        outputs.append(folder / name)
    return outputs


def each_file(
    title: str, files: list[tuple[Path, Path]], work: Callable[[int, Path], Result]
) -> list[Result]:
    """Do `work(index, file)` for each file; where it fails, the result is the error's one line."""
    results = []
    with progress(title) as show:
        for i, (source, _) in enumerate(files):
            show(source.name, i / len(files))
            results.append({"file": str(source)} | _attempt(work, i, source))
    return results


def finish(results: list[Result], show: Callable[[Result], None], *, as_json: bool) -> None:
    """Print results, with `show` where they are no errors.

    Raises:
        PartialFailureError: a file failed.
    """
    failed = [result["error"] for result in results if "error" in result]
    if len(results) == len(failed) == 1 and not as_json:
        raise PartialFailureError(failed[0])
    if as_json:
        print_json(results)
    else:
        for result in results:
            if "error" in result:
                click.echo(f"failed: {result['error']}", err=True)
            else:
                show(result)
    if failed:
        raise PartialFailureError(
            f"{len(failed)} of {len(results)} files failed; the others are done"
        )


def _attempt(work: Callable[[int, Path], Result], i: int, source: Path) -> Result:
    try:
        return work(i, source)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other files are to be done
        what = " ".join(str(error).split())
        return {"error": what if str(source) in what else f"{source}: {what}"}
