"""Runs that are interrupted, compared, or made by several processes."""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import sys
import tempfile
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


class Started:
    """A process that runs `w2v-edge`.

    It is forked from a server that has imported PyTorch, since importing it takes longer than what
    most of these tests train.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], limit: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.files = [Path(self.folder.name) / name for name in ("out", "err")]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        given = (arguments, environment, *map(str, self.files), limit)
        self.process = context.Process(target=_work, args=given)
        self.process.start()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self) -> Ended:
        """Return what it left; after a minute it is killed."""
        self.process.join(timeout=60)
        self.process.kill()
        self.process.join()
        texts = [x.read_text() if x.exists() else "" for x in self.files]
        self.folder.cleanup()
        assert self.process.exitcode is not None
        return Ended(self.process.exitcode, *texts)


PRELOAD = [
    *("torch._dynamo", "torch.distributed", "torch.utils.tensorboard", "accelerate", "webdataset"),
    *("w2v_edge.cli.pretrain", "w2v_edge.cli.finetune", "w2v_edge.training.pretrain"),
    *("w2v_edge.training.finetune", "w2v_edge.training.shards", "tests.training.helpers"),
]


def _work(
    arguments: Sequence[str], environment: dict[str, str], out: str, err: str, limit: int
) -> None:
    """Run `w2v-edge` in this process, with its output in files."""
    from w2v_edge.cli.group import run

    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.exit(run(list(arguments)))


def start_processes(
    arguments: Sequence[str | Path], world_size: int, *, max_file_bytes: int = 0
) -> list[Started]:
    """Start `w2v-edge` in processes that train together, with the environment of torchrun."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    started = []
    for rank in range(world_size):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} | group if world_size > 1 else {}
        environment = os.environ | own | {"OMP_NUM_THREADS": "1"}
        started.append(Started([*map(str, arguments)], environment, max_file_bytes))
    return started


def run_processes(arguments: Sequence[str | Path], world_size: int, **options: Any) -> list[Ended]:
    """Run `w2v-edge` in processes that train together, to the end."""
    return [x.wait() for x in start_processes(arguments, world_size, **options)]
