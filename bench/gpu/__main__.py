"""Measurements on an NVIDIA GPU; bench/gpu/run.sh installs what they need, and runs them.

    python -m bench.gpu [--only STEP] [--minutes 6] [-o FOLDER]
    python -m bench.gpu --dry-run

Each step has a process and a time limit of its own, and writes `gpu-STEP.json`. With `--dry-run` a
small model runs on the CPU, which tries the steps themselves and measures nothing.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

from bench.gpu import graphs, latency, setup, training
from bench.gpu.runner import Step, run_step, run_steps
from bench.gpu.setup import Setup
from bench.peers.sides import Device
from w2v_edge.errors import W2VEdgeError
from w2v_edge.providers import choose

RESULTS = Path(__file__).parents[1] / "results"
DRY_RESULTS = Path("build/gpu-dry-run")

LIMITS = {
    "files": 150,
    "parity": 60,
    "placement": 60,
    "binding": 60,
    "buckets": 60,
    "cuda-graphs": 90,
    "latency": 60,
    "bf16-update": 60,
    "two-processes": 90,
    "compiled": 240,
}
"""Seconds of each step at most, in the order in which they run."""


def main() -> None:
    """Run the steps; the exit code is 1 if one of them failed."""
    given = _options()
    _silence()
    device: Device = "cpu" if given.dry_run else "cuda"
    try:
        choose(device, None, allow_fallback=False)
    except W2VEdgeError as error:
        sys.exit(f"error: {error}")
    preset = "tiny" if given.dry_run else "base"
    output = given.output or (DRY_RESULTS if given.dry_run else RESULTS)
    with tempfile.TemporaryDirectory() as folder:
        shared = Setup.of(device, preset, given.workdir or Path(folder))
        steps = [
            x
            for x in _steps(shared)
            if x.name in (given.only or LIMITS) and x.name not in given.skip
        ]
        about = run_step(Step("machine", partial(setup.describe, shared), 60), 60)
        passed = run_steps(steps, 60 * given.minutes, output, about.get("found", about))
    print(f"written to {output}")
    sys.exit(0 if passed else 1)


def _steps(shared: Setup) -> list[Step]:
    works = {
        "files": partial(setup.make_files, shared),
        "latency": partial(latency.eager, shared),
        "compiled": partial(latency.compiled, shared),
        "bf16-update": partial(training.bf16_update, shared),
        "two-processes": partial(training.two_processes, shared),
    }
    for name, measure in (
        ("parity", graphs.parity),
        ("placement", graphs.placement),
        ("binding", graphs.binding),
        ("buckets", graphs.buckets),
        ("cuda-graphs", graphs.cuda_graphs),
    ):
        works[name] = partial(graphs.of_each, measure, shared)
    return [Step(name, works[name], limit) for name, limit in LIMITS.items()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dry-run", action="store_true", help="run a small model on the CPU")
    add("--only", nargs="+", choices=LIMITS, metavar="STEP", help=f"of: {', '.join(LIMITS)}")
    add("--skip", nargs="+", choices=LIMITS, metavar="STEP", default=[], help="likewise")
    add("--minutes", type=float, default=6, help="for all steps together (default: 6)")
    add("--workdir", type=Path, help="folder that keeps checkpoint and bundles")
    add("-o", "--output", type=Path, help="folder for the results (default: bench/results)")
    return parser.parse_args()


def _silence() -> None:
    """Silence libraries; no step may reach a network."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
