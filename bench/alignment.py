"""Forced alignment: time and memory of an hour, beside torchaudio, and cost of a pair in a list.

    python -m bench.alignment [BUNDLE --pairs 20000] [-o FILE.json]

- An hour, 180 000 frames and 50 000 labels, in a process of its own: CPU time of one thread, and
  the peak of resident memory less what is resident before, the logits included.
- Shorter recordings, for which torchaudio's matrix fits into memory: ratio of the CPU times of
  `align_labels` and `torchaudio.functional.forced_align`, interleaved; the paths are compared. Left
  out where torchaudio is not installed.
- With BUNDLE, a small CTC model: a manifest of short recordings and texts through `w2v-edge align
  --ctm`, one in a hundred unusable: milliseconds for a pair, those of the model alone, and resident
  memory after each tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from bench.peers import hardware
from w2v_edge.text.alignment import align_labels
from w2v_edge.text.spelling import log_softmax

LABELS = 32
HOUR = (180_000, 50_000)
SHORTER = ((500, 150), (1_500, 400), (15_000, 4_000))
"""Frames and labels: 10 s, 30 s and five minutes."""

ROUNDS = 5
BAD = 100
"""One pair in so many is unusable."""


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.alignment", description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    # NumPy alone uses one thread here; torch takes as many as it is given.
    os.environ["OMP_NUM_THREADS"] = "1"
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(1, maxtasksperchild=1) as pool:
        result = {
            "hardware": hardware.describe(),
            "hour": [pool.apply(measure_hour, (peaked,)) for peaked in (False, True)],
            "torchaudio": pool.apply(compare),
        }
        if given.bundle is not None:
            result["pairs"] = pool.apply(measure_pairs, (given.bundle, given.pairs))
    print(json.dumps({key: x for key, x in result.items() if key != "hardware"}, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def posteriors(
    frames: int, length: int, *, peaked: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return logits (frames, labels) and a text: noise, or peaks where the text is spoken."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((frames, LABELS), np.float32)
    text = rng.integers(1, LABELS, length)
    if peaked:
        at = np.sort(rng.choice(frames // 2, length, replace=False)) * 2
        logits[:, 0] += 8
        logits[at, text] += 16
    return logits, text


def measure_hour(peaked: bool) -> dict[str, Any]:
    """Align an hour."""
    logits, text = posteriors(*HOUR, peaked=peaked)
    align_labels(logits[:2000], text[:200], 0)
    before, begin = hardware.resident("VmRSS"), time.process_time()
    align_labels(logits, text, 0)
    seconds = time.process_time() - begin
    return {
        "posteriors": "peaked" if peaked else "noise",
        "frames": len(logits),
        "labels": len(text),
        "cpu_seconds": round(seconds, 1),
        "peak_mb_beyond_logits": round(hardware.resident("VmHWM") - before, 1),
    }


def compare() -> list[dict[str, Any]] | str:
    """Align shorter recordings with torchaudio as well."""
    try:
        import torch
        from torchaudio.functional import forced_align
    except (ImportError, OSError) as error:
        return f"not compared: {error}"
    torch.set_num_threads(1)
    rows = []
    for frames, length in SHORTER:
        for peaked in (False, True):
            logits, text = posteriors(frames, length, peaked=peaked)
            scores = torch.from_numpy(log_softmax(logits.astype(np.float64)))[None]
            targets = torch.from_numpy(text)[None]
            found = align_labels(logits.astype(np.float64), text, 0)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                begin = time.process_time()
                align_labels(logits, text, 0)
                middle = time.process_time()
                path, _ = forced_align(scores, targets, blank=0)
                ours.append(middle - begin)
                theirs.append(time.process_time() - middle)
            expected = np.zeros(frames, np.intp)
            for label, first, end in zip(text, found.first, found.end, strict=True):
                expected[first:end] = label
            row = {
                "posteriors": "peaked" if peaked else "noise",
                "frames": frames,
                "labels": length,
                "paths_equal": bool((path[0].numpy() == expected).all()),
                "ms": round(1000 * statistics.median(ours), 1),
                "torchaudio_ms": round(1000 * statistics.median(theirs), 1),
            }
            rows.append(row)
    return rows


def measure_pairs(bundle: Path, pairs: int) -> dict[str, Any]:
    """Align a manifest of recordings of 0.2 to 0.5 s."""
    import soundfile

    import w2v_edge
    from w2v_edge.cli.group import run

    model = w2v_edge.load(bundle, threads=1)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(x).astype(np.float32) / 9 for x in rng.integers(3200, 8000, 50)]
    begin = time.perf_counter()
    for clip in clips:
        model.encode(clip)
    alone = (time.perf_counter() - begin) / len(clips)
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, clip in enumerate(clips):
            soundfile.write(folder / f"{i}.wav", clip, 16_000, subtype="FLOAT")
        rows = [f"{i % len(clips)}.wav\t{'' if i % BAD == 1 else 'OH NO'}" for i in range(pairs)]
        manifest = folder / "pairs.tsv"
        manifest.write_text("path\ttext\n" + "\n".join(rows) + "\n")
        align, done = w2v_edge.Model.align, 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done % (pairs // 10) == 0:
                memory.append(round(hardware.resident("VmRSS"), 1))
            return align(*arguments, **options)

        options = ("--ctm", "-o", str(folder / "out"), "--threads", "1")
        with patch.object(w2v_edge.Model, "align", counted), Path(os.devnull).open("w") as nothing:
            begin = time.perf_counter()
            with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
                run(["align", str(bundle), str(manifest), *options])
            seconds = time.perf_counter() - begin
        written = len(list((folder / "out").rglob("*.ctm")))
    return {
        "pairs": pairs,
        "written": written,
        "ms_a_pair": round(1000 * seconds / pairs, 2),
        "ms_of_the_model_alone": round(1000 * alone, 2),
        "resident_mb_after_each_tenth": memory,
    }


if __name__ == "__main__":
    main()
