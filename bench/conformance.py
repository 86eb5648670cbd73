"""Conformance: checkpoints exported one after another, and held against transformers.

    python -m bench.conformance [LIST.toml] [-o FILE.json] [--precision fp32] [--only WORD]
    python -m bench.conformance --tests REPORT.xml

The first exports every checkpoint of a list, each in a process of its own, so that one that fails
does not stop the rest. Where transformers has the class, its outputs for a recording are compared
too. It needs the Hub, or folders on this machine. The second reads what the tests compared from
pytest's report (`make conformance`). Both write JSON, and its table beside it as Markdown.

A list holds groups: `[[group]]` with `title`, `models`, and optionally `options` of `export`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers import hardware
from w2v_edge.errors import W2VEdgeError

HERE = Path(__file__).parent
LIST = HERE / "conformance.toml"
RESULTS = HERE / "results"
CLIP = "en-demo-abouttotry"
"""The recording on which outputs are compared."""

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Row:
    """One line of the matrix.

    Attributes:
        model: class of the model, or name of the checkpoint.
        layout: form of the checkpoint, or the group of the list.
        reference: what it was compared with.
        comparisons: number of outputs compared.
        deviation: the worst, in standard deviations of the output; None if nothing was compared.
        problem: why there is no bundle or no comparison, in one line.
        seconds: time of the export; None in tests.
    """

    model: str
    layout: str
    reference: str
    comparisons: int
    deviation: float | None
    problem: str = ""
    seconds: float | None = None


def main() -> None:
    """Run one of the two, and write the matrix."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("list", nargs="?", type=Path, default=LIST)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--only", default="", help="checkpoints whose name holds this")
    parser.add_argument("--tests", type=Path, help="report of pytest, xunit1")
    given = parser.parse_args()
    if given.tests is not None:
        output = given.output or RESULTS / "conformance-tests.json"
        rows = rows_of_tests(given.tests)
    else:
        output = given.output or RESULTS / "conformance-published.json"
        entries = [x for x in read_list(given.list) if given.only in x[1]]
        rows = run_list(entries, given.precision)
    write(rows, output)


def read_list(path: Path) -> list[tuple[str, str, list[str]]]:
    """Return group, checkpoint and options of `export` for every model of a list."""
    groups = tomllib.loads(path.read_text(encoding="utf-8"))["group"]
    return [
        (group["title"], model, shlex.split(group.get("options", "")))
        for group in groups
        for model in group["models"]
    ]


def run_list(entries: Iterable[tuple[str, str, list[str]]], precision: str) -> list[Row]:
    """Check each entry in a fresh process; a process that dies makes a row that says so."""
    rows = []
    for group, model, options in entries:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                row = pool.submit(check, group, model, options, precision).result()
            except Exception as error:  # noqa: BLE001 - also a process that was killed
                row = Row(model, group, "", 0, None, _line(error))
        rows.append(row)
        shown = row.problem or f"{row.deviation:.1e} against {row.reference}"
        print(f"{model}: {shown}", flush=True)
    return rows


def check(group: str, model: str, options: Sequence[str], precision: str = "fp32") -> Row:
    """Export a checkpoint to a temporary folder, and compare it with its reference.

    Args:
        group: group of the list.
        model: a folder, a file or a name on the Hub.
        options: further options of `w2v-edge export`.
        precision: precision of the weights.
    """
    from click.testing import CliRunner

    from w2v_edge.cli.export import command

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        arguments = [model, "-o", str(bundle), "--precision", precision, "--json", *options]
        done = CliRunner().invoke(command, arguments, standalone_mode=False)
        seconds = round(time.perf_counter() - begin, 1)
        if done.exception is not None:
            return Row(model, group, "", 0, None, _line(done.exception), seconds)
        reference, found = "PyTorch, float64", json.loads(done.stdout)["parity"]
        deviation = max(
            row["worst"] / found["std"].get(row["output"], 1.0) for row in found["worst"]
        )
        compared = len(found["worst"])
        theirs = reference_outputs(model, options)
        problem = ""
        if isinstance(theirs, str):
            problem = f"no reference: {theirs}"
        else:
            from w2v_edge import load
            from w2v_edge.data import clips

            with load(bundle) as opened:
                ours = opened.encode(clips(SAMPLE_RATE)[CLIP])
            reference = "transformers"
            deviations = [
                _deviation(getattr(ours, name), values) for name, values in theirs.items()
            ]
            deviation, compared = max(deviations), len(deviations)
    return Row(model, group, reference, compared, deviation, problem, seconds)


