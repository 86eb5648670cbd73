"""Training: updates in bf16, and two processes that train as one."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bench.gpu.runner import PASSED
from bench.gpu.setup import Setup
from w2v_edge import data
from w2v_edge.model import load_checkpoint
from w2v_edge.training.metrics import read_log
from w2v_edge.training.pretrain import pretrain
from w2v_edge.training.recipe import LoopOptions

UPDATES = 2
RECIPE = {"updates": UPDATES, "accumulate": 1, "learning_rate": 1e-4, "min_seconds": 0.3}
OPTIONS = LoopOptions(log_every=1, save_every=UPDATES)

LOSS_TOLERANCE = 1e-3
"""Largest relative difference of a loss between one process and two, in float32."""


def bf16_update(setup: Setup) -> dict[str, Any]:
    """Make two updates in bf16 on the shipped recordings."""
    with tempfile.TemporaryDirectory() as folder:
        trained = _pretrain(setup, Path(folder) / "run", "bf16")
        log = read_log(Path(folder) / "run/log.jsonl")
    found: dict[str, Any] = {PASSED: trained.finished, "log": log}
    if setup.device == "cuda":
        found["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return found


def two_processes(setup: Setup) -> dict[str, Any]:
    """Make the same updates in one process and in two; compare losses and weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for world_size in (1, 2):
            _start(setup, folder / str(world_size), world_size)
        logs = [read_log(folder / x / "log.jsonl") for x in ("1", "2")]
        one, two = (load_checkpoint(folder / x / "model.pt").state_dict() for x in ("1", "2"))
    losses = [[line["loss"] for line in log if "loss" in line] for log in logs]
    worst = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    return {
        PASSED: worst <= LOSS_TOLERANCE,
        "losses": {"one process": losses[0], "two processes": losses[1]},
        "largest difference of a weight": max(
            float((one[name].double() - two[name].double()).abs().max()) for name in one
        ),
    }


def _start(setup: Setup, output: Path, world_size: int) -> None:
    """Train in forked processes, with the environment of torchrun.

    Raises:
        RuntimeError: one failed; its message is on stderr.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    context = multiprocessing.get_context("fork")
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world_size)}
    ranks = [
        context.Process(target=_rank, args=(setup, output, group, rank))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    if any(process.exitcode for process in ranks):
        codes = ", ".join(str(process.exitcode) for process in ranks)
        raise RuntimeError(f"{world_size} processes ended with exit codes {codes}")


def _rank(setup: Setup, output: Path, group: dict[str, str], rank: int) -> None:
    alone = group["WORLD_SIZE"] == "1"
    if not alone:
        os.environ.update(group, RANK=str(rank), LOCAL_RANK=str(rank))
    if not alone and setup.device == "cuda" and torch.cuda.device_count() == 1:
        # NCCL refuses two processes on one GPU; gloo takes them.
        dist.init_process_group("gloo")
    _pretrain(setup, output, "fp32")
    if dist.is_initialized():
        dist.destroy_process_group()


def _pretrain(setup: Setup, output: Path, precision: str) -> Any:
    crop = 1.0 if setup.device == "cpu" else 10.0
    return pretrain(
        [data.FOLDER],
        output,
        init=setup.shop.checkpoint(),
        overrides={
            **RECIPE,
            "precision": precision,
            "crop_seconds": crop,
            "batch_seconds": 4 * crop,
            "validation_fraction": 0.0,
        },
        cpu=setup.device == "cpu",
        options=OPTIONS,
    )
