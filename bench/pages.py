"""The tables of README.md and docs/, each between `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.peers.report import EAGER, USUAL, table
from bench.peers.results import RIGHT, Results, SideTimes
from bench.tiny import card

PEERS = "zen5/peers-base"
"""The latest comparison; memory and cosines of README.md are its own."""

EARLIER = "peers-base"
SUMMARY: Mapping[str, str] = {"Zen 5": PEERS, "Xeon": EARLIER}
"""Comparisons by processor, for the columns of README.md."""

RUNTIME = "runtime-int8.json"
OTHER = "processor-zen3.json"
OURS = "**w2v-edge {}**"
PRECISIONS = ("fp32", "int8")

ENCODERS: Mapping[str, tuple[str, ...]] = {
    "PyTorch eager": EAGER["encoder"],
    "usual export, onnxruntime": USUAL,
    "its `quantize_dynamic`, default": ("dynamic",),
    "its `quantize_dynamic`, MatMul only": ("dynamic-matmul",),
    "OpenVINO, float32": ("openvino-f32",),
    "OpenVINO, NNCF int8 of all layers": ("nncf-all",),
    "OpenVINO, NNCF int8 of linear layers": ("nncf-linear",),
    "OpenVINO, bf16": ("openvino-bf16",),
    **{OURS.format(x): (f"ours-{x}",) for x in PRECISIONS},
}
"""Rows and the sides that they may be of: it is the fastest at the greatest length."""

TOKENIZERS: Mapping[str, tuple[str, ...]] = {
    "PyTorch eager": EAGER["tokenizer"],
    "usual export, onnxruntime": ("tokenizer-torchscript",),
    **{OURS.format(x): (f"tokenizer-ours-{x}",) for x in PRECISIONS},
}

SUMMARY_SECONDS = 10.0
FRONTEND_SECONDS = 300
MEMORY_MARGIN = 0.03
"""Share by which the resident memory of two runs may differ."""

WINDOWS: Mapping[tuple[float, float, float], str] = {
    (20, 0, 0): "{}",
    (20, 2.5, 2.5): "{}",
    (20, 5, 5): "**{}**, of long recordings",
    (5, 2.5, 2.5): "{}",
    (0.32, 4, 0.32): "**{}**, of streams",
    (0.32, 4, 1.28): "{}",
}


@dataclass(frozen=True)
class Figure:
    """A cell with an interval; lower is better."""

    text: str
    low: float
    high: float


def fill(text: str, folder: Path, tables: Mapping[str, Callable[[Path], str]]) -> str:
    """Return a text with all tables regenerated.

    Args:
        text: text with a marked place for each table.
        folder: folder of the results.
        tables: function by table name, from the folder to the table.

    Raises:
        ValueError: the place of a table is missing or duplicate.
    """
    for name, make in tables.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if len(place.findall(text)) != 1:
            raise ValueError(f"expected one place for the table {name!r}")
        begin, end = place.search(text).span()  # type: ignore[union-attr] # it was just found
        made = f"<!-- table: {name} -->\n{make(folder)}\n<!-- end -->"
        text = text[:begin] + made + text[end:]
    return text


def summary(folder: Path) -> str:
    """Make the table of encoders with right outputs at one length, on each processor."""
    every = {name: Results.read(folder / stem) for name, stem in SUMMARY.items()}
    chosen = {name: _chosen(x, "encoder", ENCODERS) for name, x in every.items()}
    latest, sides = every[next(iter(SUMMARY))], chosen[next(iter(SUMMARY))]
    titles = [title for title, side in sides.items() if not latest.is_wrong(side)]

    def column(cells: Iterable[str], sides: Mapping[str, str]) -> list[str]:
        by_title = dict(zip(sides, cells, strict=True))
        return [by_title.get(x, "") for x in titles]

    times = [
        column(_best(_times(results, "encoder", chosen[name], SUMMARY_SECONDS)), chosen[name])
        for name, results in every.items()
    ]
    memory = column(_best(_peaks(latest, sides)), sides)
    cosines = column((_cosine(latest, side) for side in sides.values()), sides)
    seconds = [f"{SUMMARY_SECONDS:g} s on {name}" for name in every]
    head = ["encoder", *seconds, "peak memory, 30 s", "cosine, worst decile"]
    return _table(head, [titles, *times, memory, cosines])


def encoder(folder: Path, stem: str = PEERS) -> str:
    """Make the table of encoders on one processor."""
    results = Results.read(folder / stem)
    lengths = results.lengths("encoder")
    chosen = _chosen(results, "encoder", ENCODERS)
    columns = [_times(results, "encoder", chosen, x) for x in lengths]
    cosines = [_cosine(results, side) for side in chosen.values()]
    memory = _peaks(results, chosen)
    head = ["encoder", *(f"{x:g} s" for x in lengths), "cosine, worst decile", "peak memory, 30 s"]
    made = [list(chosen), *map(_best, columns), cosines, _best(memory)]
    timed = results.timed("encoder", SUMMARY_SECONDS)
    over = [results.over_least(timed[x]) if x in timed else None for x in chosen.values()]
    if any(over):
        head.append(f"{SUMMARY_SECONDS:g} s over the limit")
        made.append(["" if x is None else f"{x:.2f}" for x in over])
    return _table(head, made)


def other_processor(folder: Path) -> str:
    """Make the table of encoders on a processor without VNNI."""
    found = json.loads((folder / OTHER).read_text())
    rows = []
    for x in found["sides"]:
        cosine = x.get("cosine")
        wrong = " (wrong)" if cosine is not None and cosine < RIGHT else ""
        milliseconds = " - ".join(map(str, x["ms"]))
        rows.append([x["side"], f"{milliseconds} ms", "" if cosine is None else f"{cosine}{wrong}"])
    return table(["encoder", f"{found['seconds']} s of speech", "cosine, worst decile"], rows)


def tokenizer(folder: Path) -> str:
    """Make the table of tokenizers."""
    results = Results.read(folder / PEERS)
    lengths = results.lengths("tokenizer")
    chosen = _chosen(results, "tokenizer", TOKENIZERS)
    columns = [_times(results, "tokenizer", chosen, x) for x in lengths]
    codes = [_drift(results, side) for side in chosen.values()]
    above = {
        x["side"]: x.get("above_loaded_mb")
        for x in results.more["frontend_memory"]
        if x["seconds"] == FRONTEND_SECONDS
    }
    memory = [_memory(above.get(side)) for side in chosen.values()]
    head = [
        "tokenizer: speech to codes",
        *(f"{x:g} s" for x in lengths),
        "codes that change",
        f"memory of a run, {FRONTEND_SECONDS} s",
    ]
    return _table(head, [list(chosen), *map(_best, columns), codes, _best(memory)])


def windows(folder: Path) -> str:
    """Make the table of the cost of attention windows."""
    whole, *others = _runtime(folder)["windows"]
    found = {tuple(row["window"]): row for row in others}
    rows = []
    for window, title in WINDOWS.items():
        row = found[window]
        cost = row["ms_per_second"] / whole["ms_per_second"]
        rows.append(
            [
                title.format(", ".join(f"{x:g}" for x in window) + " s"),
                f"{row['median']:.4f}",
                f"{row['worst_decile']:.4f}",
                f"{row['worst']:.4f}" if row["worst"] > 0.99 else f"{row['worst']:.2f}",
                f"{cost:.2f}" if cost < 1 else f"{cost:.1f}",
            ]
        )
    head = [
        "step, left, right",
        "cosine with attention over all, median",
        "worst decile",
        "worst frame",
        "cost of the context network, all at once being 1",
    ]
    return table(head, rows)


def memory(folder: Path) -> str:
    """Make the table of memory by length of audio."""
    results = _runtime(folder)
    rows: dict[str, list[str]] = {}
    for x in results["memory"]:
        cells = rows.setdefault(x["task"], [f"`{x['task']}`"])
        cells.append(f"{_whole(x['peak_mb'])} MB, {_whole(x['held_mb'])}")
    lengths = sorted({x["seconds"] for x in results["memory"]})
    title = f"`base` in int8, {results['threads']} threads: peak memory, of it the result"
    return table([title, *(f"{x} s" for x in lengths)], rows.values())


TABLES: Mapping[str, Mapping[str, Callable[[Path], str]]] = {
    "README.md": {"summary": summary},
    "docs/streaming.md": {"windows": windows, "memory": memory},
    "docs/results.md": {
        "encoder": encoder,
        "encoder, earlier": partial(encoder, stem=EARLIER),
        "other processor": other_processor,
        "tokenizer": tokenizer,
    },
    "docs/training.md": {"learned": card.summary},
    "docs/quantization.md": {"trained in 8 bits": card.weight_quantization},
}
"""Tables by page and name."""


def _chosen(results: Results, group: str, titles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return titles and sides of the timed rows."""
    timed = results.timed(group, results.lengths(group)[-1])
    present = {title: [timed[x] for x in names if x in timed] for title, names in titles.items()}
    return {
        title: min(rows, key=lambda x: x.median_ms).side for title, rows in present.items() if rows
    }


