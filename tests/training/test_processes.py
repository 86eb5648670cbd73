"""Processes that train together: what they learn is what one would have."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from w2v_edge import data
from w2v_edge.model import load_checkpoint
from w2v_edge.training.metrics import read_log

ROOT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def train_processes(
    processes: int,
    output: Path,
    init: Path,
    accumulate: int,
    sources: str = str(data.FOLDER),
    program: str = "tests.training.ddp",
) -> list[dict[str, float]]:
    """Train with so many processes, each told what torchrun tells."""
    port = _free_port()
    arguments = [sources, str(output), str(init), "3", str(accumulate)]
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    started = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} | several if processes > 1 else {}
        environment = os.environ | own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", program, *arguments],
                cwd=ROOT,
                env=environment,
                stderr=subprocess.PIPE,
            )
        )
    said = [process.communicate(timeout=240)[1].decode()[-2000:] for process in started]
    assert [process.returncode for process in started] == [0] * processes, said
    return read_log(output / "log.jsonl")


@pytest.mark.parametrize(
    ("name", "accumulate"), [("base-small", 1), ("large-small", 2), ("tutorial-small", 1)]
)
def test_two_processes_learn_what_one_does(
    name: str, accumulate: int, initial: Callable[..., Path], tmp_path: Path
) -> None:
    """Losses, figures and weights, with distractors of the utterance and of the whole batch."""
    off = {} if name == "tutorial-small" else {"dropout": 0.0, "layer_drop": 0.0}
    init = initial(name, **off)
    logs = [train_processes(n, tmp_path / str(n), init, accumulate) for n in (1, 2)]
    assert len(logs[0]) == len(logs[1]) >= 5
    for one, two in zip(*logs, strict=True):
        one.pop("seconds_per_second", 0), two.pop("seconds_per_second", 0)
        assert two == pytest.approx(one, abs=1e-5, rel=1e-5)
    models = [load_checkpoint(tmp_path / str(n) / "model.pt").state_dict() for n in (1, 2)]
    for key, tensor in models[0].items():
        torch.testing.assert_close(models[1][key], tensor, atol=1e-5, rtol=1e-5, msg=key)
