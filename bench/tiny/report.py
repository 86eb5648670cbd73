"""Markdown tables of a model card, from the result of `bench.tiny.evaluate`.

    python -m bench.tiny.report bench/results/tiny.json

Brackets hold 95 % intervals of the bootstrap over recordings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from w2v_edge.errors import InputError

FORMAT = "w2v-edge code evaluation"


def main() -> None:
    """Print the tables of one file."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.tiny.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path)
    try:
        print(markdown(read(parser.parse_args().results)), end="")
    except InputError as error:
        sys.exit(f"error: {error}")


def read(path: Path) -> dict[str, Any]:
    """Read a result.

    Raises:
        InputError: the file is missing or is not such a result.
    """
    expected = "expected what python -m bench.tiny.evaluate -o wrote"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no JSON that can be read; {expected}") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise InputError(f"{path}: found another format; {expected}")
    return result


def markdown(result: Mapping[str, Any]) -> str:
    """Return all tables."""
    parts = [_corpus(result), _masked(result), _usage(result["usage"]), _probes(result)]
    return "\n".join(parts)


def _corpus(result: Mapping[str, Any]) -> str:
    machine, settings = result["hardware"], result["settings"]
    sizes = [
        [
            group,
            *(
                f"{sizes[side]['recordings']} ({sizes[side]['minutes']:.1f} min)"
                for side in ("trained_on", "held_out")
            ),
        ]
        for group, sizes in result["corpus"].items()
    ]
    return (
        "### Recordings\n\n"
        f"{settings['held_out']:.0%} of them were held out of pre-training, of the clustering and "
        f"of the probes' training. Measured on {machine['cpu']}, {machine['threads']} threads, "
        f"torch {machine['packages']['torch']}, {machine['date']}, in {result['seconds']:.0f} s; "
        "brackets hold 95 % intervals of the bootstrap over held-out recordings.\n\n"
        + _table(["group", "training", "held out"], sizes)
    )


def _masked(result: Mapping[str, Any]) -> str:
    figures = {**result["masked_prediction"]}
    nominal = figures.pop("nominal_chance")
    columns = [x for x in next(iter(figures.values())) if x != "contrastive_loss"]
    rows = []
    for name, found in figures.items():
        used = [_number(x["perplexity"], 1) for x in result["usage"][name]["groups"]]
        loss = _interval(found["contrastive_loss"], 2)
        rows.append([name, *(_percent(found[x]) for x in columns), loss, ", ".join(used)])
    explained = nominal and (
        f" Chance is {nominal:.1%} where all codes differ, and higher the fewer there are, since "
        "equal distractors count once and those equal to the target not at all. `most frequent` "
        "is what scoring codes by their frequency alone would give."
    )
    head = [x.replace("_", " ") for x in columns]
    return (
        "### Masked prediction\n\n"
        "The share of masked frames whose own code scores best among the distractors, over "
        f"{result['settings']['draws']} draws of masks.{explained or ''}\n\n"
        + _table(["weights", *head, "loss", "code perplexity by group"], rows)
    )


def _usage(usage: Mapping[str, Any]) -> str:
    rows = []
    for name, codes in usage.items():
        groups, joint = codes["groups"], codes["joint"]
        rows.append(
            [
                name,
                ", ".join(f"{x['in_use']} of {codes['entries']}" for x in groups),
                ", ".join(_number(x["perplexity"], 1) for x in groups),
                f"{joint['in_use']}",
                _number(joint["perplexity"], 1),
                f"{joint['most_frequent']:.1%}",
                f"{codes['same_as_frame_before']:.1%}",
            ]
        )
    head = (
        "codes | in use by group | perplexity by group | joint codes in use | joint perplexity | "
        "most frequent | same as frame before"
    )
    frames = next(iter(usage.values()))["frames"]
    return f"### Code usage\n\nOver {frames:,} held-out frames.\n\n" + _table(
        head.split(" | "), rows
    )


def _probes(result: Mapping[str, Any]) -> str:
    columns: list[tuple[str, Mapping[str, Any], bool]] = []
    if result["characters"]:
        columns.append(
            (f"characters, {result['characters']['group']}: CER", result["characters"], True)
        )
    columns += [(f"words, {group}: AUC", x, False) for group, x in result["words"].items()]
    for x in result["told_apart"]:
        columns.append((f"{x['kind']}, {' / '.join(x['names'])}: accuracy", x, True))
    if not columns:
        return "### Probes\n\nNone: no texts, and no two groups.\n"
    names = list(columns[0][1]["scores"])
    cells = [[_cell(x["scores"][name], percent) for _, x, percent in columns] for name in names]
    differences = [
        [_cell(x["difference"][name], percent) for _, x, percent in columns] for name in names[1:]
    ]
    head = [title for title, *_ in columns]
    return (
        "### What codes tell\n\n"
        "The same probes over codes of several origins. A character error rate (CER) is better "
        f"the lower it is, all else the higher. Asked about, held out: {_asked(result)}.\n\n"
        + _table(["codes", *head], _named(names, cells))
        + f"\nThe difference of {names[0]} to each, paired by recording; of percentages, in "
        "points:\n\n" + _table([f"{names[0]} less", *head], _named(names[1:], differences))
    )


def _asked(result: Mapping[str, Any]) -> str:
    """Describe the sample size of each figure."""
    asked = []
    if read_from := result["characters"]:
        asked.append(f"characters of {read_from['held_out']} prompts")
    asked += [
        f"{len(x['words'])} words in {x['held_out']} prompts ({group})"
        for group, x in result["words"].items()
    ]
    asked += [
        f"{x['pieces']['held_out']} pieces ({' / '.join(x['names'])})" for x in result["told_apart"]
    ]
    return ", ".join(asked)


def _named(names: Iterable[str], rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    return [[name, *row] for name, row in zip(names, rows, strict=True)]


def _cell(figure: Mapping[str, float | None], percent: bool) -> str:
    return _percent(figure) if percent else _interval(figure, 3)


def _percent(figure: Mapping[str, float | None]) -> str:
    scaled = {name: None if x is None else 100 * x for name, x in figure.items()}
    return _interval(scaled, 1, " %")


def _interval(figure: Mapping[str, float | None], digits: int, unit: str = "") -> str:
    value, low, high = (_number(figure[x], digits) for x in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