def reference_outputs(
    model: str, options: Sequence[str] = ()
) -> dict[str, npt.NDArray[np.float32]] | str:
    """Return transformers' outputs for the recording, or why there are none.

    Args:
        model: a folder or a name on the Hub.
        options: of the export; `--layer` and `--language` select outputs here too.
    """
    from w2v_edge.data import clips

    chosen = dict(pairwise(options))
    layer, language = chosen.get("--layer"), chosen.get("--language")
    adapter = {"target_lang": language, "ignore_mismatched_sizes": True} if language else {}
    try:
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(model)
        cls = getattr(transformers, (config.architectures or [""])[0], None)
        if cls is None:
            return f"transformers has no class {config.architectures}"
        extractor: Any = transformers.AutoFeatureExtractor
        extractor = extractor.from_pretrained(model)
        inputs = extractor(clips(SAMPLE_RATE)[CLIP], sampling_rate=SAMPLE_RATE, return_tensors="pt")
        inputs.pop("attention_mask", None)
        reference = cls.from_pretrained(model, **adapter).eval()
        with torch.inference_mode():
            body = reference.base_model(**inputs, output_hidden_states=True)
            context = body.hidden_states[int(layer)] if layer else body.last_hidden_state
            found = {"context": context[0].numpy()}
            if layer is None and cls.__name__.endswith(("CTC", "Classification")):
                found["logits"] = reference(**inputs).logits[0].numpy()
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        return _line(error)
    return found


def rows_of_tests(report: Path) -> list[Row]:
    """Return a row for each class and layout that the tests compared, with the worst deviation."""
    worst: dict[tuple[str, str], list[Any]] = {}
    for found in ET.parse(report).iter("property"):  # noqa: S314 - written by pytest
        if found.get("name") == "conformance":
            row = json.loads(str(found.get("value")))
            for name in row["classes"]:
                kept = worst.setdefault((name, row["layout"]), [0, 0.0])
                kept[0] += row["outputs"]
                kept[1] = max(kept[1], row["deviation"])
    return [
        Row(name, layout, "transformers", outputs, deviation)
        for (name, layout), (outputs, deviation) in sorted(worst.items())
    ]


def write(rows: Sequence[Row], output: Path) -> None:
    """Write the rows with the machine, and their table beside them."""
    result = {"machine": hardware.describe(), "rows": [asdict(row) for row in rows]}
    output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    output.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table of a result."""
    machine, rows = result["machine"], [Row(**row) for row in result["rows"]]
    versions = ", ".join(
        f"{name} {machine['packages'][name]}"
        for name in ("torch", "transformers", "onnxruntime")
        if machine["packages"].get(name)
    )
    lines = [
        "# Conformance",
        "",
        "Deviations: the worst of all outputs and lengths, in standard deviations of the output.",
        "",
        f"{machine['cpu']}; {versions}; {machine['date']}",
        "",
        "| model | checkpoint | compared with | outputs | worst deviation |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        worst = "" if row.deviation is None else f"{row.deviation:.1e}"
        found = "; ".join(x for x in (worst, row.problem.replace("|", "\\|")) if x)
        lines.append(
            f"| {row.model} | {row.layout} | {row.reference} | {row.comparisons} | {found} |"
        )
    return "\n".join(lines) + "\n"


def _deviation(found: Any, expected: npt.NDArray[np.float32]) -> float:
    if found is None or np.shape(found) != expected.shape:
        raise W2VEdgeError(f"expected shape {expected.shape}, found {np.shape(found)}")
    return float(np.abs(found - expected).max() / expected.std())


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


if __name__ == "__main__":
    main()