def _times(
    results: Results, group: str, chosen: Mapping[str, str], seconds: float
) -> list[Figure | None]:
    timed = results.timed(group, seconds)
    found = [_time(timed[x]) if x in timed else None for x in chosen.values()]
    return _right(results, chosen, found)


def _right(
    results: Results, chosen: Mapping[str, str], figures: Sequence[Figure | None]
) -> list[Figure | None]:
    """Return the figures; a side with wrong outputs is never the best."""
    return [
        Figure(x.text, math.inf, math.inf) if x and results.is_wrong(side) else x
        for side, x in zip(chosen.values(), figures, strict=True)
    ]


def _time(row: SideTimes) -> Figure:
    """Format a median; unsteady ones with fewer digits."""
    low, median, high = row.quartiles_ms
    rough = not row.steady and median >= 1000
    text = f"{median / 1e3:.1f} s" if rough else f"{_whole(median)} ms"
    return Figure(text, low, high)


def _memory(mb: float | None) -> Figure | None:
    if mb is None:
        return None
    return Figure(f"{_whole(mb)} MB", mb * (1 - MEMORY_MARGIN), mb * (1 + MEMORY_MARGIN))


def _peaks(results: Results, chosen: Mapping[str, str]) -> list[Figure | None]:
    found = [_memory(results.look(side, "memory", "peak_mb")) for side in chosen.values()]
    return _right(results, chosen, found)


def _cosine(results: Results, side: str) -> str:
    found = results.look(side, "accuracy", "cosine_worst_decile")
    # PyTorch is the reference.
    if found is None or side in EAGER["encoder"]:
        return ""
    return f"{found:.4f} (wrong)" if results.is_wrong(side) else f"{found:.4f}"


def _drift(results: Results, side: str) -> str:
    found = results.look(side, "accuracy", "code_drift")
    return "" if found is None else f"{100 * found:.2g} %"


def _best(column: Sequence[Figure | None]) -> list[str]:
    """Set the figure in bold that is clearly below all others, by quartiles or by margin."""
    made = []
    for one in column:
        others = [x for x in column if x is not None and x is not one]
        best = one is not None and others and all(one.high < x.low for x in others)
        made.append("" if one is None else f"**{one.text}**" if best else one.text)
    return made


def _table(head: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    return table(head, zip(*columns, strict=True))


def _whole(value: float) -> int:
    return int(value + 0.5)


def _runtime(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / RUNTIME).read_text())
    return results
