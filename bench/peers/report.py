"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.peers.timing import quartiles

EAGER = ("torch", "transformers")
USUAL = ("torchscript", "dynamo")

HEADLINES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("encoder int8, PyTorch eager", "ours-int8", EAGER),
    ("encoder int8, torch.compile", "ours-int8", ("compiled",)),
    ("encoder int8, usual export", "ours-int8", USUAL),
    ("encoder int8, quantize_dynamic default", "ours-int8", ("dynamic",)),
    ("encoder int8, quantize_dynamic MatMul only", "ours-int8", ("dynamic-matmul",)),
    ("encoder int8, OpenVINO f32", "ours-int8", ("openvino-f32", "openvino-f32-ours")),
    ("encoder int8, OpenVINO bf16", "ours-int8", ("openvino-bf16", "openvino-bf16-ours")),
    ("encoder int8, w2v-edge fp32", "ours-int8", ("ours-fp32",)),
    ("encoder fp32, PyTorch eager", "ours-fp32", EAGER),
    ("encoder fp32, usual export", "ours-fp32", USUAL),
    ("encoder fp32, OpenVINO f32", "ours-fp32", ("openvino-f32", "openvino-f32-ours")),
    ("tokenizer int8, PyTorch eager", "tokenizer-ours-int8", ("tokenizer-torch",)),
    ("tokenizer int8, usual export", "tokenizer-ours-int8", ("tokenizer-torchscript",)),
    ("tokenizer fp32, PyTorch eager", "tokenizer-ours-fp32", ("tokenizer-torch",)),
)
"""What is told, the bundle's side, and the others, of which the fastest counts."""

HEADLINE_NOTE = """Ratio of medians (quartiles of the ratios of each round; `~`: a side was not \
steady). Where several sides fit, it is the fastest of them."""

ONCE_NOTE = """First result: of 1 s of audio in a new process, from opening on, imports apart. \
Load: the same for 0.1 s of audio. Both are medians of five, with files in the page cache. Memory: \
resident set of a new process that encodes 30 s once. Cosine: of a frame's context with \
PyTorch's in float32, at the worst decile and the mean, over 30 s of speech with pauses."""


def markdown(report: dict[str, Any]) -> str:
    """Write the whole report."""
    parts = [
        _conditions(report),
        "## How many times faster",
        _headlines(report),
        HEADLINE_NOTE,
        "## Other ratios",
        _once_ratios(report),
        "## Latency",
        *_latencies(report),
        "## Each side once",
        _once(report),
        ONCE_NOTE,
        "## Tokenizers",
        _tokenizers(report),
        "## Memory of the front end on long audio",
        _frontend(report),
        "## Cost of a second of audio apart from attention",
        _beyond(report),
        "## Not run",
        "\n".join(f"- {name}: {reason}" for name, reason in report["not_run"].items())
        or "Nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a Markdown table; None is an empty cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join('' if cell is None else str(cell) for cell in line)} |" for line in lines
    )


def ratio(report: dict[str, Any], fast: str, slow: Sequence[str], seconds: int) -> str | None:
    """Tell how many times faster a side is than the fastest of others at one length."""
    rows = {x["side"]: x for x in report["latency"] if x["seconds"] == seconds and "raw_ms" in x}
    others = [rows[x] for x in slow if x in rows]
    if fast not in rows or not others:
        return None
    ours, other = rows[fast], min(others, key=lambda x: float(x["median_ms"]))
    each = [b / a for a, b in zip(ours["raw_ms"], other["raw_ms"], strict=True)]
    low, _, high = quartiles(each)
    mark = "" if ours["steady"] and other["steady"] else "~"
    return f"{mark}{other['median_ms'] / ours['median_ms']:.2f} ({low:.2f} - {high:.2f})"


def _conditions(report: dict[str, Any]) -> str:
    machine = report["machine"]
    busy = machine["load_before"][0]
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    return (
        f"# {report['preset']}, random weights, batch 1, {report['threads']} threads\n\n"
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['flags'])}), "
        f"{machine['memory_gb']} GB; {machine['system']}; Python {machine['python']}, {packages}; "
        f"{machine['date']}, load average before it {busy}. "
        f"`python -m bench.peers` measures it again. OpenVINO on the usual "
        f"export and quantize_dynamic start from the faster one, {report['usual_export']}."
    )


def lengths(report: dict[str, Any]) -> list[int]:
    """Return the lengths that were timed."""
    return sorted({x["seconds"] for x in report["latency"]})


def _headlines(report: dict[str, Any]) -> str:
    every = lengths(report)
    rows = [
        [title, *(ratio(report, fast, slow, x) for x in every)] for title, fast, slow in HEADLINES
    ]
    told = [row for row in rows if any(row[1:])]
    return table(["ours, against", *(f"{x} s" for x in every)], told)


