"""Tables and picture of the model card, from results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers.plots import INK, PAPER, save, style
from bench.peers.report import table
from bench.tiny import report
from bench.tiny.history import column

EVALUATION, TRAINING, INT8 = "tiny.json", "tiny-training.json", "tiny-int8.json"
SENSITIVE = 6
"""Layers that are listed."""

SIDES = (("training", "#2f6f8f", ""), ("held_out", "#b3402a", "validation/"))
PANELS = (
    ("contrastive loss, nats", ("contrastive",)),
    ("accuracy on masked frames", ("accuracy",)),
    ("perplexity of codes, of 64", ("perplexity/group_0", "perplexity/group_1")),
)


def evaluation(folder: Path) -> str:
    """Return all tables of the evaluation."""
    return report.markdown(report.read(folder / EVALUATION)).rstrip("\n")


def summary(folder: Path) -> str:
    """Return the main figures of the evaluation."""
    found = report.read(folder / EVALUATION)
    masked, letters = found["masked_prediction"], found["characters"]["scores"]
    told = {x["kind"]: x["scores"] for x in found["told_apart"]}
    head = ["codes", "accuracy on masked frames", "error rate of letters read from them"]
    first = next(iter(letters))
    rows = [
        [
            "**trained**" if name == first else name,
            _percent(masked.get(name, {}).get("accuracy"), digits=3),
        ]
        + [_percent(scores[name], digits=3) for scores in (letters, *told.values())]
        for name in letters
    ]
    return table([*head, *(f"{kind} accuracy" for kind in told)], rows)


def recipe(folder: Path) -> str:
    """Return the training recipe."""
    found = _read(folder / TRAINING)
    rows = [
        ("epochs", f"{found['training'][-1]['epoch']:.0f}"),
        *((name.replace("_", " "), str(x)) for name, x in found["recipe"].items()),
        ("processor", f"{found['hardware']['cpu']}, {found['hardware']['cores']} cores"),
    ]
    return table(["", ""], rows)


def weight_quantization(folder: Path) -> str:
    """Return the effect of int8 weights."""
    pairs = _read(folder / INT8)["pairs"]
    head = ["weights", "context, worst decile of cosines", "features", "codes that change", "size"]
    rows = [
        [
            name,
            f"{pair['cosine']['context']['worst_decile']:.5f}",
            f"{pair['cosine']['features']['worst_decile']:.5f}",
            _percent(pair["code_drift"]),
            f"{pair['megabytes']['int8']} of {pair['megabytes']['fp32']} MB",
        ]
        for name, pair in pairs.items()
    ]
    return table(head, rows)


def sensitivities(folder: Path) -> str:
    """Return the layers of the first pair with the most noise in dB, and noise of others."""
    pairs = _read(folder / INT8)["pairs"]
    noise = {name: {x["name"]: x["noise"] for x in pair["layers"]} for name, pair in pairs.items()}
    first, *others = noise
    ranked = sorted(noise[first], key=lambda layer: -noise[first][layer])
    rows = [
        [f"`{layer}`", *(_decibel(noise[name].get(layer)) for name in (first, *others))]
        for layer in ranked[:SENSITIVE]
    ]
    return table(["layer", *noise], rows)


def text(folder: Path) -> str:
    """Return error rates of transcripts by weights."""
    head = "weights,recordings,texts that change,CER in float32,in int8,difference,WER in float32"
    rows = [
        [
            name,
            str(found["recordings"]),
            str(found["changed"]),
            *(_percent(found["cer"]["scores"][x]) for x in ("fp32", "int8")),
            _percent(found["cer"]["difference"]["fp32"], "points"),
            *(_percent(found["wer"]["scores"][x]) for x in ("fp32", "int8")),
        ]
        for name, pair in _read(folder / INT8)["pairs"].items()
        if (found := pair["text"])
    ]
    return table([*head.split(","), "in int8"], rows)


def draw(folder: Path, path: Path) -> None:
    """Draw the curves of training."""
    found = _read(folder / TRAINING)
    figure = Figure(figsize=(13, 3.6), facecolor=PAPER, layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        _panel(axes, found, title, names)
    save(figure, path)


def _panel(axes: Axes, found: dict[str, Any], title: str, names: tuple[str, ...]) -> None:
    style(axes, title)
    for side, colour, prefix in SIDES:
        for name, line in zip(names, ("-", "--"), strict=False):
            updates, values = column(found, side, prefix + name)
            label = side.replace("_", " ")
            if len(names) > 1:
                label += f", codebook {names.index(name) + 1}"
            axes.plot(updates, values, line, color=colour, label=label, linewidth=1.4)
    axes.set_xlabel("updates", color=INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _decibel(noise: float | None) -> str:
    return "" if not noise else f"{10 * math.log10(noise):.1f} dB"


def _percent(figure: Mapping[str, float] | None, unit: str = "%", digits: int = 2) -> str:
    if figure is None:
        return ""
    value, low, high = (100 * figure[x] for x in ("value", "low", "high"))
    return f"{value:.{digits}g} {unit} [{low:.{digits}g}, {high:.{digits}g}]"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


TABLES: Mapping[str, Callable[[Path], str]] = {
    "recipe": recipe,
    "evaluation": evaluation,
    "weight quantization": weight_quantization,
    "sensitivities": sensitivities,
    "text": text,
}
