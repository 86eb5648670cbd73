"""Runs that are interrupted, compared, or made by several processes."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from w2v_edge.model import load_checkpoint
from w2v_edge.training.metrics import read_log
from w2v_edge.training.recipe import Callbacks

ROOT = Path(__file__).parents[2]


def interrupt_at(*updates: int) -> Callbacks:
    """Interrupt a run after each of these updates, once, before it is saved."""
    left = list(updates)

    def show(activity: str, fraction: float) -> None:  # noqa: ARG001
        if left and activity.startswith(f"update {left[0]} "):
            left.pop(0)
            raise KeyboardInterrupt

    return Callbacks(show=show)


def assert_same_run(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Compare the metrics and the weights of two runs."""
    logs = [read_log(path / "log.jsonl") for path in (one, other)]
    assert len(logs[0]) == len(logs[1]) > 0
    for a, b in zip(*logs, strict=True):
        a.pop("seconds_per_second", 0), b.pop("seconds_per_second", 0)
        assert b == pytest.approx(a, abs=10 * tolerance, rel=tolerance)
    weights = [load_checkpoint(path / "model.pt").state_dict() for path in (one, other)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=tolerance, rtol=1e-5, msg=name)


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    code: int
    out: str
    err: str


def start_processes(
    arguments: Sequence[str | Path], world_size: int, *, max_file_bytes: int | None = None
) -> list[subprocess.Popen[str]]:
    """Start `w2v-edge` in processes that train together, with the environment of torchrun."""

    def limit() -> None:
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    started = []
    for rank in range(world_size):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} | group if world_size > 1 else {}
        environment = os.environ | own | {"OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "export")])
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "w2v_edge", *map(str, arguments)],
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=limit,  # noqa: PLW1509 - the test has no threads
            )
        )
    return started


def run_processes(arguments: Sequence[str | Path], world_size: int, **options: Any) -> list[Ended]:
    """Run `w2v-edge` in processes that train together, to the end."""
    started = start_processes(arguments, world_size, **options)
    try:
        ended = [process.communicate(timeout=60) for process in started]
    finally:
        for process in started:
            process.kill()
    return [Ended(x.returncode, *texts) for x, texts in zip(started, ended, strict=True)]
