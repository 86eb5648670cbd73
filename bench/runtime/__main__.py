"""Cost and accuracy of windows and streams, against whole-recording results.

    python -m bench.runtime BUNDLE [--audio DIR] [--only chunks windows ...]

Speech is that of `--audio`, a folder of recordings, or the clips that ship with the package, end to
end. Streaming runs in real time, ten minutes by default. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import w2v_edge
from bench.peers.hardware import describe
from bench.peers.speech import RATE, speech
from bench.runtime import chunks, memory, statistics, streaming, windows
from bench.runtime.tables import markdown
from w2v_edge.audio import find_audio, read_audio

RESULTS = Path(__file__).parents[1] / "results"
PARTS = ("chunks", "windows", "statistics", "memory", "streaming")


def main() -> None:
    """Measure, and write JSON and Markdown."""
    options = _options()
    model = w2v_edge.load(options.bundle, threads=options.threads)
    manifest = model.manifest
    results: dict[str, Any] = {
        "hardware": describe(),
        "bundle": f"{manifest.config['architecture']} {manifest.source.name}, {manifest.precision}",
        "threads": model.threads,
        "audio": "recordings of a folder" if options.audio else "the package's clips, end to end",
    }
    path = options.output / f"runtime-{options.name or manifest.precision}"
    if path.with_suffix(".json").exists():
        kept = json.loads(path.with_suffix(".json").read_text())
        results = {x: kept[x] for x in PARTS if x in kept} | results
    for part in options.only:
        print(part, flush=True)
        if part == "chunks":
            results[part] = chunks.measure(model, _speech(options.audio, 60))
        elif part == "windows":
            results[part] = windows.measure(model, _speech(options.audio, 120))
        elif part == "statistics":
            results[part] = statistics.measure(model, _recordings(options.audio))
        elif part == "memory":
            results[part] = memory.measure(options.bundle, options.threads)
        else:
            audio = _speech(options.audio, options.seconds)
            results[part] = streaming.measure(model, audio, wait=not options.fast)
        path.with_suffix(".json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        path.with_suffix(".md").write_text(markdown(results))
    print(markdown(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundle", type=Path)
    add("--audio", type=Path, help="folder of recordings")
    add("--threads", type=int, default=2)
    add("--only", nargs="+", choices=PARTS, default=list(PARTS))
    add("--seconds", type=float, default=600, help="seconds of streamed audio (default: 600)")
    add("--fast", action="store_true", help="stream as fast as possible, not in real time")
    add("--name", help="name of the results (default: the bundle's precision)")
    add("--output", type=Path, default=RESULTS, help="folder for results")
    return parser.parse_args()


def _recordings(folder: Path | None) -> list[npt.NDArray[np.float32]]:
    """Return recordings of 3 s or more, each by one speaker."""
    if folder is None:
        from w2v_edge import data

        return list(data.clips(RATE).values())
    files = [file for file, _ in find_audio([folder])][:60]
    waveforms = [read_audio(file, RATE) for file in files]
    return [x for x in waveforms if len(x) >= 3 * RATE]


def _speech(folder: Path | None, seconds: float) -> npt.NDArray[np.float32]:
    if folder is None:
        return speech(seconds)
    found, samples = [], 0
    for file, _ in find_audio([folder]):
        found.append(read_audio(file, RATE))
        samples += len(found[-1])
        if samples >= seconds * RATE:
            break
    return np.resize(np.concatenate(found), int(seconds * RATE))


if __name__ == "__main__":
    main()