def _once_ratios(report: dict[str, Any]) -> str:
    """Tell what the usual export needs, over what the bundles need."""
    measures = (
        ("first result in a new process", ("cold", "first_result_ms")),
        ("peak memory, encoder, 30 s", ("memory", "peak_mb")),
        ("of that above loaded", ("memory", "above_loaded_mb")),
        ("files on disk", ("disk_mb",)),
    )
    usual = report["usual_export"]
    rows = []
    for title, keys in measures:
        cells = [_look(report, name, keys) for name in (usual, "ours-fp32", "ours-int8")]
        whole = [f"{cells[0] / x:.2f}" if cells[0] and x else None for x in cells[1:]]
        rows.append([title, *whole])
    return table(["usual export in float32, over", "w2v-edge fp32", "w2v-edge int8"], rows)


def _look(report: dict[str, Any], side: str, keys: Sequence[str]) -> float | None:
    found: Any = report["sides"].get(side)
    for key in keys:
        found = found.get(key) if found else None
    return None if found is None else float(found)


def _latencies(report: dict[str, Any]) -> list[str]:
    tables = []
    head = "side, median, quartiles, p90, real-time factor, eager = 1, steady, first run".split(
        ", "
    )
    for group in ("encoder", "tokenizer"):
        for seconds in lengths(report):
            rows = [x for x in report["latency"] if (x["group"], x["seconds"]) == (group, seconds)]
            if rows:
                title = f"### {group.capitalize()}, {seconds} s"
                cells = [_latency_cells(report, x) for x in rows]
                tables.append(f"{title}\n\n{table(head, cells)}")
    return tables


def _latency_cells(report: dict[str, Any], row: dict[str, Any]) -> list[object]:
    title = report["sides"][row["side"]]["title"]
    if "failure" in row:
        return [title, f"failed: {row['failure']}", *[None] * 6]
    low, high = row["quartiles_ms"]
    return [
        title,
        f"{row['median_ms']:.1f} ms",
        f"{low:.1f} - {high:.1f}",
        f"{row['p90_ms']:.1f}",
        f"{row['real_time_factor']:.4f}",
        row.get("times_eager"),
        "yes" if row["steady"] else "no",
        f"{row['first_ms']:.0f} ms",
    ]


def _once(report: dict[str, Any]) -> str:
    head = (
        "side, load, imports, first result, disk, loaded, peak, above loaded, "
        "cosine, worst decile, mean"
    )
    rows = [
        [
            side["title"],
            _unit(report, name, ("load", "first_result_ms"), "ms"),
            _unit(report, name, ("cold", "import_ms"), "ms"),
            _unit(report, name, ("cold", "first_result_ms"), "ms"),
            _unit(report, name, ("disk_mb",), "MB"),
            _unit(report, name, ("memory", "loaded_mb"), "MB"),
            _unit(report, name, ("memory", "peak_mb"), "MB"),
            _unit(report, name, ("memory", "above_loaded_mb"), "MB"),
            _cosine(report, name, "cosine_worst_decile"),
            _cosine(report, name, "cosine_mean"),
        ]
        for name, side in report["sides"].items()
        if side["group"] == "encoder"
    ]
    return table(head.replace("cosine, worst decile", "cosine at worst decile").split(", "), rows)


def _tokenizers(report: dict[str, Any]) -> str:
    rows = []
    for name, side in report["sides"].items():
        if side["group"] == "tokenizer":
            drift = _look(report, name, ("accuracy", "code_drift"))
            rows.append(
                [
                    side["title"],
                    _unit(report, name, ("load", "first_result_ms"), "ms"),
                    _unit(report, name, ("cold", "first_result_ms"), "ms"),
                    _unit(report, name, ("disk_mb",), "MB"),
                    None if drift is None else f"{100 * drift:.2f} %",
                ]
            )
    return table(["side", "load", "first result", "disk", "codes that differ"], rows)


def _frontend(report: dict[str, Any]) -> str:
    rows = [
        [
            report["sides"][x["side"]]["title"],
            f"{x['seconds']} s",
            x.get("failure") or f"{x['above_loaded_mb']} MB",
        ]
        for x in report.get("frontend_memory", ())
    ]
    return table(["front end and quantizer", "audio", "peak above loaded"], rows)


def _beyond(report: dict[str, Any]) -> str:
    rows = []
    for x in report.get("beyond_attention", ()):
        side = report["sides"][x["side"]]
        rows.append(
            [
                f"{side['title']} {side['group']}",
                f"{x['seconds']} s",
                f"{x['run_ms']} ms",
                f"{x['attention_ms']} ms",
                f"{x['rest_ms_a_second']} ms",
            ]
        )
    return table(["graph", "audio", "run", "attention in it", "rest, a second of audio"], rows)


def _unit(report: dict[str, Any], side: str, keys: Sequence[str], unit: str) -> str | None:
    found = _look(report, side, keys)
    return None if found is None else f"{found:.0f} {unit}" if found >= 10 else f"{found} {unit}"


def _cosine(report: dict[str, Any], side: str, key: str) -> str | None:
    found = _look(report, side, ("accuracy", key))
    if found is None:
        return None
    # Nearer to 1 than that, only the distance can be read.
    return f"{found:.6f}" if 1 - found > 1e-5 else f"1 - {max(0.0, 1 - found):.0e}"
