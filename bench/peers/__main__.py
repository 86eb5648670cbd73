"""Bundles against PyTorch, other exports, quantize_dynamic, OpenVINO, CTranslate2, ExecuTorch.

    python -m bench.peers [--preset base] [--threads 2] [--only 10] [--workdir DIR]

All sides have the same random weights and run on the same real speech. Latency is the wall time of
one utterance, batch 1, all sides interleaved in one process; a ratio is another side's median over
a bundle's. First results, memory and profiles are measured in separate processes. Run it from the
repository's root.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

from bench.peers.fresh import JOB, work

RESULTS = Path(__file__).parents[1] / "results"
LENGTHS = (1, 3, 10, 30, 60)


def main() -> None:
    """Measure and write everything, or do one job of a fresh process."""
    _silence()
    if sys.argv[1:2] == [JOB]:
        work(sys.argv[2])
        return
    from bench.peers.measure import Comparison
    from bench.report import refresh

    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        # A cache of an earlier run would hide compile times.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/inductor"
        options.workdir = options.workdir or Path(folder)
        Comparison(options).run()
    refresh(options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", default="base", help="tiny, base or large (default: base)")
    add("--threads", type=int, default=2, help="threads of every side (default: 2)")
    add("--rounds", type=int, help="rounds after warm-up (default: 15; 7 at 30 s, 5 at 60 s)")
    add("--warm-up", type=int, help="warm-up rounds (default: 8; 3 at 30 s and 60 s)")
    add("--pause", type=float, default=0.03, help="seconds after each run (default: 0.03)")
    add(
        "--only",
        type=int,
        nargs="+",
        default=list(LENGTHS),
        metavar="SECONDS",
        help=f"lengths of audio (default: {' '.join(map(str, LENGTHS))})",
    )
    add("--skip", action="append", default=[], metavar="NAME", help="side to skip; may be repeated")
    add("--workdir", type=Path, help="folder that caches exported files")
    add("--output", type=Path, default=RESULTS, help="folder for results")
    add("--latency-only", action="store_true", help="measure latency only")
    options = parser.parse_args()
    options.workdir = options.workdir and options.workdir.resolve()
    return options


def _silence() -> None:
    """Silence exporters and runtimes."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
