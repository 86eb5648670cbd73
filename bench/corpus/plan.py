"""Markdown of the corpus measurements, and the cost estimate of a larger corpus."""

from __future__ import annotations

from typing import Any

from w2v_edge.corpus.job import LARGEST_SHARD

FILES_OF_A_JOB = 5_000_000
"""Of which one process can well hold the list."""


def markdown(results: dict[str, Any]) -> str:
    """Return the measurements and the plan with its assumptions."""
    hardware, audio = results["hardware"], results["audio"]
    return "\n".join(
        [
            f"# Whole corpora: {results['bundle']['folder']}, {results['bundle']['precision']}",
            "",
            (
                f"{hardware['cpu']} ({', '.join(hardware['flags'])}), {results['usable_cores']} "
                f"cores, onnxruntime {hardware['packages']['onnxruntime']}, {hardware['date']}. "
                f"{audio['minutes']:g} minutes of speech in FLAC files of {audio['utterance_s']:g} "
                "s, on this machine's disk. Speed is seconds of audio for each second, medians of "
                f"{len(results['cases'][0]['runs'])} turns: `whole` with all that comes before the "
                "first shard, `steady` without."
            ),
            "",
            "## Measured",
            "",
            *_table(
                "engine,workers,outputs,whole,steady,steady of one core,first shard after".split(
                    ","
                ),
                [_row(case) for case in results["cases"]],
            ),
            "",
            *_plan(results),
        ]
    )


def _row(case: dict[str, Any]) -> list[str]:
    return [
        case["engine"],
        str(case["workers"]),
        case["outputs"],
        f"{case['whole']:.1f}",
        f"{case['steady']:.1f}",
        f"{case['steady'] / case['workers']:.1f}",
        f"{case['start_s']:.1f} s",
    ]


def _plan(results: dict[str, Any]) -> list[str]:
    assumed, audio = results["assumed"], results["audio"]
    hours, cores = assumed["hours"], assumed["cores"]
    most = max(case["workers"] for case in results["cases"])
    stored = results["shards_bytes_per_hour"]
    plans = [
        _cost(case, assumed, stored[case["outputs"]])
        for case in results["cases"]
        if case["workers"] == most
    ]
    files = hours * 3600 / audio["utterance_s"]
    read = hours * audio["bytes_per_hour"]
    fastest = min(plan["wall_h"] for plan in plans)
    return [
        f"## Planned: {hours:,.0f} hours",
        "",
        *_table(
            "engine,outputs,core hours,cost,time,shards,their cost a month".split(","),
            [
                [
                    plan["engine"],
                    plan["outputs"],
                    f"{plan['core_h']:,.0f}",
                    f"{plan['cost']:,.0f}",
                    f"{plan['wall_h']:,.1f} h",
                    f"{plan['stored_gb']:,.0f} GB",
                    f"{plan['stored_gb'] * assumed['gb_price']:,.0f}",
                ]
                for plan in plans
            ],
        ),
        "",
        (
            f"Measured: the speed of a core when all {most} of this machine are at work, the size "
            f"of FLAC ({audio['bytes_per_hour'] / 1e6:.0f} MB an hour) and of shards."
        ),
        "",
        (
            f"Assumed: {cores:,} cores like these, as the system counts them, that speed does not "
            f"fall with more machines, {assumed['core_price']:g} for a core hour, "
            f"{assumed['gb_price']:g} for a GB and month (any currency), and "
            f"{100 * assumed['spare']:g} % more for what is lost with machines that are taken "
            "away, and at the end, when not all have work. Reading is "
            "assumed not to be what limits: the files, "
            f"{read / 1e12:,.0f} TB, would have to come at {read / fastest / 3600 / 1e9:,.1f} GB/s "
            "in all, within one region, so that moving them costs nothing."
        ),
        "",
        (
            f"{files:,.0f} files of {audio['utterance_s']:g} s are {files / LARGEST_SHARD:,.0f} "
            f"shards, in {max(1, -(-files // FILES_OF_A_JOB)):,.0f} jobs of up to "
            f"{FILES_OF_A_JOB:,} files, each with an output of its own: one process holds a job's "
            "list. Real speech in longer files needs fewer."
        ),
        "",
    ]


def _cost(case: dict[str, Any], assumed: dict[str, Any], stored: float) -> dict[str, Any]:
    """Return the cost of the plan at a case's speed."""
    core_h = assumed["hours"] / (case["steady"] / case["workers"]) * (1 + assumed["spare"])
    return {
        "engine": case["engine"],
        "outputs": case["outputs"],
        "core_h": core_h,
        "cost": core_h * assumed["core_price"],
        "wall_h": core_h / assumed["cores"],
        "stored_gb": assumed["hours"] * stored / 1e9,
    }


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
