"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.peers.results import RIGHT, Results, SideTimes
from bench.peers.timing import quartiles

EAGER = {"encoder": ("torch", "transformers"), "tokenizer": ("tokenizer-torch",)}
"""Of these the faster one is `PyTorch eager`."""

USUAL = ("torchscript", "dynamo")

HEADLINES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("encoder int8, PyTorch eager", "ours-int8", EAGER["encoder"]),
    ("encoder int8, torch.compile", "ours-int8", ("compiled",)),
    ("encoder int8, usual export", "ours-int8", USUAL),
    ("encoder int8, quantize_dynamic default", "ours-int8", ("dynamic",)),
    ("encoder int8, quantize_dynamic MatMul only", "ours-int8", ("dynamic-matmul",)),
    ("encoder int8, OpenVINO f32", "ours-int8", ("openvino-f32", "openvino-f32-ours")),
    ("encoder int8, OpenVINO with NNCF", "ours-int8", ("nncf-all", "nncf-linear")),
    ("encoder int8, CTranslate2 float32", "ours-int8", ("ctranslate2-fp32",)),
    ("encoder int8, CTranslate2 int8", "ours-int8", ("ctranslate2-int8",)),
    ("encoder fp32, CTranslate2 float32", "ours-fp32", ("ctranslate2-fp32",)),
    ("encoder fp32, ExecuTorch", "ours-fp32", ("executorch",)),
    ("encoder int8, OpenVINO bf16", "ours-int8", ("openvino-bf16", "openvino-bf16-ours")),
    ("encoder int8, w2v-edge fp32", "ours-int8", ("ours-fp32",)),
    ("encoder fp32, PyTorch eager", "ours-fp32", EAGER["encoder"]),
    ("encoder fp32, usual export", "ours-fp32", USUAL),
    ("encoder fp32, OpenVINO f32", "ours-fp32", ("openvino-f32", "openvino-f32-ours")),
    ("tokenizer int8, PyTorch eager", "tokenizer-ours-int8", EAGER["tokenizer"]),
    ("tokenizer int8, usual export", "tokenizer-ours-int8", ("tokenizer-torchscript",)),
    ("tokenizer fp32, PyTorch eager", "tokenizer-ours-fp32", EAGER["tokenizer"]),
)
"""What is told, the bundle's side, and the others, of which the fastest counts."""

HEADLINE_NOTE = f"""Ratio of medians (quartiles of the ratios of each round; `~`: a side was not \
steady). Where several sides fit, it is the fastest of them. Sides whose cosine with PyTorch is \
below {RIGHT} at the worst decile of frames are marked as wrong and left out."""

LEAST_NOTE = """Time / least: over the least time that products of these precisions can take, at \
the highest speeds that onnxruntime's products reach on this machine, measured right after."""

ONCE_NOTE = """First result: of 1 s of audio in a new process, from opening on, imports apart. \
Load: the same for 0.1 s of audio. Both are medians of five, with files in the page cache. Memory: \
resident set of a new process that encodes 30 s once. Cosine: of a frame's context with \
PyTorch's in float32, at the worst decile and the mean, over 30 s of speech with pauses."""


