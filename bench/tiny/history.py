"""Summary of a training run: its recipe, and its curves in steps.

    python -m bench.tiny.history RUN [-o bench/results/tiny-training.json]

Reads what `w2v-edge pretrain` or `w2v-edge finetune` left in RUN: run.json and log.jsonl. Training
metrics are means over the updates of a step, validation metrics are unchanged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.peers import hardware
from bench.tiny.document import give
from w2v_edge.errors import W2VEdgeError
from w2v_edge.training.metrics import read_log
from w2v_edge.training.run_folder import RunFolder

FORMAT = "w2v-edge training history"
STEP = 100
"""Updates in a mean."""

HELD_OUT = "validation/"
DIGITS = 5


def main() -> None:
    """Print or write one JSON document."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.tiny.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="write here instead of printing")
    given = parser.parse_args()
    try:
        give(history(given.run), given.output)
    except W2VEdgeError as error:
        sys.exit(f"error: {error}")


def history(run: Path) -> dict[str, Any]:
    """Return the recipe and the curves of a run.

    Raises:
        TrainingError: the folder is not a run.
    """
    folder = RunFolder(run)
    begun = folder.read().describe()
    log = read_log(folder.log)
    return {
        "format": FORMAT,
        "version": 1,
        "task": begun["task"],
        "recipe": begun["recipe"],
        "options": begun["task_options"],
        "hardware": hardware.describe(),
        "training": _means([x for x in log if not _is_held_out(x)], STEP),
        "held_out": [_rounded(x) for x in log if _is_held_out(x)],
    }


def column(history: dict[str, Any], side: str, name: str) -> tuple[list[float], list[float]]:
    """Return updates and a figure of `side`, `training` or `held_out`, where it was logged."""
    rows = [row for row in history[side] if name in row]
    return [row["update"] for row in rows], [row[name] for row in rows]


def _is_held_out(row: dict[str, float]) -> bool:
    return any(name.startswith(HELD_OUT) for name in row)


def _means(rows: Sequence[dict[str, float]], step: int) -> list[dict[str, float]]:
    """Return the means of rows of `step` updates, each by its last update."""
    chunks: dict[int, list[dict[str, float]]] = {}
    for row in rows:
        chunks.setdefault(-int(-row["update"] // step), []).append(row)
    return [
        _rounded(
            {
                **{name: fmean(x[name] for x in chunk if name in x) for name in chunk[-1]},
                "update": chunk[-1]["update"],
            }
        )
        for chunk in chunks.values()
    ]


def _rounded(row: dict[str, float]) -> dict[str, float]:
    made = {name: float(f"{value:.{DIGITS}g}") for name, value in row.items()}
    return {**made, "update": int(row["update"])}


if __name__ == "__main__":
    main()
