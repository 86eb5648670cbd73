"""Effect of int8 on trained weights: context, codes and text of held-out recordings.

    python -m bench.tiny.weight_quantization --pair NAME=FP32,INT8 ... SOURCE... [-o FILE]

Each pair is two bundles of one checkpoint. Prints one JSON document with the differences
of each pair, and the quantization noise of each layer, measured at export.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jiwer
import numpy as np
import numpy.typing as npt

import w2v_edge
from bench.peers import hardware
from bench.tiny import prompts as corpus
from bench.tiny.document import give
from bench.tiny.prompts import Prompt
from bench.tiny.scores import Score, compared, interval, ratio
from w2v_edge.errors import InputError, W2VEdgeError
from w2v_edge.runtime.model import Model

FORMAT = "w2v-edge weight quantization"
WORST_DECILE = 10


class Pair(NamedTuple):
    """Two bundles of one checkpoint."""

    name: str
    fp32: Path
    int8: Path


def main() -> None:
    """Measure, and print or write one JSON document."""
    given = _parser().parse_args()
    try:
        result = evaluate(given.pair, given.source, given.held_out, given.text)
    except W2VEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    give(result, given.output)


def evaluate(
    pairs: Sequence[Pair], sources: Sequence[Path], held_out: float, group: str | None = None
) -> dict[str, Any]:
    """Compare the bundles of each pair on the recordings that pre-training held out.

    Transcribes the recordings of `group`, or all that have a text.

    Raises:
        BundleError: a bundle cannot be read.
        InputError: a bundle has no 8-bit weights, or nothing is held out.
    """
    begin = time.perf_counter()
    first = w2v_edge.load(pairs[0].fp32)
    prompts = [x for x in corpus.read(sources, held_out, first.sample_rate) if x.held_out]
    seconds = sum(len(x.waveform) for x in prompts) / first.sample_rate
    return {
        "format": FORMAT,
        "version": 1,
        "hardware": hardware.describe(),
        "recordings": len(prompts),
        "minutes": round(seconds / 60, 2),
        "pairs": {pair.name: _pair(pair, prompts, group) for pair in pairs},
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _pair(pair: Pair, prompts: Sequence[Prompt], group: str | None) -> dict[str, Any]:
    fp32, int8 = w2v_edge.load(pair.fp32), w2v_edge.load(pair.int8)
    quantized = int8.manifest.weight_quantization
    if quantized is None:
        raise InputError(f"{pair.int8}: found no 8-bit weights; export with --precision int8")
    print(pair.name, file=sys.stderr, flush=True)
    return {
        "megabytes": {"fp32": _megabytes(pair.fp32), "int8": _megabytes(pair.int8)},
        **_vectors(fp32, int8, prompts),
        "layers": [
            {name: layer[name] for name in ("name", "precision", "noise")}
            for layer in quantized["layers"]
        ],
        "speedup": quantized["measured"]["speedup"],
        "text": _text(fp32, int8, [x for x in prompts if x.text and group in (None, x.group)]),
    }


def _vectors(fp32: Model, int8: Model, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Compare context and features by cosine, codes by the fraction that changes."""
    found: dict[str, list[npt.NDArray[np.float32]]] = {"context": [], "features": []}
    changed, asked = [], []
    for prompt in prompts:
        one, other = fp32.encode(prompt.waveform), int8.encode(prompt.waveform)
        for name, cosines in found.items():
            cosines.append(_cosines(getattr(one, name), getattr(other, name)))
        if one.codes is not None and other.codes is not None:
            changed.append(float((one.codes != other.codes).sum()))
            asked.append(float(one.codes.size))
    drift = interval(ratio(changed, asked)) if asked else None
    return {"cosine": {name: _spread(parts) for name, parts in found.items()}, "code_drift": drift}


def _spread(parts: Sequence[npt.NDArray[np.float32]]) -> dict[str, float]:
    values = np.concatenate(parts)
    worst = np.percentile(values, WORST_DECILE)
    return {"median": round(float(np.median(values)), 6), "worst_decile": round(float(worst), 6)}


def _text(fp32: Model, int8: Model, prompts: Sequence[Prompt]) -> dict[str, Any] | None:
    """Compare error rates of transcripts; None without texts."""
    if not prompts or not fp32.manifest.ctc:
        return None
    said = [x.text for x in prompts]
    written = {
        name: [corpus.normalised(model.transcribe(x.waveform).text) for x in prompts]
        for name, model in (("int8", int8), ("fp32", fp32))
    }
    rates = {"cer": jiwer.process_characters, "wer": jiwer.process_words}
    return {
        "recordings": len(prompts),
        "changed": sum(a != b for a, b in zip(*written.values(), strict=True)),
        **{
            rate: compared({name: _errors(said, x, process) for name, x in written.items()})
            for rate, process in rates.items()
        },
        "examples": [
            {"said": text, "int8": a, "fp32": b}
            for text, a, b in zip(said, *written.values(), strict=True)
        ],
    }


def _errors(
    said: Sequence[str], written: Sequence[str], process: Callable[[str, str], Any]
) -> Score:
    """Return the error rate over recordings, by characters or by words as `process` counts."""
    found = [process(one, other) for one, other in zip(said, written, strict=True)]
    edits = [x.substitutions + x.deletions + x.insertions for x in found]
    lengths = [x.hits + x.substitutions + x.deletions for x in found]
    return ratio(edits, lengths)


def _cosines(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the cosine of each frame of (frames, d) with the other's."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines: npt.NDArray[np.float32] = (one * other).sum(axis=1) / np.maximum(norms, 1e-9)
    return cosines


def _megabytes(bundle: Path) -> float:
    return round(sum(x.stat().st_size for x in bundle.iterdir()) / 1e6, 2)


def _named(text: str) -> Pair:
    """Read NAME=FP32,INT8."""
    name, _, folders = text.partition("=")
    fp32, _, int8 = folders.partition(",")
    if not name or not int8:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=FP32,INT8")
    return Pair(name, Path(fp32), Path(int8))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tiny.weight_quantization",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--pair", type=_named, action="append", required=True, metavar="NAME=FP32,INT8")
    add("source", type=Path, nargs="+", help="manifests with texts, or folders of audio")
    add("--held-out", type=float, default=0.1, help="as in pre-training (default: 0.1)")
    add("--text", metavar="GROUP", help="whose text is compared (default: all that have one)")
    add("-o", "--output", type=Path, help="write JSON here instead of printing it")
    return parser


if __name__ == "__main__":
    main()