def markdown(results: Results) -> str:
    """Write the whole report."""
    parts = [
        _conditions(results),
        "## How many times faster",
        _headlines(results),
        HEADLINE_NOTE,
        "## Other ratios",
        _once_ratios(results),
        "## Latency",
        LEAST_NOTE,
        *_latencies(results),
        "## Each side once",
        _once(results),
        ONCE_NOTE,
        "## Tokenizers",
        _tokenizers(results),
        "## Memory of the front end on long audio",
        _frontend(results),
        "## Cost of a second of audio apart from attention",
        _beyond(results),
        "## Not run",
        "\n".join(f"- {name}: {reason}" for name, reason in results.more["not_run"].items())
        or "Nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a Markdown table; None is an empty cell."""
    lines = [
        f"| {' | '.join('' if cell is None else str(cell) for cell in line)} |"
        for line in (head, *rows)
    ]
    lines.insert(1, f"|{'---|' * len(head)}")
    return "\n".join(lines)


def ratio(results: Results, fast: str, slow: Sequence[str], seconds: float) -> str | None:
    """Return how many times faster a side is than the fastest of others at one length."""
    rows = results.timed("encoder", seconds) | results.timed("tokenizer", seconds)
    others = [rows[x] for x in slow if x in rows and not results.is_wrong(x)]
    if fast not in rows or not others:
        return None
    ours, other = rows[fast], min(others, key=lambda x: x.median_ms)
    each = [b / a for a, b in zip(ours.raw_ms, other.raw_ms, strict=True)]
    low, _, high = quartiles(each)
    mark = "" if ours.steady and other.steady else "~"
    return f"{mark}{other.median_ms / ours.median_ms:.2f} ({low:.2f} - {high:.2f})"


def _conditions(results: Results) -> str:
    report, more = results.report, results.more
    device, cpu = report.device, report.device.cpu
    packages = ", ".join(f"{k} {v}" for k, v in device.packages.items())
    memory = "unknown memory" if device.memory_mb is None else f"{device.memory_mb / 1e3:.1f} GB"
    return (
        f"# {report.bundles[0].model}, random weights, batch 1, "
        f"{report.cases[0].case.threads} threads\n\n"
        f"{cpu.model}, {cpu.cores} cores ({', '.join(cpu.features)}), {memory}; "
        f"{device.system}; Python {device.python}, {packages}; "
        f"{report.created}, load average before it {more['load_before'][0]}. "
        f"`{report.command}` measures it again. OpenVINO on the usual "
        f"export and quantize_dynamic start from the faster one, {more['usual_export']}."
    )


def _headlines(results: Results) -> str:
    every = results.lengths()
    rows = [
        [title, *(ratio(results, fast, slow, x) for x in every)] for title, fast, slow in HEADLINES
    ]
    told = [row for row in rows if any(row[1:])]
    return table(["ours, against", *(f"{x:g} s" for x in every)], told)


def _once_ratios(results: Results) -> str:
    """Return the cost of the usual export relative to the bundles."""

    def look(*keys: str) -> Callable[[str], float | None]:
        return lambda side: results.look(side, *keys)

    measures = (
        ("first result in a new process", look("cold", "first_result_ms")),
        ("peak memory, encoder, 30 s", look("memory", "peak_mb")),
        ("of that above loaded", look("memory", "above_loaded_mb")),
        ("files on disk", results.disk_mb),
    )
    rows = []
    for title, measure in measures:
        usual, *ours = map(measure, (results.more["usual_export"], "ours-fp32", "ours-int8"))
        rows.append([title, *(f"{usual / x:.2f}" if usual and x else None for x in ours)])
    return table(["usual export in float32, over", "w2v-edge fp32", "w2v-edge int8"], rows)


def _latencies(results: Results) -> list[str]:
    tables = []
    head = (
        "side, median, quartiles, p90, real-time factor, eager = 1, time / least, steady, first run"
    ).split(", ")
    for group in ("encoder", "tokenizer"):
        for seconds in results.lengths(group):
            timed = results.timed(group, seconds)
            eager = [timed[x].median_ms for x in EAGER[group] if x in timed]
            cells = [
                _latency_cells(results, row, min(eager, default=None))
                for row in results.rows(group)
                if row.seconds == seconds
            ]
            tables.append(f"### {group.capitalize()}, {seconds:g} s\n\n{table(head, cells)}")
    return tables


def _latency_cells(results: Results, row: SideTimes, eager_ms: float | None) -> list[object]:
    title = _title(results, row.side)
    if row.failure:
        return [title, f"failed: {row.failure}", *[None] * 7]
    low, median, high = row.quartiles_ms
    # The limit was measured for encoders.
    over = results.over_least(row) if row.side in results.timed("encoder", row.seconds) else None
    return [
        title,
        f"{median:.1f} ms",
        f"{low:.1f} - {high:.1f}",
        f"{row.p90_ms:.1f}",
        f"{median / row.seconds / 1e3:.4f}",
        eager_ms and f"{eager_ms / median:.3f}",
        over and f"{over:.2f}",
        "yes" if row.steady else "no",
        f"{row.first_ms:.0f} ms",
    ]


def _title(results: Results, side: str) -> str:
    title: str = results.sides[side]["title"]
    return f"{title} (wrong)" if results.is_wrong(side) else title


def _once(results: Results) -> str:
    head = (
        "side, load, imports, first result, disk, loaded, peak, above loaded, "
        "cosine, worst decile, mean"
    )
    rows = [
        [
            _title(results, name),
            _unit(results.look(name, "load", "first_result_ms"), "ms"),
            _unit(results.look(name, "cold", "import_ms"), "ms"),
            _unit(results.look(name, "cold", "first_result_ms"), "ms"),
            _unit(results.disk_mb(name), "MB"),
            _unit(results.look(name, "memory", "loaded_mb"), "MB"),
            _unit(results.look(name, "memory", "peak_mb"), "MB"),
            _unit(results.look(name, "memory", "above_loaded_mb"), "MB"),
            _cosine(results.look(name, "accuracy", "cosine_worst_decile")),
            _cosine(results.look(name, "accuracy", "cosine_mean")),
        ]
        for name, side in results.sides.items()
        if side["group"] == "encoder"
    ]
    return table(head.replace("cosine, worst decile", "cosine at worst decile").split(", "), rows)


def _tokenizers(results: Results) -> str:
    rows = []
    for name, side in results.sides.items():
        if side["group"] == "tokenizer":
            drift = results.look(name, "accuracy", "code_drift")
            rows.append(
                [
                    side["title"],
                    _unit(results.look(name, "load", "first_result_ms"), "ms"),
                    _unit(results.look(name, "cold", "first_result_ms"), "ms"),
                    _unit(results.disk_mb(name), "MB"),
                    None if drift is None else f"{100 * drift:.2f} %",
                ]
            )
    return table(["side", "load", "first result", "disk", "codes that differ"], rows)


def _frontend(results: Results) -> str:
    rows = [
        [
            results.sides[x["side"]]["title"],
            f"{x['seconds']} s",
            x.get("failure") or f"{x['above_loaded_mb']} MB",
        ]
        for x in results.more.get("frontend_memory", ())
    ]
    return table(["front end and quantizer", "audio", "peak above loaded"], rows)


def _beyond(results: Results) -> str:
    rows = []
    for x in results.more.get("beyond_attention", ()):
        side = results.sides[x["side"]]
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


def _unit(found: float | None, unit: str) -> str | None:
    return None if found is None else f"{found:.0f} {unit}" if found >= 10 else f"{found} {unit}"


def _cosine(found: float | None) -> str | None:
    if found is None:
        return None
    # Nearer to 1 than that, only the distance can be read.
    return f"{found:.6f}" if 1 - found > 1e-5 else f"1 - {max(0.0, 1 - found):.0e}"
