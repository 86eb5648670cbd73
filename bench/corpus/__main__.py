"""Throughput of corpus encoding by cores, and the estimated cost of a million hours.

    python -m bench.corpus BUNDLE --json bench/results/corpus-NAME.json [--minutes 20] [--turns 3]

Encodes a folder of FLAC files, cut from the clips of the package, with `encode_corpus`: all time
counts from listing files to the last shard, except the start of Python. Cases alternate. `whole` is
audio over that time; `steady` excludes the time to the first shard, for opening the bundle and
starting Ray, which is negligible in a long job. The plan is computed from `steady`; prices and
machines are assumptions, set by options and stored in the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.corpus.plan import markdown
from bench.peers import hardware
from w2v_edge import data
from w2v_edge.bundle import Bundle
from w2v_edge.corpus import CorpusOptions, encode_corpus
from w2v_edge.corpus.job import LARGEST_SHARD
from w2v_edge.latency.report.files import write
from w2v_edge.providers.machine import usable_cores

RATE = 16_000
SHARDS = 16
"""For each worker: its last one is then little of the whole."""

Case = dict[str, Any]


def main() -> None:
    """Measure, and write the results and the plan."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--minutes", type=float, default=20.0, help="minutes of audio")
    parser.add_argument("--utterance", type=float, default=10.0, help="seconds per file")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hours", type=float, default=1e6, help="hours of audio in the plan")
    parser.add_argument("--cores", type=int, default=1000, help="cores of the plan's machines")
    parser.add_argument(
        "--core-price", type=float, default=0.04, help="assumed price of a core hour"
    )
    parser.add_argument(
        "--gb-price", type=float, default=0.02, help="assumed price of a GB and month"
    )
    parser.add_argument("--spare", type=float, default=0.1, help="assumed fraction of time lost")
    given = parser.parse_args()
    results = measure(given.bundle, given.minutes, given.utterance, given.turns)
    assumed = ("hours", "cores", "core_price", "gb_price", "spare")
    results["assumed"] = {name: getattr(given, name) for name in assumed}
    write(given.json, json.dumps(results, indent=1, allow_nan=False) + "\n")
    write(given.json.with_suffix(".md"), markdown(results))


def measure(bundle: Path, minutes: float, utterance: float, turns: int) -> dict[str, Any]:
    """Encode a corpus with each number of workers, engine and kind of output, alternating."""
    described = hardware.describe()
    manifest = Bundle.open(bundle).manifest
    with tempfile.TemporaryDirectory() as folder:
        files = _corpus(Path(folder) / "corpus", round(minutes * 60 / utterance), utterance)
        cases = list(_cases())
        runs: list[list[dict[str, float]]] = [[] for _ in cases]
        for turn in range(turns):
            for case, taken in zip(cases, runs, strict=True):
                output = Path(folder) / f"out-{turn}-{len(taken)}-{cases.index(case)}"
                taken.append(_run(bundle, files, output, case))
        size = _size(files)
        shards = {
            outputs: _shards_bytes(bundle, files, Path(folder) / outputs)
            for outputs in sorted({case["outputs"] for case in cases})
        }
    medians = [
        {name: statistics.median(run[name] for run in taken) for name in taken[0]} for taken in runs
    ]
    return {
        "hardware": described,
        "load_after": hardware.load(),
        "bundle": {"folder": bundle.name, "precision": manifest.precision},
        "metric": "seconds of audio encoded per second of wall time",
        "audio": {
            "minutes": minutes,
            "utterance_s": utterance,
            "bytes_per_hour": size * 60 / minutes,
        },
        "shards_bytes_per_hour": {name: x * 60 / minutes for name, x in shards.items()},
        "usable_cores": usable_cores(),
        "cases": [
            {**case, **median, "runs": taken}
            for case, median, taken in zip(cases, medians, runs, strict=True)
        ],
    }


def _cases() -> Iterator[Case]:
    """Codes at every number of cores on both engines; with the transformer at all of them."""
    cores = usable_cores()
    counts = sorted({cores, *(2**i for i in range(cores.bit_length()))})
    for engine in ("local", "ray"):
        for workers in counts:
            yield {"engine": engine, "workers": workers, "outputs": "codes"}
    yield {"engine": "local", "workers": cores, "outputs": "codes, pooled context"}


def _corpus(folder: Path, files: int, seconds: float) -> Path:
    """Write FLAC files of speech, all different."""
    import soundfile

    folder.mkdir()
    speech = np.concatenate(list(data.clips(RATE).values()))
    random = np.random.default_rng(1)
    samples = round(seconds * RATE)
    for i in range(files):
        start = int(random.integers(len(speech)))
        clip = np.take(speech, range(start, start + samples), mode="wrap")
        soundfile.write(folder / f"{i:06}.flac", clip, RATE)
    return folder


def _run(bundle: Path, files: Path, output: Path, case: Case) -> dict[str, float]:
    """Encode once; return rates in seconds of audio per second, and the start-up time."""
    done: list[tuple[float, int]] = []
    begin = time.perf_counter()
    report = encode_corpus(
        bundle,
        [files],
        output,
        engine=case["engine"],
        options=_options(case["outputs"]),
        workers=case["workers"],
        shard_size=max(1, len(list(files.iterdir())) // (SHARDS * case["workers"])),
        show=lambda count, _: done.append((time.perf_counter(), count)),
    )
    end = time.perf_counter()
    if report.failed or report.lost:
        raise SystemExit(
            f"found {report.failed} failed files and {report.lost} lost, expected none"
        )
    # The first call reports no shard.
    first, count = done[1]
    steady = report.seconds * (report.shards - count) / report.shards / (done[-1][0] - first)
    return {"whole": report.seconds / (end - begin), "steady": steady, "start_s": first - begin}


def _shards_bytes(bundle: Path, files: Path, output: Path) -> int:
    """Return the size of shards of the default number of files; small ones are mostly headers."""
    options = _options(output.name)
    encode_corpus(bundle, [files], output, options=options, shard_size=LARGEST_SHARD)
    return _size(output)


def _options(outputs: str) -> CorpusOptions:
    return CorpusOptions(pooled="pooled" in outputs)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
