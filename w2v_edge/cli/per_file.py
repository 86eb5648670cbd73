"""Verbs over many audio files: find them, name their outputs, print each result when it is done."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any

import click

from w2v_edge.cli.audio_input import STDIN, STDIN_NAME
from w2v_edge.cli.output import explain, progress, to_json, warn
from w2v_edge.errors import (
    BundleError,
    IndexMismatchError,
    InputError,
    MissingExtraError,
    PartialFailureError,
    ProviderError,
)

Result = dict[str, Any]

OF_ALL_FILES = (BundleError, BrokenPipeError, IndexMismatchError, MissingExtraError, ProviderError)
"""Errors that every other file would meet as well."""

FULL_OR_READ_ONLY = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

audio_argument = click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path))


def files_of(audio: tuple[Path, ...]) -> list[tuple[Path, Path]]:
    """Return (file, path relative to the argument) for audio files, folders and standard input.

    Raises:
        InputError: no audio was found.
    """
    from w2v_edge.audio import find_audio
    from w2v_edge.audio.search import find_other_media

    files = [
        (file, STDIN_NAME if file == STDIN else relative)
        for file, relative in find_audio(list(audio))
    ]
    others = find_other_media(audio)
    remark = ""
    if others:
        remark = (
            f"{len(others)} other media files are not read, the first {others[0]}; convert them: "
            "ffmpeg -i FILE OUT.flac"
        )
    if not files:
        where = ", ".join(map(str, audio))
        raise InputError("; ".join(filter(None, [f"no audio found in {where}", remark])))
    if remark:
        warn(remark)
    return files


def name_outputs(files: list[tuple[Path, Path]], folder: Path, suffix: str) -> list[Path]:
    """Name an output per file, no two alike.

    Files of one stem keep their suffixes; where such a name is taken, they are numbered.
    """
    names = [relative.with_suffix(suffix) for _, relative in files]
    stems = Counter(names)
    taken = {name for name in names if stems[name] == 1}
    numbers: dict[Path, int] = {}
    for i, (_, relative) in enumerate(files):
        if stems[names[i]] == 1:
            continue
        name = longer = relative.with_name(relative.name + suffix)
        while name in taken:
            numbers[longer] = numbers.get(longer, 1) + 1
            name = longer.with_name(f"{longer.stem}-{numbers[longer]}{suffix}")
        taken.add(name)
        names[i] = name
    return [folder / name for name in names]


def run_per_file(
    title: str,
    files: list[tuple[Path, Path]],
    work: Callable[[int, Path], Result],
    show: Callable[[Result], None],
    *,
    as_json: bool,
) -> None:
    """Do `work(index, file)` for each file and print each result when it is done.

    Args:
        title: of the progress bar.
        files: as `files_of` returns them.
        work: returns the result for one file.
        show: prints a result as text; a file whose result cannot be printed has failed.
        as_json: print one JSON array, element by element, in place of text.

    Raises:
        PartialFailureError: some files failed; their errors were printed.
        W2VEdgeError: an error that concerns all files; it ends the work.
    """
    items = [{"file": str(source)} for source, _ in files]
    run_per_item(title, items, lambda i: work(i, files[i][0]), show, as_json=as_json)


def run_per_item(
    title: str,
    items: Sequence[dict[str, str]],
    work: Callable[[int], Result],
    show: Callable[[Result], None],
    *,
    as_json: bool,
) -> None:
    """Do the same for items of several files each, given by their names in the result.

    Arguments and errors as for `run_per_file`.
    """
    failures = []
    # Printed results are progress enough for a log.
    with progress(title, lines=False) as report, _array(as_json=as_json) as element:
        for i, item in enumerate(items):
            names = list(item.values())
            report(Path(names[-1]).name, i / len(items))
            try:
                result = work(i)
                if not as_json:
                    show(item | result)
            except Exception as error:
                if _concerns_all(error):
                    raise
                failures.append(_name_files(names, explain(error)[0]))
                result = {"error": failures[-1]}
            if as_json:
                element(item | result)
            elif "error" in result and len(items) > 1:
                click.echo(f"failed: {result['error']}", err=True)
    if failures and len(items) == 1 and not as_json:
        raise PartialFailureError(failures[0])
    if failures:
        what = "pairs" if len(items[0]) > 1 else "files"
        raise PartialFailureError(
            f"{len(failures)} of {len(items)} {what} failed; the others are done"
        )


@contextmanager
def _array(*, as_json: bool) -> Iterator[Callable[[Result], None]]:
    """Print a JSON array element by element; it is closed also where the work is interrupted."""
    printed = 0

    def element(result: Result) -> None:
        nonlocal printed
        text = indent(to_json(result, indent=2), "  ")
        click.echo(("[\n" if not printed else ",\n") + text, nl=False)
        printed += 1

    try:
        yield element
    except BrokenPipeError:
        raise
    except BaseException:
        if printed:
            click.echo("\n]")
        raise
    if as_json:
        click.echo("\n]" if printed else "[]")


def _concerns_all(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in FULL_OR_READ_ONLY
    return full or isinstance(error, OF_ALL_FILES)


def _name_files(names: Sequence[str], message: str) -> str:
    named = any(name in message for name in names)
    return message if named else f"{', '.join(names)}: {message}"
