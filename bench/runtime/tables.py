"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def markdown(results: dict[str, Any]) -> str:
    """Write results as tables."""
    hardware = results["hardware"]
    packages = hardware["packages"]
    lines = [
        f"# Long and live audio: {results['bundle']}",
        "",
        (
            f"{hardware['cpu']} ({', '.join(hardware['flags'])}), {hardware['cores']} cores, "
            f"{results['threads']} threads, onnxruntime {packages['onnxruntime']}, "
            f"numpy {packages['numpy']}, {hardware['date']}. Audio: {results['audio']}."
        ),
        "",
    ]
    if results.get("chunks"):
        lines += _chunks(results["chunks"])
    if results.get("windows"):
        lines += _windows(results["windows"])
    if results.get("statistics"):
        lines += _statistics(results["statistics"])
    if results.get("memory"):
        lines += _memory(results["memory"])
    if results.get("streaming"):
        lines += _streaming(results["streaming"])
    return "\n".join(lines)


def _chunks(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        [
            f"{row['samples']}",
            f"{row['largest_deviation']:.1e}",
            f"{row['worst_cosine']:.6f}",
            f"{100 * row['codes_changed']:.2f} %",
        ]
        for row in rows
    ]
    head = "samples a block,largest deviation in standard deviations,worst cosine,codes that change"
    title = "## Features of a stream of 60 s, given the statistics of the whole"
    return [title, "", *_table(head.split(","), table)]


def _windows(rows: list[dict[str, Any]]) -> list[str]:
    whole, *others = rows
    cost = whole["ms_per_second"]
    table = [
        [
            *(f"{x:g} s" for x in row["window"]),
            *(f"{row[x]:.4f}" for x in ("median", "worst_decile", "worst")),
            f"{row['ms_per_second'] / cost:.2f}",
        ]
        for row in others
    ]
    head = "step,left,right,cosine median,worst decile,worst,cost".split(",")
    return [
        "## Context by windows, against attention over two minutes",
        "",
        f"Cost: time of the context network; 1 is {cost:.1f} ms per second of audio, all at once.",
        "",
        *_table(head, table),
    ]


def _statistics(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        [
            row["statistics"],
            *(f"{row[x]:.4f}" for x in ("median", "worst_decile", "worst")),
            f"{100 * row['codes_changed']:.1f} %",
        ]
        for row in rows
    ]
    head = "statistics,cosine median,worst decile,worst,codes that change".split(",")
    return [
        "## Features of a stream, against the recording's own statistics",
        "",
        *_table(head, table),
    ]


def _memory(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        [
            row["task"],
            f"{row['seconds']} s",
            f"{row['peak_mb']:.0f} MB",
            f"{row['held_mb']:.0f} MB",
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    head = "task,audio,peak,of it returned,the rest to that of 60 s".split(",")
    return ["## Memory", "", *_table(head, table)]


def _streaming(row: dict[str, Any]) -> list[str]:
    pace = "at the pace of time" if row["at_the_pace_of_time"] else "as fast as can be"
    tenths = ", ".join(f"{x:.0f}" for x in row["median_ms_by_tenths"])
    window = "/".join(f"{x:g}" for x in row["window"])
    return [
        "## Streaming",
        "",
        (
            f"{row['seconds']:g} s in blocks of {row['block_ms']:g} ms, {pace}, codes and context "
            f"with a window of {window} s (step/left/right): {row['late']} of {row['blocks']} "
            f"blocks late. A block took {row['median_ms']:.0f} ms in the median, "
            f"{row['p99_ms']:.0f} ms at the 99th percentile, {row['worst_ms']:.0f} ms at worst; "
            f"medians of each tenth: {tenths} ms. Algorithmic latency: codes "
            f"{row['latency_ms']:.1f} ms, context {row['context_latency_ms']:.0f} ms."
        ),
        "",
    ]


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
